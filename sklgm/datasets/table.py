"""Tables in CSV files, among them those of paths and labels."""

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch


def load_csv(
    path: str | os.PathLike[str], *, return_X_y: bool = False
) -> Bunch | tuple[NDArray, NDArray]:
    """List the images that a CSV file names, with their labels.

    Parameters
    ----------
    path : str or Path
        The file, in UTF-8. Its first line names the columns: ``path``, relative to the file's
        folder or absolute, ``label``, and any others, which are not looked at.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of shape (n_samples,), dtype object
            The paths, as str, in the order of the lines. No image is opened.
        target : ndarray of shape (n_samples,), dtype str
            The labels.
        target_names : ndarray of shape (n_classes,), dtype str
            The distinct labels, sorted.

    Raises
    ------
    ValueError
        If there is no such file, or it is no such table.

    See Also
    --------
    load_folder : A subfolder for each class.
    """
    file = Path(path)
    lines = read_table(file, ("path", "label"))
    if not lines:
        raise ValueError(f"{file} names no image. Add a line for each, below the columns' names.")
    X = np.array([str(file.parent / line["path"]) for _, line in lines], dtype=object)
    y = np.array([line["label"] for _, line in lines])
    return (X, y) if return_X_y else Bunch(paths=X, target=y, target_names=np.unique(y))


def read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file whose first line names its columns.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.
    columns : tuple of str
        Columns that the file must have, with something in every line.

    Returns
    -------
    list of (int, dict of str to str)
        Number and cells of each line.

    Raises
    ------
    ValueError
        If it is no such table; the message names the file and the line.
    """
    wanted = " and ".join(columns)
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no file {path}. Pass a CSV file with the columns {wanted}.")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        lines = [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}.") from error
    for number, line in lines:
        if not all(line.get(name) for name in columns):
            raise ValueError(f"Line {number} of {path} must give {wanted}, as line 1 names them.")
    return lines
