"""What ``sklgm demo`` runs: distil, compare with real images, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.callback import ProgressBar
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from sklgm import FrozenBackboneProbe, NearestImages, PrototypeSet, StandardAugmentation
from sklgm.datasets import load_digits, load_openmoji
from sklgm.evaluation import compare_selections, default_selections
from sklgm.plotting import EmbeddingDisplay, PrototypesDisplay

_NET: dict[str, Any] = {"backbone": "efficientnet_lite0", "image_size": 56, "n_jobs": -1}
# A mirrored digit is no digit, and a part of one may be another.
_AUGMENTATION = {"openmoji": "standard", "digits": StandardAugmentation(scale=(0.6, 1), flip=0)}
_ROWS = {
    "random": "one random image a class",
    "centroid": "the image nearest to the class mean",
    "nearest": "the image nearest to the prototype",
    "distilled": "one distilled prototype a class",
    "all": "all training images",
}
_N_SEEDS = 5


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
    probe = FrozenBackboneProbe(**_NET, augmentation=_AUGMENTATION[data])
    selections = default_selections(_NET["backbone"], probe=probe)
    distiller = selections["distilled"].set_params(random_state=seed)
    distiller.set_callbacks(ProgressBar()).fit(X_train, y_train)
    selections["distilled"] = FrozenEstimator(distiller)
    selections["nearest"] = NearestImages(selections["distilled"])

    table = Table(title="Linear probes, scored on real test images")
    for column in ("trained on", "images", "test accuracy"):
        table.add_column(column, justify="left" if column == "trained on" else "right")
    with console.status("Training probes"):
        for name, row in _ROWS.items():
            (mean,) = compare_selections(
                X_train,
                y_train,
                X_test,
                y_test,
                backbone=_NET["backbone"],
                selections={name: selections[name]},
                probe=probe,
                # All images take the time of all other rows together.
                n_probe_seeds=1 if name == "all" else _N_SEEDS,
            ).summary()
            deviation = "" if name == "all" else f" ± {mean['accuracy_std']:.2f}"
            table.add_row(row, str(mean["n_images"]), f"{mean['accuracy']:.2f}{deviation}")
    console.print(table)
    console.print(
        f"Mean ± standard deviation over {_N_SEEDS} seeds of the probe, and of the random choice."
    )

    pictures = {
        "prototypes.png": PrototypesDisplay.from_estimator(distiller),
        "embedding.png": EmbeddingDisplay.from_estimator(distiller, X_train, y_train),
    }
    for name, display in pictures.items():
        display.figure_.savefig(out / name, dpi=200)
    PrototypeSet.from_estimator(distiller).save(out / "prototypes", overwrite=True)
    console.print("Saved:", *(str(out / name) for name in (*pictures, "prototypes")), sep="\n  ")
