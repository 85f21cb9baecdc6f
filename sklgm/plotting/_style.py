"""Colours, markers and class names that all displays share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sklgm.utils.extras import needs_extra

# Okabe and Ito's palette, told apart under the common kinds of colour blindness. Black comes last
# and yellow, faint on white, before it.
_PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
# Dots of each kind go with stars of five, four and eight points.
_MARKERS = (("o", (5, 1, 0)), ("s", (4, 1, 0)), ("^", (8, 1, 0)))

MOST_NAMED_CLASSES = len(_PALETTE) * len(_MARKERS)
"""With more classes than this, colour can only show a class's place in the order."""


Marker = str | tuple[int, int, int]


def pyplot() -> Any:
    """Return matplotlib's module, or say that it is not there."""
    with needs_extra("plot", "Drawing"):
        import matplotlib.pyplot as plt
    return plt


def class_styles(n_classes: int) -> list[tuple[str, Marker, Marker]]:
    """Give each class a look of its own.

    Parameters
    ----------
    n_classes : int
        At most `MOST_NAMED_CLASSES`.

    Returns
    -------
    list of (str, marker, marker)
        Colour, dot and star of each class: the markers change when the colours are used up.
    """
    return [
        (_PALETTE[index % len(_PALETTE)], *_MARKERS[index // len(_PALETTE)])
        for index in range(n_classes)
    ]


def resolve_class_names(
    classes: np.ndarray, class_names: Mapping[Any, str] | Sequence[str] | None
) -> list[str]:
    """Return the name to show for each class.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    class_names : mapping, sequence of str or None
        Names by label (labels left out keep their own), or one name per class in the order of
        `classes`. None shows the labels themselves.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If it is something else, or a sequence has another length than `classes`.
    """
    labels = classes.tolist()
    if class_names is None:
        return [str(label) for label in labels]
    if isinstance(class_names, Mapping):
        return [str(class_names.get(label, label)) for label in labels]
    if isinstance(class_names, str) or not hasattr(class_names, "__len__"):
        raise ValueError(
            f"class_names must be a list of names, or a dict from label to name; got "
            f"{class_names!r}."
        )
    if len(class_names) != len(labels):
        raise ValueError(
            f"class_names has {len(class_names)} names for {len(labels)} classes; "
            "pass one for each, or a dict from label to name."
        )
    return [str(name) for name in class_names]


def check_result(result: Any, kind: str, source: str) -> None:
    """Raise a ValueError unless a result is of a class, by name: displays import no protocol."""
    if kind not in [one.__name__ for one in type(result).__mro__]:
        raise ValueError(f"This draws what {source} returns; got {type(result).__name__}.")


def fit_text(
    text: str, width: float, *, max_lines: int = 1, measure: Callable[[str], float] = len
) -> str:
    """Break a name into lines and shorten what still does not fit.

    Parameters
    ----------
    text : str
        Underscores count as places to break.
    width : float
        What a line may measure.
    max_lines : int, default=1
        Lines.
    measure : callable, default=len
        Measures a text: characters, unless something else is passed.

    Returns
    -------
    str
        At most `max_lines` lines, each within `width` unless a single character is wider.
    """
    if measure(text) <= width and "\n" not in text:
        return text
    lines: list[str] = []
    for word in text.replace("_", " ").split():
        if lines and measure(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], " ".join(lines[max_lines - 1 :])]
    return "\n".join(_shorten(line, width, measure) for line in lines)


def _shorten(line: str, width: float, measure: Callable[[str], float]) -> str:
    if measure(line) <= width:
        return line
    while len(line) > 1 and measure(f"{line}…") > width:
        line = line[:-1]
    return f"{line.rstrip()}…"
