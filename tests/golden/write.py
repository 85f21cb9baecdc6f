"""Write one file of each kind that sklgm reads again, into a folder for its format number.

Run ``python -m tests.golden.write NUMBER`` when a format number has grown, and keep the folders
that are there: they are what older versions wrote.
"""

import sys
from pathlib import Path

import numpy as np

from sklgm import PrototypeSet, RealGradients

ROWS = np.linspace(-1, 1, 60).reshape(15, 4) ** 3
LABELS = np.array(["bird", "cat", "dög"] * 5)


def prototype_sets():
    """Return sets by name: images with strings, rows with numbers."""
    images = np.linspace(0, 1, 2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    provenance = {"estimator": "LGMDistiller", "parameters": {"max_iter": 200, "tol": None}}
    return {
        "images": PrototypeSet(images, ["cat", "../dög"], provenance),
        "rows": PrototypeSet(images.reshape(2, -1) - 0.5, [-3, 2**40]),
    }


def gradients():
    """Return balanced statistics of rows."""
    counts = dict.fromkeys(LABELS.tolist(), 5)
    empty = RealGradients(
        np.unique(LABELS), class_counts=counts, head_pool_size=3, head_seed=7, backbone="tiny"
    )
    return empty.update(ROWS, LABELS)


def write(folder):
    """Write all of it."""
    folder.mkdir()
    for name, prototypes in prototype_sets().items():
        prototypes.save(folder / name)
    gradients().save(folder / "gradients.safetensors")


if __name__ == "__main__":
    write(Path(__file__).parent / sys.argv[1])
