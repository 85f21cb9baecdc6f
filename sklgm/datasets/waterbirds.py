"""Waterbirds: birds pasted over land and water, as paths and labels."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from sklgm.datasets.table import read_table

_SPLITS = {"train": "0", "val": "1", "test": "2"}


def load_waterbirds(
    root: str | os.PathLike[str], *, subset: str = "train", return_X_y: bool = False
) -> Bunch | tuple[NDArray, NDArray]:
    """List the pictures of Waterbirds in the layout it is published in.

    That is a ``metadata.csv`` with the columns img_id, img_filename, y, split, place and
    place_filename, and the pictures in folders beside it. No picture is opened, and nothing is
    downloaded: Waterbirds [1]_ is linked from https://github.com/kohpangwei/group_DRO as
    ``waterbird_complete95_forest2water2.tar.gz``.

    Parameters
    ----------
    root : str or Path
        The folder of ``metadata.csv``.
    subset : {"train", "val", "test"}, default="train"
        The split: 0, 1 or 2 in the table.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of shape (n_samples,), dtype object
            The paths, as str, in the order of the table.
        target : ndarray of shape (n_samples,), dtype int64
            0 for a landbird, 1 for a waterbird.
        groups : ndarray of shape (n_samples,), dtype int64
            0 over land, 1 over water.
        target_names : ndarray of shape (2,), dtype str
            landbird, waterbird.
        group_names : ndarray of shape (2,), dtype str
            land, water.

    Raises
    ------
    ValueError
        If the table or a picture is missing, or the table is another one.

    References
    ----------
    .. [1] S. Sagawa, P. W. Koh, T. Hashimoto, P. Liang, "Distributionally Robust Neural Networks
       for Group Shifts: On the Importance of Regularization for Worst-Case Generalization",
       ICLR 2020.
    """
    if subset not in tuple(_SPLITS):
        raise ValueError(f"subset must be one of {', '.join(_SPLITS)}; got {subset!r}.")
    folder = Path(root)
    table = folder / "metadata.csv"
    inside = folder.resolve()
    paths: list[str] = []
    labels: list[tuple[int, int]] = []
    for number, row in read_table(table, ("img_filename", "y", "split", "place")):
        if row["split"] != _SPLITS[subset]:
            continue
        # Wherever links lead.
        file = Path(os.path.realpath(folder / row["img_filename"]))
        is_there = inside in file.parents and file.is_file()
        if not is_there or not {row["y"], row["place"]} <= {"0", "1"}:
            raise ValueError(
                f"{str(table)!r}, line {number}: img_filename must name a file in the folder, and "
                f"y and place must be 0 or 1; got {row}."
            )
        paths.append(str(folder / row["img_filename"]))
        labels.append((int(row["y"]), int(row["place"])))
    if not paths:
        raise ValueError(f"{str(table)!r} has no line of split {_SPLITS[subset]} ({subset}).")
    X = np.array(paths, dtype=object)
    target, groups = np.array(labels, dtype=np.int64).T.copy()
    if return_X_y:
        return X, target
    return Bunch(
        paths=X,
        target=target,
        groups=groups,
        target_names=np.array(["landbird", "waterbird"]),
        group_names=np.array(["land", "water"]),
    )
