"""What ``sklgm demo`` runs: distil, compare with real images, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    RandomImages,
    StandardAugmentation,
)
from sklgm.datasets import load_digits, load_openmoji
from sklgm.plotting import EmbeddingDisplay, PrototypesDisplay

_NET: dict[str, Any] = {"backbone": "efficientnet_lite0", "image_size": 56, "n_jobs": -1}
# A mirrored digit is no digit, and a part of one may be another.
_AUGMENTATION = {"openmoji": "standard", "digits": StandardAugmentation(scale=(0.6, 1), flip=0)}
_SEEDS = range(5)


def run_demo(data: str, out: Path, seed: int, console: Console) -> None:
    """Run the demo.

    Parameters
    ----------
    data : {"openmoji", "digits"}
        Which images.
    out : Path
        Folder for the pictures and the prototypes; made if need be.
    seed : int
        Of the distillation.
    console : rich.console.Console
        Where to report.
    """
    out.mkdir(parents=True, exist_ok=True)
    images: Bunch = load_openmoji() if data == "openmoji" else load_digits()
    names = np.asarray(images.target_names).astype(str)[images.target]
    X_train, X_test, y_train, y_test = train_test_split(
        images.images, names, test_size=1 / 3, stratify=names, random_state=0
    )
    console.print(
        f"{data}: {len(X_train)} training and {len(X_test)} test images of "
        f"{len(np.unique(names))} classes, on {_NET['backbone']} at {_NET['image_size']} pixels."
    )
    augmentation = _AUGMENTATION[data]
    probe = FrozenBackboneProbe(**_NET, augmentation=augmentation)
    distiller = LGMDistiller(**_NET, augmentation=augmentation, random_state=seed)
    distiller.set_callbacks(ProgressBar()).fit(X_train, y_train)
    n = len(distiller.prototypes_)

    table = Table(title="Linear probes, scored on real test images")
    for column in ("trained on", "images", "test accuracy"):
        table.add_column(column, justify="left" if column == "trained on" else "right")

    def add(row: str, n_images: int, scores: list[float]) -> None:
        spread = f" ± {np.std(scores):.2f}" if len(scores) > 1 else ""
        table.add_row(row, str(n_images), f"{np.mean(scores):.2f}{spread}")

    with console.status("Training probes"):
        chosen = [RandomImages(**_NET, random_state=s).fit(X_train, y_train) for s in _SEEDS]
        centroids = ClassCentroids(**_NET).fit(X_train, y_train)
        for row, selections in {
            "one random image a class": chosen,
            "class-centroid image": [centroids],
            "distilled prototype": [distiller],
        }.items():
            add(row, n, _scores(probe, selections, X_test, y_test))
        full = clone(probe).set_params(random_state=0).fit(X_train, y_train)
        add("all training images", len(X_train), [full.score(X_test, y_test)])
    console.print(table)
    console.print(
        f"Mean ± standard deviation over {len(_SEEDS)} seeds of the probe and the choice."
    )

    pictures = {
        "prototypes.png": PrototypesDisplay.from_estimator(distiller),
        "embedding.png": EmbeddingDisplay.from_estimator(distiller, X_train, y_train),
    }
    for name, display in pictures.items():
        display.figure_.savefig(out / name, dpi=200)
    PrototypeSet.from_estimator(distiller).save(out / "prototypes", overwrite=True)
    console.print("Saved:", *(str(out / name) for name in (*pictures, "prototypes")), sep="\n  ")


def _scores(
    probe: FrozenBackboneProbe, selections: list[Any], X: np.ndarray, y: np.ndarray
) -> list[float]:
    """Return the accuracy of a probe for each seed; several selections take a seed each."""
    scores = []
    similarities = [selection.transform(X) for selection in selections]
    for seed in _SEEDS:
        data = similarities[seed % len(similarities)]
        trained = clone(probe).set_params(random_state=seed).fit(data, y)
        scores.append(trained.score(data, y))
    return scores
