"""The heat map that the displays of matrices share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sklgm.plotting._style import fit_text, pyplot

# Longest name that is written out, in characters.
_NAME_LENGTH = 28


def draw_heat_map(
    ax: Any,
    shades: np.ndarray,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    texts: np.ndarray,
    short_texts: np.ndarray,
    limits: tuple[float, float],
    framed: np.ndarray,
    label: str,
) -> tuple[Any, Any, np.ndarray]:
    """Draw a matrix as coloured cells with numbers in them and names along two sides.

    Numbers are left out where cells are too small for them, and names are slanted, shortened
    and drawn smaller as it gets narrow.

    Parameters
    ----------
    ax : matplotlib Axes or None
        The axes to draw on; None makes a figure that grows with the matrix.
    shades : ndarray of shape (n_rows, n_columns)
        The values that colours stand for.
    rows, columns : sequence of str
        Names.
    texts, short_texts : ndarray of str of shape (n_rows, n_columns)
        What is written into cells, where there is room for two lines and where there is for one.
    limits : tuple of (float, float)
        Shades of the lightest and the darkest colour.
    framed : ndarray of bool of shape (n_rows, n_columns)
        Cells that get a frame.
    label : str
        Label of the colour bar.

    Returns
    -------
    ax : matplotlib Axes
        The axes.
    image : matplotlib AxesImage
        The cells.
    drawn : ndarray of shape (n_rows, n_columns)
        Their matplotlib Texts, None where they are left out.
    """
    plt = pyplot()
    from matplotlib.patches import Rectangle

    shape = shades.shape
    if ax is None:
        side = float(np.clip(9 / max(shape), 0.42, 0.8))
        width, height = side, 0.75 * side
        slanted = min(max(map(len, columns)), _NAME_LENGTH) * 0.09 > width
        figsize = (3.6 + width * shape[1], (2.6 if slanted else 2.0) + height * shape[0])
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    else:
        # About what a cell will have: names and colour bar take their share of the axes.
        room = ax.get_window_extent().size / ax.figure.dpi
        width, height = 0.8 * room[0] / shape[1], 0.65 * room[1] / shape[0]
    image = ax.imshow(shades, cmap="Blues", aspect="auto", vmin=limits[0], vmax=limits[1])
    roomy = width >= 0.55 and height >= 0.4
    drawn = np.full(shape, None, dtype=object)
    if width >= 0.3 and height >= 0.14:
        for (i, j), text in np.ndenumerate(texts if roomy else short_texts):
            drawn[i, j] = ax.text(
                *(j, i, text),
                **{"ha": "center", "va": "center", "fontsize": 8.5 if roomy else 7},
                color="white" if image.norm(shades[i, j]) > 0.65 else "black",
            )
    for i, j in np.argwhere(framed):
        ax.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, lw=1.4))
    size = 10 if roomy else float(np.clip(60 * min(width, height), 5, 8))
    lines = 2 if height >= 0.3 else 1
    names = [
        fit_text(
            _elide(name, lines * _NAME_LENGTH - 8 * (lines - 1)), _NAME_LENGTH, max_lines=lines
        )
        for name in rows
    ]
    ax.set_yticks(range(shape[0]), names, parse_math=False, fontsize=size)
    names = [fit_text(_elide(name, _NAME_LENGTH), _NAME_LENGTH) for name in columns]
    looks: dict[str, Any] = {}
    if max(map(len, names)) * 0.009 * size > width:
        angle = 40 if width >= 0.3 else 90
        looks = {"rotation": angle, "ha": "right", "rotation_mode": "anchor"}
        if angle == 90:
            looks["va"] = "center"
    ax.set_xticks(range(shape[1]), names, parse_math=False, fontsize=size, **looks)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return ax, image, drawn


def _elide(name: str, length: int) -> str:
    """Leave out the middle of a long name: names of nets often differ at the end."""
    if len(name) <= length:
        return name
    half = (length - 1) // 2
    return f"{name[: length - 1 - half]}…{name[len(name) - half :]}"


def short_number(number: float, decimals: int = 2) -> str:
    """Return a number without the zero before its point."""
    text = f"{number:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
