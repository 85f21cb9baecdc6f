"""Labelled image sets: the user's folders, and two that need no download.

Every loader returns a :class:`sklearn.utils.Bunch`, or ``(X, y)`` with ``return_X_y=True``.
"""

from sklgm.datasets.digits import load_digits
from sklgm.datasets.folder import load_folder
from sklgm.datasets.openmoji import load_openmoji

__all__ = ["load_digits", "load_folder", "load_openmoji"]
