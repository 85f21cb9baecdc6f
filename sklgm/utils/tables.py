"""Results as tables: for pandas, in Markdown, on a terminal and in a notebook."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from tabulate import tabulate


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Base of results that are records, of plain values, shown as a table."""

    records: tuple[dict[str, Any], ...]

    def to_frame(self) -> Any:
        """Return a data frame; needs pandas.

        Returns
        -------
        pandas.DataFrame
            A line for each record.

        Raises
        ------
        ImportError
            Without pandas.
        """
        return data_frame(list(self.records))

    def to_markdown(self) -> str:
        """Return the table in Markdown.

        Returns
        -------
        str
            A line for each row.
        """
        return markdown(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the titles and the cells of each row."""
        raise NotImplementedError

    def _caption(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        text = _as_text(*self._table(), style="plain")
        return "\n".join([type(self).__name__, text, self._caption()])

    def _repr_html_(self) -> str:
        return html_table(*self._table(), caption=self._caption())


def data_frame(records: list[dict[str, Any]]) -> Any:
    """Return records as a data frame of pandas."""
    import pandas as pd

    return pd.DataFrame(records)


def spread(mean: float, deviation: float) -> str:
    """Return a mean and its deviation as text, without the latter where it is NaN."""
    return f"{mean:.3f}" if np.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def duration(seconds: float) -> str:
    """Return a duration as text, in hours and minutes if it is long."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def markdown(titles: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (titles, *cells)]
    return _as_text(lines[0], lines[1:], style="pipe")


def html_table(titles: Sequence[str], cells: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a table in HTML, its caption above."""
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return _as_text(titles, cells, style="html").replace("<table>", f"<table>{above}", 1)


def _as_text(titles: Sequence[str], cells: Iterable[Sequence[str]], *, style: str) -> str:
    sides = ["left", *["right"] * (len(titles) - 1)]
    # The cells are text; tabulate would write some of the numbers in them anew.
    return tabulate(list(cells), titles, style, disable_numparse=True, colalign=sides)


def check_result(result: Any, kind: str, source: str) -> None:
    """Raise a ValueError unless a result is of a class, by name: its module is not imported."""
    if kind not in [one.__name__ for one in type(result).__mro__]:
        raise ValueError(f"This needs what {source} returns; got {type(result).__name__}.")
