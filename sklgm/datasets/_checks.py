"""What loaders of files and labels have in common: the checks, and what they return."""

import os
import shlex
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.utils import Bunch

from sklgm.images import find_damaged
from sklgm.images.decoding import WHITE
from sklgm.images.source import FileSource
from sklgm.utils.targets import check_spelling


def check_names(names: Sequence[str], where: str) -> None:
    """Raise ValueError if names of classes in a folder or file look the same, or are no text."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"The name {os.fsencode(name)!r} in {where!r} is not UTF-8, and cannot be saved "
                f"as the label of a class. Rename the folder, or all of them by: "
                f"convmv -f latin1 -t utf8 -r --notest {shlex.quote(where)}"
            ) from error
    check_spelling(names, names, repr(where))


def find_unreadable(paths: Sequence[str], n_jobs: int | None) -> dict[str, str]:
    """Open files; return what is wrong with each that is missing or no image, by path."""
    source = FileSource(paths, np.arange(len(paths)), WHITE)
    damaged = find_damaged(source, n_jobs=n_jobs)
    return {paths[place]: reason for place, reason in damaged.items()}


def labelled_files(
    paths: Sequence[str],
    target: Sequence[str],
    left_out: Counter[str],
    where: str,
    on_error: str,
    n_jobs: int | None,
) -> Bunch:
    """Return what a loader returns of files and labels, without those that shall be skipped.

    ``left_out`` counts files that are left out already, by kind, and ``where`` is the folder or
    file that lists them. Labels that look the same or are no text are a ValueError, as is a class
    of which no file can be read.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip'; got {on_error!r}.")
    X, y = np.array(paths, dtype=object), np.array(target)
    names = np.unique(y)
    check_names(names.tolist(), where)
    if on_error == "skip" and (reasons := find_unreadable(paths, n_jobs)):
        some = "; ".join(f"{path}: {reason}" for path, reason in list(reasons.items())[:3])
        told = (
            f"{len(reasons)} of {len(paths)} files of {where!r} cannot be read; `sklgm check` "
            f"lists them. The first: {some}"
        )
        is_read = [path not in reasons for path in paths]
        X, y = X[is_read], y[is_read]
        if lost := np.setdiff1d(names, y).tolist():
            raise ValueError(f"No image of {lost} is left. {told}")
        warnings.warn(f"Damaged files are left out. {told}", stacklevel=3)
        left_out = left_out + Counter(damaged=len(paths) - len(X))
    return Bunch(paths=X, target=y, target_names=names, left_out=dict(left_out))
