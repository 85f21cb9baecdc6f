"""Names that look the same, and files that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sklgm.images import find_damaged
from sklgm.images.decoding import WHITE
from sklgm.images.source import FileSource
from sklgm.utils.targets import check_spelling


def check_names(names: Sequence[str], where: str) -> None:
    """Raise ValueError if there are names of classes that look the same, or are no text.

    Parameters
    ----------
    names : sequence of str
        Names of classes.
    where : str
        The folder or file, for the message.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The name {os.fsencode(name)!r} in {where!r} is not UTF-8, and cannot be saved "
                f"as the label of a class. Rename the folder, or all of them by: "
                f"convmv -f latin1 -t utf8 -r --notest {where}"
            ) from error
    check_spelling(names, names, repr(where))


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
    source = FileSource(paths, np.arange(len(paths)), WHITE)
    damaged = find_damaged(source, n_jobs=n_jobs)
    return {paths[place]: reason for place, reason in damaged.items()}


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
