"""Tables in CSV files, among them those of paths and labels."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
import warnings
from collections import Counter
from pathlib import Path
from typing import Literal

from numpy.typing import NDArray
from sklearn.utils import Bunch

from sklgm.datasets._checks import labelled_files

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
    paths = [str(find_file(file.parent, line["path"])) for _, line in lines]
    target = [line["label"] for _, line in lines]
    data = labelled_files(paths, target, Counter(), str(file), on_error, n_jobs)
    return (data.paths, data.target) if return_X_y else data


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a file that a table in a folder names, as this machine spells it.

    The name may have the backslashes of Windows, or accents in another Unicode form than that of
    the disk. Where there is no such file, it stays as it is.
    """
    if not name.isascii() or "\\" in name:
        slashes = name.replace("\\", "/")
        forms = [unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")]
        for spelled in (name, slashes, *forms):
            if (folder / spelled).is_file():
                return folder / spelled
    return folder / name


def read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return number and cells of each line of a CSV file, as :func:`load_csv` describes it.

    Of the columns, which the first line names, none may be empty in a line. What is no such table
    is a ValueError, which names the file and the line.
    """
    wanted = " and ".join(columns)
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no file {path}. Pass a CSV file with the columns {wanted}.")
    lines, padded, broken, number = [], list[str](), list[str](), 1
    incomplete = list[int]()
    try:
        reader, n_above = _read_header(path, columns)
        for cells in reader:
            number = n_above + reader.line_num
            surplus = "".join(cells.pop(None, ()))
            own = [cells[column] for column in columns]
            if surplus.strip() or any(re.match(r'\s+"', cell) for cell in own):
                raise ValueError(
                    f"Line {number} of {path} does not fit the {len(cells)} columns that the first "
                    f"line names. Put double quotes around a cell that holds a separator, and no "
                    f"blank before them."
                )
            line = dict(zip(columns, map(str.strip, own), strict=True))
            if all(line.values()):
                lines.append((number, line))
            elif any(map(str.strip, cells.values())):
                incomplete.append(number)
            broken += [cell for cell in line.values() if "\n" in cell or "\r" in cell]
            padded += [cell for cell in own if cell != cell.strip()]
    except csv.Error as error:
        raise ValueError(
            f"{path} is no CSV file: from line {number + 1} on, {error}. Close every double quote "
            f"that is opened, and write one inside a cell twice."
        ) from error
    if incomplete:
        others = f", and so must {len(incomplete) - 1} more" if incomplete[1:] else ""
        raise ValueError(
            f"Line {incomplete[0]} of {path} must give {wanted}{others}. Complete or remove "
            f"{'them' if others else 'it'}."
        )
    if broken:
        warnings.warn(
            f"Cells of {path} go over several lines: {len(broken)}, the first is {broken[0]!r}. If "
            f"that is not meant, a double quote is too much before it, or one too little.",
            stacklevel=3,
        )
    if padded:
        warnings.warn(
            f"Cells of {path} have blanks around them, which are stripped: {len(padded)}, the "
            f"first is {padded[0]!r}. Remove the blanks from the file.",
            stacklevel=3,
        )
    return lines


def _read_header(path: Path, columns: tuple[str, ...]) -> tuple[csv.DictReader[str], int]:
    """Return a reader that has read the names of columns, and how many lines are above them."""
    data = path.read_bytes()
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = io.StringIO(data.decode("utf-16" if is_utf16 else "utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no CSV file in UTF-8: {error}. Save it as CSV UTF-8, as spreadsheets call "
            f"that."
        ) from error
    first = text.readline()
    for_excel = re.match(r"(?i)sep=([^\r\n])", first)
    delimiter = for_excel[1] if for_excel else max(_DELIMITERS, key=first.count)
    n_above = 1 if for_excel else 0
    if not for_excel:
        text.seek(0)
    reader = csv.DictReader(text, delimiter=delimiter, strict=True, restval="")
    header = reader.fieldnames or []
    reader.fieldnames = names = [name.strip().lower() for name in header]
    if any(names.count(column) != 1 for column in columns):
        raise ValueError(
            f"Line {n_above + 1} of {path} must name the columns {' and '.join(columns)}, "
            f"each once, separated by commas, semicolons or tabs; it is "
            f"{delimiter.join(header)[:200]!r}. Rename columns there, or if it is an image "
            f"already, put a line above it: {','.join(columns)}"
        )
    return reader, n_above
