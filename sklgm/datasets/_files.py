"""Labelled image files, however they are listed, and a description of them that can travel."""

import hashlib
import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.utils import Bunch

from sklgm.datasets.folder import load_folder
from sklgm.datasets.table import load_csv


def load_files(path: Path, *, skip_damaged: bool = False, n_jobs: int | None = None) -> Bunch:
    """Load a folder with a subfolder for each class, or a CSV file of paths and labels.

    To skip what is damaged, each file is opened once, by ``n_jobs`` threads.
    """
    load: Any = load_csv if path.is_file() else load_folder
    return load(path, on_error="skip" if skip_damaged else "raise", n_jobs=n_jobs)


def load_pair(path: Path, skip_damaged: bool, n_jobs: int) -> tuple[NDArray, NDArray]:
    """Return the paths and labels that :func:`load_files` loads."""
    data = load_files(path, skip_damaged=skip_damaged, n_jobs=n_jobs)
    return data.paths, data.target


def describe_files(
    path: Path, data: tuple[NDArray, NDArray], *, license: str | None
) -> dict[str, Any]:
    """Describe paths and labels of a folder or CSV file, so that another copy can be compared.

    ``name`` is that of the folder or file, and ``sha256`` that of the sorted lines "label, tab,
    size in bytes, tab, path from the folder", each ended by a newline. No image is read.
    """
    root = path if path.is_dir() else path.parent
    lines = sorted(
        f"{label}\t{Path(file).stat().st_size}\t{Path(os.path.relpath(file, root)).as_posix()}\n"
        for file, label in zip(*data, strict=True)
    )
    return {
        "name": root.resolve().name if root is path else path.stem,
        "n_images": len(lines),
        "license": license,
        "sha256": hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest(),
    }
