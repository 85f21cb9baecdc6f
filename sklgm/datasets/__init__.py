"""Labelled image sets: the user's own, two that need no download, and some to study bias with.

Every loader returns a :class:`sklearn.utils.Bunch`, or ``(X, y)`` with ``return_X_y=True``.
"""

from sklgm.datasets.digits import load_digits
from sklgm.datasets.folder import load_folder
from sklgm.datasets.labelled import LabelledStream, as_X_y
from sklgm.datasets.openmoji import load_openmoji
from sklgm.datasets.spawrious import load_spawrious
from sklgm.datasets.spurious import make_spurious_images
from sklgm.datasets.table import load_csv
from sklgm.datasets.waterbirds import load_waterbirds

__all__ = [
    "LabelledStream",
    "as_X_y",
    "load_csv",
    "load_digits",
    "load_folder",
    "load_openmoji",
    "load_spawrious",
    "load_waterbirds",
    "make_spurious_images",
]
