"""The heat map that the displays of matrices share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sklgm.plotting._style import Display, shorten


class HeatMapDisplay(Display):
    """Base of displays that draw a matrix as coloured cells with numbers in them."""

    def _draw_cells(
        self,
        ax: Any,
        shades: np.ndarray,
        *,
        rows: Sequence[str],
        columns: Sequence[str],
        texts: Sequence[Sequence[str]],
        framed: ArrayLike,
        label: str,
        lowest: float = 0.9,
        n_beside: int = 0,
    ) -> None:
        """Draw the matrix, and set the attributes.

        Texts of two lines are cut to the first, or all are left out, where cells are too small, and
        names are slanted, shortened and drawn smaller as it gets narrow. The lightest colour stands
        for ``lowest``, or for the lowest tenth that has shades below it. A new figure has room for
        ``n_beside`` more columns.
        """
        shape = shades.shape
        if ax is None:
            width = height = float(np.clip(8 / max(shape), 0.3, 0.7))
        else:
            # About what a cell will have: names and colour bar take their share of the axes.
            room = ax.get_window_extent().size / ax.figure.dpi
            width, height = 0.8 * room[0] / shape[1], 0.65 * room[1] / shape[0]
        self._cell = width, height
        figsize = (3.6 + width * (shape[1] + n_beside), 2.2 + height * shape[0])
        ax = self._set_axes(ax, figsize)
        lightest = min(lowest, np.floor(10 * shades.min()) / 10)
        darkest = max(1, shades.max())
        image = ax.imshow(shades, cmap="Blues", aspect="auto", vmin=lightest, vmax=darkest)
        self.image_, self.texts_ = image, np.full(shape, None, dtype=object)
        roomy = width >= 0.55 and height >= 0.4
        if width >= 0.35 and height >= 0.14:
            looks = {"ha": "center", "va": "center", "fontsize": 8.5 if roomy else 7}
            for (i, j), shade in np.ndenumerate(shades):
                text = texts[i][j] if roomy else texts[i][j].split("\n")[0]
                ink = "white" if image.norm(shade) > 0.65 else "black"
                self.texts_[i, j] = ax.text(j, i, text, color=ink, **looks)
        self._draw_frames(framed)
        size = 10 if roomy else float(np.clip(60 * min(width, height), 5, 8))
        names: dict[str, Any] = {"parse_math": False, "fontsize": size}
        ax.set_yticks(range(shape[0]), [shorten(name) for name in rows], **names)
        columns = [shorten(name) for name in columns]
        if max(map(len, columns)) * 0.009 * size > width:
            slanted = width >= 0.3
            names |= {"rotation": 40 if slanted else 90, "va": "top" if slanted else "center"}
            names |= {"ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(range(shape[1]), columns, **names)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        shrink = min(1, 20 / shape[0])
        bar = self.figure_.colorbar(image, ax=ax, pad=0.02, aspect=30, label=label, shrink=shrink)
        bar.outline.set_visible(False)

    def _draw_frames(self, framed: ArrayLike) -> None:
        from matplotlib.patches import Rectangle

        # They are vermilion, since black is lost on dark blue.
        looks: dict[str, Any] = {"fill": False, "lw": 2, "ec": "#D55E00", "zorder": 3}
        self.frames_ = [
            self.ax_.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, **looks))
            for i, j in np.argwhere(framed)
        ]
