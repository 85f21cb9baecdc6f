"""Arrays that come in parts, in memory or, if they are large, in a file."""

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from sklearn.utils import gen_batches

from sklgm.utils.files import WritingInterval, replacing

# Bytes of the largest array that is kept in memory.
_MOST_IN_MEMORY = 2**25


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether a float32 array of this shape has more than 32 MiB."""
    return _n_bytes(shape) > _MOST_IN_MEMORY


def gather(
    parts: Callable[[int], Iterable[np.ndarray]], shape: tuple[int, ...], path: Path | None = None
) -> np.ndarray:
    """Return parts, one after the other, as one float32 array.

    Above 32 MiB it lies in a temporary file without a name, which is gone with the array, or with
    the process, however that ends. Where the disk has too little room, an OSError says so before
    any part is asked for.

    Parameters
    ----------
    parts : callable
        Takes the number of a row, and returns the parts along the first axis from there on.
    shape : tuple of int
        Shape of the whole.
    path : Path, optional
        A file in the format of `numpy.save`, which is read if it is there, and made if not, however
        small. Until it is complete the parts are in a file beside it, from which the next call
        goes on. To write to the array does not change it.
    """
    if path is not None:
        if not path.exists():
            _write(parts, shape, path)
        return np.load(path, mmap_mode="c")
    if is_large(shape):
        _check_room(Path(tempfile.gettempdir()), shape)
        with tempfile.TemporaryFile() as file:
            file.truncate(_n_bytes(shape))
            _reserve(file.fileno(), _n_bytes(shape))
            buffer = mmap.mmap(file.fileno(), _n_bytes(shape))
        whole = np.ndarray(shape, np.float32, buffer=buffer)
    else:
        whole = np.empty(shape, dtype=np.float32)
    start = 0
    for part in parts(0):
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def float64_parts(features: np.ndarray, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of ``rows``, a thousand at a time, with the features of these rows in float64.

    The features (n, d) may lie in a file, and those of a class in float64 may not fit into memory.
    """
    for part in gen_batches(len(rows), 1024):
        yield part, features[rows[part]].astype(np.float64)


def _write(
    parts: Callable[[int], Iterable[np.ndarray]], shape: tuple[int, ...], path: Path
) -> None:
    """Write parts to a file, or those that an earlier call has not written."""
    # Two processes that write the same at the same time write the same values.
    partial, counted = path.with_suffix(".partial"), path.with_suffix(".rows")
    if partial.exists() and counted.exists():
        whole, start = open_memmap(partial, "r+"), int(counted.read_text())
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path.parent, shape)
        whole, start = open_memmap(partial, "w+", np.float32, shape), 0
        with partial.open("rb+") as file:
            _reserve(file.fileno(), partial.stat().st_size)
    interval = WritingInterval()
    for part in parts(start):
        whole[start : start + len(part)] = part
        start += len(part)
        if interval.is_over():
            with interval.writing(), replacing(counted) as file:
                whole.flush()
                file.write_text(str(start))
    whole.flush()
    del whole  # Windows renames no file that is mapped
    partial.replace(path)
    counted.unlink(missing_ok=True)


def _n_bytes(shape: tuple[int, ...]) -> int:
    return math.prod(shape) * np.dtype(np.float32).itemsize


def _check_room(folder: Path, shape: tuple[int, ...]) -> None:
    size, free = _n_bytes(shape), shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"Features of {shape[0]} samples take {size / 2**30:.1f} GiB in a file, and {folder} "
            f"has {free / 2**30:.1f} GiB left. Make room there, set the environment variable "
            f"TMPDIR, or memory= with an integer random_state, to a folder on another disk, or "
            f"use fewer samples or views."
        )


def _reserve(descriptor: int, size: int) -> None:
    """Take the room of a file now: a full disk would end the process when it is written to."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
