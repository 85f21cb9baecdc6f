"""Tables of results as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def spread(mean: float, deviation: float) -> str:
    """Return a mean and its deviation as text, without the latter where it is NaN."""
    return f"{mean:.3f}" if np.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def markdown(titles: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *cells]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
