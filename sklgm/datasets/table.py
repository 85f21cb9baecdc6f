"""Tables in CSV files, among them those of paths and labels."""

import codecs
import csv
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from sklgm.datasets._checks import check_labels, leave_out_damaged

_DELIMITERS = ",;\t"


def load_csv(
    path: str | os.PathLike[str],
    *,
    return_X_y: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    n_jobs: int | None = None,
) -> Bunch | tuple[NDArray, NDArray]:
    """List the images that a CSV file names, with their labels.

    Parameters
    ----------
    path : str or Path
        The file, in UTF-8, or in UTF-16 as spreadsheets mark it. Its first line names the columns,
        in capitals or not: ``path``, relative to the file's folder or absolute, ``label``, and any
        others, which are not looked at. Commas, semicolons or tabs separate cells. Blanks around
        cells are stripped, with a warning. A path that names no file as it is written is looked up
        with slashes in place of backslashes, and in the other Unicode forms.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.
    on_error : {"raise", "skip"}, default="raise"
        "raise" opens no image: a file that is missing or damaged is an error when it is needed.
        "skip" opens each once, and leaves out those, with a warning that counts them.
    n_jobs : int or None, default=None
        Threads that open files for "skip"; None is one, -1 is one for each core.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of shape (n_samples,), dtype object
            The paths, as str, in the order of the lines.
        target : ndarray of shape (n_samples,), dtype str
            The labels.
        target_names : ndarray of shape (n_classes,), dtype str
            The distinct labels, sorted.
        left_out : dict of str to int
            The number of files left out by "skip", as "damaged", if there are any.

    Raises
    ------
    ValueError
        If there is no such file, it is no such table, or labels differ in Unicode form alone.

    See Also
    --------
    load_folder : A subfolder for each class.
    """
    file = Path(path)
    lines = read_table(file, ("path", "label"))
    if not lines:
        raise ValueError(f"{file} names no image. Add a line for each, below the columns' names.")
    X = np.array([str(find_file(file.parent, line["path"])) for _, line in lines], dtype=object)
    y = np.array([line["label"] for _, line in lines])
    names = np.unique(y)
    check_labels(names.tolist(), str(file))
    X, y = leave_out_damaged(X, y, str(file), on_error, n_jobs)
    if return_X_y:
        return X, y
    left_out = {"damaged": len(lines) - len(X)} if len(X) < len(lines) else {}
    return Bunch(paths=X, target=y, target_names=names, left_out=left_out)


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a file that a table names, as the file is spelled on this machine.

    Parameters
    ----------
    folder : Path
        What the name is relative to.
    name : str
        Perhaps with the backslashes of Windows, or with accents in another Unicode form than that
        of the disk.

    Returns
    -------
    Path
        Of the file; where there is none, of the name as it is.
    """
    if not name.isascii() or "\\" in name:
        slashes = name.replace("\\", "/")
        forms = [unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")]
        for spelled in (name, slashes, *forms):
            if (folder / spelled).is_file():
                return folder / spelled
    return folder / name


def read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read columns of a CSV file whose first line names them.

    Parameters
    ----------
    path : Path
        The file, in UTF-8, or UTF-16 with its mark; cells are separated by commas, semicolons or
        tabs.
    columns : tuple of str
        Columns that the file must have, with something in every line.

    Returns
    -------
    list of (int, dict of str to str)
        Number and cells of each line, without blanks around them, of which a warning counts those
        that had some.

    Raises
    ------
    ValueError
        If it is no such table; the message names the file and the line.
    """
    wanted = " and ".join(columns)
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no file {path}. Pass a CSV file with the columns {wanted}.")
    data = path.read_bytes()
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no CSV file in UTF-8: {error}. Save it as CSV UTF-8, as spreadsheets call "
            f"that."
        ) from error
    header, places, records = _read_header(path, text, columns)
    lines = []
    padded = [cell for cell in header if cell != cell.strip()]
    for number, cells in records:
        own = [cells[place] if place < len(cells) else "" for place in places]
        line = dict(zip(columns, map(str.strip, own), strict=True))
        if any(cells[len(header) :]) or any(re.match(r'\s+"', cell) for cell in own):
            raise ValueError(
                f"Line {number} of {path} does not fit the {len(header)} columns that line 1 "
                f"names; its cells are {cells}. Put double quotes around a cell that holds a "
                f"separator, and no blank before them."
            )
        if not all(line.values()):
            raise ValueError(f"Line {number} of {path} must give {wanted}, as line 1 names them.")
        padded += [cell for cell in own if cell != cell.strip()]
        lines.append((number, line))
    if padded:
        warnings.warn(
            f"Blanks around {len(padded)} cells of {path} are stripped, the first is {padded[0]!r}."
            f" Remove them from the file.",
            stacklevel=3,
        )
    return lines


def _read_header(
    path: Path, text: str, columns: tuple[str, ...]
) -> tuple[list[str], list[int], Iterator[tuple[int, list[str]]]]:
    """Return the first line, the places of columns in it, and the other lines with numbers."""
    # Excel says so where it may be another one than the reader's.
    said = re.match(r'"?sep=(.)"?(?:\r\n?|\n)', text, re.IGNORECASE)
    for delimiter in said[1] if said else _DELIMITERS:
        records = _records(path, text[said.end() if said else 0 :], delimiter, 2 if said else 1)
        with suppress(ValueError, StopIteration):
            _, header = next(records)
            names = [cell.strip() for cell in header]
            if not set(columns) <= set(names):
                names = [name.lower() for name in names]
            if all(names.count(column) == 1 for column in columns):
                return header, [names.index(column) for column in columns], records
    first = next(iter(text.splitlines()), "")
    raise ValueError(
        f"Line 1 of {path} must name the columns {' and '.join(columns)}, each once, separated by "
        f"commas, semicolons or tabs; it is {first[:200]!r}. Rename columns there, or if it is "
        f"an image already, put a line above it: {','.join(columns)}"
    )


def _records(path: Path, text: str, delimiter: str, number: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, each with the number of the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = number
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield begins, cells
            begins = number + reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{path} is no CSV file in UTF-8: from line {begins} on, {error}. Close "
            f"every double quote that is opened, and write one inside a cell twice."
        ) from error
