"""What ``sklgm demo`` runs: it distils images, compares with real ones, and draws."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from sklearn.callback import ProgressBar
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from sklgm import FrozenBackboneProbe, NearestImages, PrototypeSet, StandardAugmentation
from sklgm.cli.output import console, give, rich_table
from sklgm.datasets import load_digits, load_openmoji
from sklgm.evaluation import SelectionComparison, compare_selections, default_selections
from sklgm.plotting import EmbeddingDisplay, PrototypesDisplay
from sklgm.prototypes.folder import check_target

_NET: dict[str, Any] = {"backbone": "efficientnet_lite0", "image_size": 56, "n_jobs": -1}
# A mirrored digit is no digit, and a part of one may be another.
_AUGMENTATION = {"openmoji": "standard", "digits": StandardAugmentation(scale=(0.6, 1), flip=0)}


def run_demo(data: str, out: Path, seed: int) -> None:
    """Run the demo on "openmoji" or "digits"; write pictures and prototypes into a folder."""
    check_target(out / "prototypes", overwrite=True)  # before the work, not after it
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
    selections = default_selections(probe.backbone, probe=probe)
    distiller = selections["distilled"].set_params(random_state=seed)
    distiller.set_callbacks(ProgressBar()).fit(X_train, y_train)
    prototypes = FrozenEstimator(distiller)
    few = {
        "one random image a class": selections["random"],
        "the image nearest to the class mean": selections["centroid"],
        "the image nearest to the prototype": NearestImages(prototypes),
        "one distilled prototype a class": prototypes,
    }
    settings: dict[str, Any] = {"backbone": probe.backbone, "probe": probe}
    Xy = (X_train, y_train, X_test, y_test)
    with console.status("Training probes"):
        compared = compare_selections(*Xy, selections=few, **settings)
        # One probe on all images takes the time of all the others together.
        whole = {"all training images": None}
        reference = compare_selections(*Xy, selections=whole, n_probe_seeds=1, **settings)
    console.print(rich_table(SelectionComparison(compared.records + reference.records)))
    pictures = {
        "prototypes.png": PrototypesDisplay.from_estimator(distiller),
        "embedding.png": EmbeddingDisplay.from_estimator(distiller, X_train, y_train),
    }
    for name, display in pictures.items():
        display.figure_.savefig(out / name, dpi=200)
    PrototypeSet.from_estimator(distiller).save(out / "prototypes", overwrite=True)
    give(False, None, "Saved:", *(escape(f"  {out / name}") for name in (*pictures, "prototypes")))
