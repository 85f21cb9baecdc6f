"""Tables in CSV files, read with errors that name the file and the line."""

from __future__ import annotations

import csv
from pathlib import Path


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
        If it is no such table.
    """
    wanted = " and ".join(columns)
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no file {path}. Pass a CSV file with the columns {wanted}.")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        lines = [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}.") from error
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} has no column {' and '.join(missing)}; it needs {wanted}.")
    for number, line in lines:
        if not all(line[name] for name in columns):
            raise ValueError(f"Line {number} of {path} must give {wanted}.")
    return lines
