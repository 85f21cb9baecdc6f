"""Labels that look the same, and files that cannot be read."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sklgm.images import find_damaged


def check_labels(labels: Sequence[str], where: str) -> None:
    """Raise ValueError if there are labels that look the same, or are no text.

    Parameters
    ----------
    labels : sequence of str
        Distinct labels.
    where : str
        The folder or file, for the message.
    """
    known: dict[str, str] = {}
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The name {os.fsencode(label)!r} in {where!r} is not UTF-8, and cannot be saved "
                f"as the label of a class. Rename the folder, or all of them by: "
                f"convmv -f latin1 -t utf8 -r --notest {where}"
            ) from error
        other = known.setdefault(unicodedata.normalize("NFC", label).strip(), label)
        if other != label:
            raise ValueError(
                f"The labels {other!a} and {label!a} in {where!r} look the same: they "
                f"differ in Unicode form (NFC or NFD) or in blanks at the ends alone. Make them "
                f"one, such as unicodedata.normalize('NFC', label).strip()."
            )


def find_unreadable(paths: Sequence[str], n_jobs: int | None) -> dict[str, str]:
    """Return what is wrong with each file that is missing or cannot be read as an image.

    Parameters
    ----------
    paths : sequence of str
        The files, all of which are opened.
    n_jobs : int or None
        Threads.

    Returns
    -------
    dict of str to str
        The reason by path.
    """
    there = [path for path in paths if Path(path).is_file()]
    damaged = find_damaged(there, n_jobs=n_jobs) if there else {}
    reasons = {there[place]: reason for place, reason in damaged.items()}
    reasons |= dict.fromkeys(set(paths) - set(there), "there is no such file")
    return {path: reasons[path] for path in paths if path in reasons}


def leave_out_damaged(
    paths: NDArray, target: NDArray, where: str, on_error: str, n_jobs: int | None
) -> tuple[NDArray, NDArray]:
    """Return files that can be read, with their labels, and warn of the others.

    Parameters
    ----------
    paths, target : ndarray of shape (n_samples,)
        Files and labels.
    where : str
        The folder or file that lists them, for the message.
    on_error : {"raise", "skip"}
        "raise" opens no file, and returns all of them.
    n_jobs : int or None
        Threads that open the files.

    Returns
    -------
    paths, target : ndarray of shape (n_readable,)
        Those that are left.

    Raises
    ------
    ValueError
        If no file of a class can be read, or `on_error` is something else.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip'; got {on_error!r}.")
    reasons = {} if on_error == "raise" else find_unreadable(paths.tolist(), n_jobs)
    if not reasons:
        return paths, target
    some = "; ".join(f"{path}: {reason.rstrip('.')}" for path, reason in list(reasons.items())[:3])
    told = (
        f"{len(reasons)} of {len(paths)} files of {where!r} cannot be read: {some}"
        f"{'; and others, which sklgm check lists' if len(reasons) > 3 else ''}."
    )
    keep = np.array([path not in reasons for path in paths])
    if lost := sorted(set(target.tolist()) - set(target[keep].tolist())):
        raise ValueError(f"No image of {lost} is left. {told}")
    warnings.warn(f"Damaged files are left out. {told}", stacklevel=3)
    return paths[keep], target[keep]
