"""A grid of prototypes, grouped by class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sklgm.plotting._style import fit_text, pyplot, resolve_class_names
from sklgm.prototypes.prototype_set import check_has_prototypes

# Lengths are in pixels of a figure with 100 dots an inch and grow with its resolution.
_GAP = 6
_LINE = 2
_MARGIN = 8
_MOST_PER_ROW = 10


class PrototypesDisplay:
    """Grid of prototypes with their class names.

    It is recommended to use :meth:`from_estimator` to make a display of a fitted estimator. For
    prototypes from elsewhere, such as a :class:`~sklgm.PrototypeSet`, pass the arrays and call
    :meth:`plot`.

    Parameters
    ----------
    prototypes : array-like of shape (n_prototypes, height, width, 3)
        Images, float values in [0, 1].
    prototype_labels : array-like of shape (n_prototypes,)
        Class labels of the prototypes.
    class_names : dict or sequence of str, default=None
        Names to show instead of the labels: by label, or one per class in sorted order.
    nearest : array-like of shape (n_prototypes, height, width, 3), default=None
        A real image for each prototype, drawn below it, such as those of a
        :class:`~sklgm.NearestImages`; of any size, float values in [0, 1].

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
        If prototypes are not images with values in [0, 1], or labels or names are of another
        length.

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

    def __init__(self, *, prototypes, prototype_labels, class_names=None, nearest=None):
        self.prototypes = prototypes
        self.prototype_labels = prototype_labels
        self.class_names = class_names
        self.nearest = nearest

    @classmethod
    def from_estimator(
        cls, estimator, X=None, y=None, *, class_names=None, ax=None, n_columns=None, scale=None
    ):
        """Draw the prototypes of a fitted distiller or selector.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``prototypes_`` that are images and ``prototype_labels_``.
        X : array-like of images, default=None
            Real images, as the estimator takes them. With them, the image of its class most
            similar to each prototype is drawn below it, none twice: see
            :class:`~sklgm.NearestImages`. They pass the backbone once.
        y : array-like of shape (n_samples,), default=None
            Labels of the images.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.
        n_columns : int, default=None
            Classes side by side; see :meth:`plot`.
        scale : int, default=None
            Magnification; see :meth:`plot`.

        Returns
        -------
        PrototypesDisplay
            The display, drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        ValueError
            If its prototypes are feature rows, X comes without y, or a class has fewer images
            than prototypes.
        """
        check_has_prototypes(estimator, "estimator must be a fitted distiller or selector")
        if (X is None) != (y is None):
            raise ValueError("X and y go together: pass real images with their labels, or neither.")
        nearest = None
        if X is not None:
            from sklearn.frozen import FrozenEstimator

            from sklgm.estimators.selectors import NearestImages

            nearest = NearestImages(FrozenEstimator(estimator)).fit(X, y).prototypes_
        display = cls(
            prototypes=estimator.prototypes_,
            prototype_labels=estimator.prototype_labels_,
            class_names=class_names,
            nearest=nearest,
        )
        return display.plot(ax, n_columns=n_columns, scale=scale)

    def plot(self, ax=None, *, n_columns=None, scale=None):
        """Draw the grid: the prototypes of a class side by side, its name above.

        Real images, if there are any, stand below their prototypes in a thin frame.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; the grid is fitted into it. None makes a figure in which each image
            pixel is a whole number of screen pixels wide.
        n_columns : int, default=None
            Number of classes side by side. None chooses it by the number of classes.
        scale : int, default=None
            Screen pixels for each image pixel, at 100 dots an inch. None chooses it by the sizes
            and numbers of prototypes. Without effect when `ax` is given.

        Returns
        -------
        PrototypesDisplay
            The display itself.
        """
        plt = pyplot()

        images, labels, nearest = self._validate()
        classes = np.unique(labels)
        rows_of_class = [np.flatnonzero(labels == label) for label in classes]
        grid = _Grid.plan(
            names=resolve_class_names(classes, self.class_names),
            per_class=max(len(rows) for rows in rows_of_class),
            image_size=images.shape[1:3],
            n_stacked=1 if nearest is None else 2,
            n_columns=n_columns,
            scale=scale,
        )
        if ax is None:
            width, height = grid.size
            figure = plt.figure(figsize=(width / 100, height / 100), layout="none")
            ax = figure.add_axes((0, 0, 1, 1))
        # Room for each pixel of the grid, across and down; the narrower decides.
        room = ax.get_window_extent().size / ax.figure.dpi * 100 / grid.size
        share = room.min() / room
        shrink = min(1, room.min())
        ax.set_axis_off()

        def draw(picture, corner, size):
            inset = ax.inset_axes((*((1 - share) / 2 + share * corner), *(share * size)))
            inset.imshow(picture, interpolation="nearest", vmin=0, vmax=1, aspect="auto")
            return inset

        axes, nearest_axes = (np.empty(len(images), dtype=object) for _ in range(2))
        for index, rows in enumerate(rows_of_class):
            for position, row in enumerate(rows):
                axes[row] = draw(images[row], *grid.box(index, position))
                axes[row].set_axis_off()
                if nearest is not None:
                    nearest_axes[row] = draw(nearest[row], *grid.box(index, position, below=1))
                    nearest_axes[row].set(xticks=[], yticks=[])
                    nearest_axes[row].spines[:].set(color="0.45", linewidth=0.8 * shrink)
            axes[rows[0]].set_title(
                grid.names[index],
                fontsize=grid.font_size * shrink,
                loc="center" if grid.per_class == 1 else "left",
                pad=3 * shrink,
                linespacing=1.1,
                parse_math=False,
            )
        self.ax_ = ax
        self.axes_ = axes
        self.nearest_axes_ = None if nearest is None else nearest_axes
        self.figure_ = ax.figure
        return self

    def _validate(self):
        images = np.asarray(self.prototypes)
        if images.ndim == 2:
            raise ValueError(
                f"These prototypes are rows of {images.shape[1]} features and cannot be shown as "
                "pictures; EmbeddingDisplay draws them."
            )
        _check_pictures(images, "prototypes")
        labels = np.asarray(self.prototype_labels)
        nearest = None if self.nearest is None else np.asarray(self.nearest)
        check_consistent_length(images, labels, nearest)
        if nearest is not None:
            _check_pictures(nearest, "nearest")
        return images, labels, nearest


def _check_pictures(images, name):
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(
            f"{name} must be images of shape (n_prototypes, height, width, 3); "
            f"got shape {images.shape}."
        )
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"{name} must have values in [0, 1].")


@dataclass(frozen=True)
class _Grid:
    """Where each picture goes, in pixels from the top left corner.

    The pictures of a class are a group: at most ten in a row, the class name above. Each may be
    a stack of several.
    """

    names: list[str]
    font_size: float
    per_class: int
    n_columns: int
    group_columns: int
    n_stacked: int
    width: int
    height: int

    @classmethod
    def plan(cls, *, names, per_class, image_size, n_stacked, n_columns, scale):
        n_pictures = len(names) * per_class
        group_columns = math.ceil(per_class / math.ceil(per_class / _MOST_PER_ROW))
        if n_columns is None:
            # As wide as high or a little wider; a few pictures fit into one row.
            across = n_pictures if n_pictures <= 5 else math.ceil(math.sqrt(1.5 * n_pictures))
            least = max(1, round(min(across, max(_MOST_PER_ROW, across // 2)) / group_columns))
            n_columns = min(range(least, least + least // 2 + 1), key=lambda n: -len(names) % n)
        if scale is None:
            target = 128 if n_pictures <= 12 else 96 if n_pictures <= 48 else 72
            scale = max(1, round(target / max(image_size)))
        for name, value in (("n_columns", n_columns), ("scale", scale)):
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be a positive integer; got {value!r}.")
        height, width = (int(side) * int(scale) for side in image_size)
        group_width = group_columns * (width + _GAP) - _GAP
        font_size = 9 if group_width >= 96 else 7
        names = [
            fit_text(name, group_width, max_lines=2, measure=_width_of_text(font_size))
            for name in names
        ]
        return cls(
            names=names,
            font_size=font_size,
            per_class=per_class,
            n_columns=min(int(n_columns), len(names)),
            group_columns=group_columns,
            n_stacked=n_stacked,
            width=width,
            height=height,
        )

    @property
    def _row_step(self):
        # The pictures of a stack touch but for a line; stacks stand apart.
        return self.n_stacked * (self.height + _LINE) - _LINE + _GAP

    @property
    def _group_size(self):
        n_rows = math.ceil(self.per_class / self.group_columns)
        return (
            self.group_columns * (self.width + _GAP) - _GAP,
            n_rows * self._row_step - _GAP,
        )

    @property
    def _column_step(self):
        # Classes stand further apart than the pictures of one class.
        return self._group_size[0] + (_GAP if self.per_class == 1 else 3 * _GAP)

    @property
    def _tops(self):
        """Upper edges of the pictures in each row of groups, then the lower edge of the last."""
        line_height = math.ceil(1.7 * self.font_size)
        tops, edge = [], _MARGIN
        for start in range(0, len(self.names), self.n_columns):
            names = self.names[start : start + self.n_columns]
            tops.append(edge + line_height * (1 + max(name.count("\n") for name in names)))
            edge = tops[-1] + self._group_size[1] + _GAP
        return [*tops, edge - _GAP]

    @property
    def size(self):
        """Width and height of the whole."""
        right = (self.n_columns - 1) * self._column_step + self._group_size[0]
        return right + 2 * _MARGIN, self._tops[-1] + _MARGIN

    def box(self, class_index, position, below=0):
        """Lower left corner and size of a picture in its stack, as shares of the whole."""
        row, column = divmod(class_index, self.n_columns)
        row_in_group, column_in_group = divmod(position, self.group_columns)
        left = _MARGIN + column * self._column_step + column_in_group * (self.width + _GAP)
        top = self._tops[row] + row_in_group * self._row_step + below * (self.height + _LINE)
        width, height = self.size
        return (
            np.array([left / width, 1 - (top + self.height) / height]),
            np.array([self.width / width, self.height / height]),
        )


def _width_of_text(font_size):
    """Return a function that measures a text in pixels at 100 dots an inch."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=font_size)

    def width_of_text(text):
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
        return width * 100 / 72

    return width_of_text
