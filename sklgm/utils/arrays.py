"""Arrays that come in parts, in memory or, if they are large, in a file."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from sklgm.utils.files import replacing

# Bytes of the largest array that is kept in memory.
_MOST_IN_MEMORY = 2**28


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether a float32 array of this shape has more than 256 MiB."""
    return _n_bytes(shape) > _MOST_IN_MEMORY


def gather(
    parts: Iterable[np.ndarray], shape: tuple[int, ...], path: Path | None = None
) -> np.ndarray:
    """Return parts, one after the other, as one array; above 256 MiB it lies in a temporary file.

    The temporary file has no name: it is gone with the array, or with the process, however that
    ends. Of what lies in a file the system keeps in memory as much as there is room for.

    Parameters
    ----------
    parts : iterable of ndarray
        Parts along the first axis, of any type.
    shape : tuple of int
        Shape of the whole.
    path : Path, optional
        Of a file in the format of `numpy.save` that is to be kept, however small. It is whole or
        not there at all.

    Returns
    -------
    ndarray of that shape
        float32. To write to it does not change a file that is kept.

    Raises
    ------
    OSError
        If the disk has too little room. No part is asked for then.
    """
    if path is None and not is_large(shape):
        return _fill(np.empty(shape, dtype=np.float32), parts)
    if path is None:
        _check_room(Path(tempfile.gettempdir()), shape)
        with tempfile.TemporaryFile() as file:
            size = _n_bytes(shape)
            file.truncate(size)
            _reserve(file.fileno(), size)
            buffer = mmap.mmap(file.fileno(), size)
        return _fill(np.ndarray(shape, np.float32, buffer=buffer), parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_room(path.parent, shape)
    with replacing(path) as partial:
        whole = open_memmap(partial, "w+", np.float32, shape)
        with partial.open("rb+") as file:
            _reserve(file.fileno(), partial.stat().st_size)
        _fill(whole, parts)
        del whole  # Windows renames no file that is mapped
    return np.load(path, mmap_mode="c")


def _n_bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(np.float32).itemsize


def _fill(whole: np.ndarray, parts: Iterable[np.ndarray]) -> np.ndarray:
    start = 0
    for part in parts:
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _check_room(folder: Path, shape: tuple[int, ...]) -> None:
    size, free = _n_bytes(shape), shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"Features of {shape[0]} samples take {size / 2**30:.1f} GiB in a file, and {folder} "
            f"has {free / 2**30:.1f} GiB left. Make room there, set memory= or the environment "
            f"variable TMPDIR to a folder on another disk, or use fewer samples or views."
        )


def _reserve(descriptor: int, size: int) -> None:
    """Take the room of a file now: a full disk would end the process when it is written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
