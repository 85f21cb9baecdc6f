"""A grid of prototypes, grouped by class."""

import math
import textwrap
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_consistent_length

from sklgm.estimators.probing import check_prototypes, find_nearest, probe_of
from sklgm.plotting._style import pyplot, resolve_class_names, shorten

# Lengths are in pixels of a figure with 100 dots an inch, but for the font's size.
_GAP = 6
_LINE = 2
_MARGIN = 8
_LINE_HEIGHT = 14
_FONT_SIZE = 8
# Most letters are not wider in this size.
_LETTER_WIDTH = 7.2
_MOST_PER_ROW = 10


@dataclass(kw_only=True, eq=False, repr=False)
class PrototypesDisplay:
    """Grid of prototypes with their class names.

    It is recommended to use :meth:`from_estimator` to make a display of a fitted estimator. For
    prototypes from elsewhere, such as a :class:`~sklgm.PrototypeSet`, pass the arrays and call
    :meth:`plot`.

    Parameters
    ----------
    prototypes : array-like of shape (n_prototypes, height, width, 3)
        Images: float values in [0, 1], or uint8.
    prototype_labels : array-like of shape (n_prototypes,)
        Class labels of the prototypes.
    class_names : dict or sequence of str, default=None
        Names to show instead of the labels: by label, or one per class in sorted order.
    nearest : array-like of shape (n_prototypes, height, width, 3), default=None
        A real image for each prototype, drawn below it, such as those of a
        :class:`~sklgm.NearestImages`; of any size.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that hold the grid.
    axes_ : ndarray of shape (n_prototypes,) of matplotlib Axes
        The axes of each picture, in the order of `prototypes`.
    nearest_axes_ : ndarray of shape (n_prototypes,) of matplotlib Axes, or None
        The axes of the real images.
    figure_ : matplotlib Figure
        The figure.

    Raises
    ------
    ValueError
        If prototypes are not images, or labels or names are of another length.

    See Also
    --------
    EmbeddingDisplay : Where prototypes lie among real images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm.plotting import PrototypesDisplay
    >>> pictures = np.random.default_rng(0).random((4, 32, 32, 3))
    >>> display = PrototypesDisplay(
    ...     prototypes=pictures, prototype_labels=["cat", "cat", "dog", "dog"]
    ... )
    >>> display.plot()
    <...>
    """

    prototypes: Any
    prototype_labels: Any
    class_names: Any = None
    nearest: Any = None

    @classmethod
    def from_estimator(
        cls, estimator, X=None, y=None, *, backbone=None, class_names=None, ax=None, n_columns=None
    ):
        """Draw the prototypes of a fitted distiller or selector, or of a set.

        Parameters
        ----------
        estimator : estimator or PrototypeSet
            Fitted, with ``prototypes_`` that are images and ``prototype_labels_``; or a set.
        X : array-like of images, default=None
            Real images, as the estimator takes them. With them, the image of its class most
            similar to each prototype is drawn below it, none twice: see
            :class:`~sklgm.NearestImages`. They pass the backbone once.
        y : array-like of shape (n_samples,), default=None
            Labels of the images.
        backbone : str, Backbone or None, default=None
            Net whose features tell what is similar. None takes the one that the prototypes were
            made on, the first of several, at their image size; a net of your own has to be named
            for a set. Pass a :class:`~sklgm.Backbone` for another image size.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.
        n_columns : int, default=None
            Classes side by side; see :meth:`plot`.

        Returns
        -------
        PrototypesDisplay
            The display, drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        ValueError
            If its prototypes are feature rows, its net is no longer the one it was fitted with, a
            class has fewer images than prototypes, or it is not known on which net a set was made.
        """
        images, labels = check_prototypes(estimator)
        nearest = None
        if X is not None:
            probe = probe_of(estimator, backbone, None)
            real = find_nearest(images, labels, X, y, probe, cls.__name__)
            nearest = probe._encoder().canvas_array(real.source.take(real.nearest))
        display = cls(
            prototypes=images,
            prototype_labels=labels,
            class_names=class_names,
            nearest=nearest,
        )
        return display.plot(ax, n_columns=n_columns)

    def plot(self, ax=None, *, n_columns=None):
        """Draw the grid: the prototypes of a class side by side, its name above.

        Real images, if there are any, stand below their prototypes in a thin frame.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; the grid is fitted into it. None makes a figure in which each image
            pixel is a whole number of screen pixels wide.
        n_columns : int, default=None
            Number of classes side by side. None chooses it by the number of classes.

        Returns
        -------
        PrototypesDisplay
            The display itself.
        """
        images, labels = np.asarray(self.prototypes), np.asarray(self.prototype_labels)
        if images.ndim != 4:
            raise ValueError(
                f"prototypes must be images; got shape {images.shape}. EmbeddingDisplay draws rows."
            )
        check_consistent_length(images, labels, self.nearest)
        classes, of_class = np.unique(labels, return_inverse=True)
        grid = _Grid(
            names=resolve_class_names(classes, self.class_names),
            per_class=int(np.bincount(of_class).max()),
            image_size=images.shape[1:3],
            n_stacked=1 if self.nearest is None else 2,
            n_columns=n_columns,
        )
        if ax is None:
            size = (grid.width / 100, grid.height / 100)
            ax = pyplot().figure(figsize=size, layout="none").add_axes((0, 0, 1, 1))
        self.ax_, self.figure_ = ax, ax.figure
        ax.set(xlim=(0, grid.width), ylim=(0, grid.height), aspect="equal")
        ax.set_axis_off()
        ax.apply_aspect()
        shrink = min(1, ax.get_window_extent().width / ax.figure.dpi * 100 / grid.width)

        axes, nearest_axes = (np.empty(len(images), dtype=object) for _ in range(2))
        for index, name in enumerate(grid.names):
            rows = np.flatnonzero(of_class == index)
            for position, row in enumerate(rows):
                axes[row] = self._draw(images[row], grid.box(index, position))
                axes[row].set_axis_off()
                if self.nearest is not None:
                    below = self._draw(self.nearest[row], grid.box(index, position, below=1))
                    below.set(xticks=[], yticks=[])
                    below.spines[:].set(color="0.45", linewidth=0.8 * shrink)
                    nearest_axes[row] = below
            axes[rows[0]].set_title(
                name,
                fontsize=_FONT_SIZE * shrink,
                loc="center" if len(images) == len(classes) else "left",
                pad=3 * shrink,
                linespacing=1.1,
                parse_math=False,
            )
        self.axes_ = axes
        self.nearest_axes_ = None if self.nearest is None else nearest_axes
        return self

    def _draw(self, picture, box):
        inset = self.ax_.inset_axes(box, transform=self.ax_.transData)
        inset.imshow(picture, interpolation="nearest", vmin=0, vmax=1, aspect="auto")
        return inset


class _Grid:
    """Where each picture goes, in pixels from the lower left corner.

    The pictures of a class are a group: at most ten in a row, and above them the name of the class
    in one line or two. Each picture may be a stack of two.
    """

    def __init__(self, *, names, per_class, image_size, n_stacked, n_columns):
        n_classes, n_pictures = len(names), len(names) * per_class
        self._across = math.ceil(per_class / math.ceil(per_class / _MOST_PER_ROW))
        if n_columns is None:
            # The whole is as wide as high or a little wider. A few pictures stand in one row.
            wanted = max(5, math.sqrt(1.5 * n_pictures * n_stacked)) / self._across
            n_columns = math.ceil(n_classes / max(1, round(n_classes / wanted)))
        scale = max(1, round(96 / max(image_size)))
        self._n_columns = min(check_scalar(n_columns, "n_columns", Integral, min_val=1), n_classes)
        self._height, self._width = scale * image_size[0], scale * image_size[1]
        # The pictures of a stack touch but for a line, and classes stand further apart than the
        # pictures of one class.
        self._stack = n_stacked * (self._height + _LINE) - _LINE + _GAP
        apart = _GAP if per_class == 1 else 3 * _GAP
        self._group_width = self._across * (self._width + _GAP) - _GAP + apart
        letters = max(4, int((self._group_width - apart) / _LETTER_WIDTH))
        self.names = [_in_two_lines(name, letters) for name in names]
        self._name_height = _LINE_HEIGHT * (1 + any("\n" in name for name in self.names))
        self._group_height = self._name_height + self._stack * math.ceil(per_class / self._across)
        n_rows = math.ceil(n_classes / self._n_columns)
        self.width = 2 * _MARGIN + self._n_columns * self._group_width - apart
        self.height = 2 * _MARGIN + n_rows * self._group_height - _GAP

    def box(self, class_index, position, below=0):
        """Return the lower left corner, width and height of a picture in its stack."""
        row, column = divmod(class_index, self._n_columns)
        row_in_group, column_in_group = divmod(position, self._across)
        left = _MARGIN + column * self._group_width + column_in_group * (self._width + _GAP)
        top = _MARGIN + row * self._group_height + self._name_height
        top += row_in_group * self._stack + below * (self._height + _LINE)
        return left, self.height - top - self._height, self._width, self._height


def _in_two_lines(name, length):
    """Break a long name into two lines, and shorten what still does not fit."""
    if len(name) <= length:
        return name
    # Nothing is left of a name of underscores alone.
    first, *others = textwrap.wrap(name.replace("_", " "), length) or [shorten(name, length)]
    return "\n".join([first, shorten(" ".join(others), length)] if others else [first])
