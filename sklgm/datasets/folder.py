"""A folder with one subfolder a class, as paths and labels."""

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Literal

from numpy.typing import NDArray
from sklearn.utils import Bunch

from sklgm.datasets._checks import labelled_files
from sklgm.datasets._listing import describe_left_out, list_images, subfolders
from sklgm.datasets._splits import refuse_splits


def load_folder(
    path: str | os.PathLike[str],
    *,
    return_X_y: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    n_jobs: int | None = None,
) -> Bunch | tuple[NDArray, NDArray]:
    """List the images of a folder whose subfolders are the classes.

    Each class takes in the files of its nested folders, also through links. These are left out:

    - hidden files and folders, folders that systems, file servers and viewers keep (such as
      ``@eaDir``, ``__MACOSX``, ``$RECYCLE.BIN``, and below a class ``thumbs`` and
      ``thumbnails``), and what this package wrote: saved prototypes, the folder of ``--resume``;
    - files of no format that Pillow reads, and PostScript. A warning counts those that people
      call images, such as HEIC without the extra ``heif``, raw photographs, SVG and DICOM.

    Parameters
    ----------
    path : str or Path
        The folder.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.
    on_error : {"raise", "skip"}, default="raise"
        "raise" opens no file: a damaged one is an error when it is needed. "skip" opens each once,
        and leaves out those that cannot be read, with a warning that counts them.
    n_jobs : int or None, default=None
        Threads that open files for "skip"; None is one, -1 is one for each core.

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
        left_out : dict of str to int
            Numbers of the files that the warnings speak of, by extension, or "thumbnails" or
            "damaged".

    Raises
    ------
    ValueError
        If the folder has no subfolders, if one of them holds no image, if classes have names that
        look the same or are not UTF-8, or if the subfolders are a training and a test set (the
        message names the folder to pass).
    OSError
        If there is no such folder, or one of them cannot be read.

    See Also
    --------
    load_csv : A table of paths and labels.
    """
    root = Path(path)
    classes = subfolders(root)
    if not classes:
        raise ValueError(
            f"{str(root)!r} has no subfolders. Put the images of each class in one with its name."
        )
    refuse_splits(root, classes)
    paths: list[str] = []
    target: list[str] = []
    left_out = Counter[str]()
    for folder in classes:
        images, others = list_images(folder)
        if not images:
            raise ValueError(
                f"{str(folder)!r} holds no image that Pillow reads. Add some or remove it."
                + (f" Left out were {describe_left_out(others)}" if others else "")
            )
        paths += images
        target += [folder.name] * len(images)
        left_out += others
    if left_out:
        total = left_out.total()
        warnings.warn(
            f"{total} of {total + len(paths)} image files in {str(root)!r} were left out: "
            f"{describe_left_out(left_out)}",
            stacklevel=2,
        )
    data = labelled_files(paths, target, left_out, str(root), on_error, n_jobs)
    return (data.paths, data.target) if return_X_y else data
