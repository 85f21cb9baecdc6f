"""A folder with one subfolder a class, as paths and labels."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch


def load_folder(
    path: str | os.PathLike[str], *, return_X_y: bool = False
) -> Bunch | tuple[NDArray, NDArray]:
    """List the images of a folder whose subfolders are the classes.

    Each class takes in the files of its nested folders. Hidden files and folders are left out, and
    so are files whose extension is of no format that Pillow reads, and PostScript. No file is
    opened.

    Parameters
    ----------
    path : str or Path
        The folder.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of shape (n_samples,), dtype object
            The paths, as str, sorted within each class.
        target : ndarray of shape (n_samples,), dtype str
            The name of each file's subfolder.
        target_names : ndarray of shape (n_classes,), dtype str
            The names of the subfolders, sorted.

    Raises
    ------
    ValueError
        If the folder has no subfolders, or if one of them holds no image.
    OSError
        If there is no such folder.
    """
    root = Path(path)
    classes = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(
            f"{str(root)!r} has no subfolders. Put the images of each class in one with its name."
        )
    readable = {ext for ext, name in Image.registered_extensions().items() if name in Image.OPEN}
    wanted = readable - {".eps", ".ps"}  # programs, which are not run
    paths: list[str] = []
    target: list[str] = []
    for name in classes:
        images = sorted(_images(root / name, wanted))
        if not images:
            raise ValueError(
                f"{str(root / name)!r} holds no image that Pillow reads. Add some or remove it."
            )
        paths += images
        target += [name] * len(images)
    X, y = np.array(paths, dtype=object), np.array(target)
    return (X, y) if return_X_y else Bunch(paths=X, target=y, target_names=np.array(classes))


def _images(folder: Path, wanted: set[str]) -> Iterable[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in files:
            if name[0] != "." and Path(name).suffix.lower() in wanted:
                yield str(Path(parent, name))
