"""Axes, colours, markers and names, as all displays have them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sklgm.utils.extras import needs_extra

# Okabe and Ito's palette, told apart under the common kinds of colour blindness. Black comes last
# and yellow, faint on white, before it.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
# Dots of each kind go with stars of five, four and eight points.
_MARKERS: tuple[tuple[str, Any], ...] = (("o", (5, 1, 0)), ("s", (4, 1, 0)), ("^", (8, 1, 0)))

LOOKS = [(color, *markers) for markers in _MARKERS for color in PALETTE]
"""Colour, dot and star of each class: the markers change when the colours are used up."""


def pyplot() -> Any:
    """Return matplotlib's module, or say that it is not there."""
    with needs_extra("plot", "Drawing"):
        import matplotlib.pyplot as plt
    return plt


class Display:
    """Base of the displays, which know the axes that they were drawn on."""

    def _set_axes(self, ax: Any, figsize: tuple[float, float]) -> Any:
        """Take the given axes, or those of a new figure of that size, and return them."""
        if ax is None:
            _, ax = pyplot().subplots(figsize=figsize, layout="constrained")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def resolve_class_names(
    classes: np.ndarray, class_names: Mapping[Any, str] | Sequence[str] | None
) -> list[str]:
    """Return the name to show for each class: by its label, by its place, or the label itself."""
    labels = classes.tolist()
    if class_names is None or isinstance(class_names, Mapping):
        return [str((class_names or {}).get(label, label)) for label in labels]
    if isinstance(class_names, str) or len(class_names) != len(labels):
        raise ValueError(
            f"class_names must be {len(labels)} names, or a dict by label; got {class_names!r}."
        )
    return [str(name) for name in class_names]


def shorten(name: str, length: int = 28) -> str:
    """Leave out the middle of a long name: names often differ at the end."""
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[: length - 1 - half]}…{name[len(name) - half :]}"


def draw_legend(ax: Any, handles: Sequence[Any], names: Sequence[str], **looks: Any) -> None:
    """Draw a legend to the right of the axes, with names shown letter by letter."""
    legend = ax.legend(
        handles,
        [" "] * len(names),
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
        frameon=False,
        fontsize=9 if len(names) <= 16 else 8,
        **looks,
    )
    # Set afterwards: a legend would leave out names that start with an underscore.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=shorten(name), parse_math=False)
