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
    extensions : iterable of str, default=None
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
        (folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] != "."),
        key=lambda folder: folder.name,
    )
    if not classes:
        raise ValueError(
            f"{str(root)!r} has no subfolders. Put the images of each class in a subfolder of its "
            "own, named after the class."
        )
    wanted = _readable() if extensions is None else _normalised(extensions)
    paths: list[str] = []
    target: list[str] = []
    for folder in classes:
        images = sorted(_images(folder, wanted))
        if not images:
            raise ValueError(
                f"The subfolder {str(folder)!r} holds no image with one of the extensions "
                f"{', '.join(sorted(wanted))}. Add images or remove it."
            )
        paths += images
        target += [folder.name] * len(images)
    X, y = np.array(paths, dtype=object), np.array(target)
    if return_X_y:
        return X, y
    return Bunch(paths=X, target=y, target_names=np.array([folder.name for folder in classes]))


def _images(folder: Path, wanted: set[str]) -> Iterable[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in files:
            if name[0] != "." and Path(name).suffix.lower() in wanted:
                yield str(Path(parent, name))


def _readable() -> set[str]:
    found = {ext for ext, name in Image.registered_extensions().items() if name in Image.OPEN}
    return found - {".eps", ".ps"}  # programs, which are not run


def _normalised(extensions: Iterable[str]) -> set[str]:
    if isinstance(extensions, str):
        extensions = [extensions]
    # Once, since they may be a generator.
    given = list(extensions) if isinstance(extensions, Iterable) else [extensions]
    if not all(isinstance(extension, str) for extension in given):
        raise ValueError(
            f"extensions must be a list such as ['.png', '.jpg'], or None; got {extensions!r}."
        )
    return {"." + extension.lower().lstrip(".") for extension in given}
