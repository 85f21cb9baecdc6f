"""A folder with one subfolder a class, as paths and labels."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch


def load_folder(
    path: str | os.PathLike[str],
    *,
    extensions: Iterable[str] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray, NDArray]:
    """List the images of a folder whose subfolders are the classes.

    Each class takes in the files of its nested folders. Hidden files and folders are left out, and
    so are files with other extensions. No file is opened.

    Parameters
    ----------
    path : str or Path
        The folder.
    extensions : iterable of str or None, default=None
        Extensions to take, such as ``[".png", ".jpg"]``, in upper or lower case. None takes those
        of every format that Pillow reads, but PostScript.
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
        If there is no such folder, if it has no subfolders, or if one of them holds no image.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{str(root)!r} is not a folder.")
    classes = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(
            f"{str(root)!r} has no subfolders. Put the images of each class in a subfolder of its "
            "own, named after the class."
        )
    if extensions is None:
        readable = {
            ext for ext, name in Image.registered_extensions().items() if name in Image.OPEN
        }
        wanted = readable - {".eps", ".ps"}  # programs, which are not run
    else:
        wanted = {"." + extension.lower().lstrip(".") for extension in extensions}
    paths: list[str] = []
    target: list[str] = []
    for name in classes:
        images = sorted(_images(root / name, wanted))
        if not images:
            raise ValueError(
                f"The subfolder {str(root / name)!r} holds no image with one of the extensions "
                f"{', '.join(sorted(wanted))}. Add images or remove it."
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
