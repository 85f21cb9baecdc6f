"""Which groups prototypes are read as, beside their own class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sklgm.plotting._heatmap import HeatMapDisplay
from sklgm.plotting._style import resolve_class_names
from sklgm.utils.tables import check_result

# More rows are pages long, and take minutes to draw.
_MOST_ROWS = 100


@dataclass(kw_only=True, eq=False, repr=False)
class BiasDisplay(HeatMapDisplay):
    """Table of colours: the groups that each prototype is read as, and whether as its own class.

    A row is a prototype. A frame marks the group that is typical of its class in training, if
    there is one: a dark field within it is a prototype that shows this group. The last column is
    the probability of its own class. Of more than 100 prototypes, the 100 are drawn that show this
    group most. It is recommended to use :meth:`from_report` to make one.

    Parameters
    ----------
    group_probabilities : array-like of shape (n_prototypes, n_groups)
        Probabilities that each prototype is read as each group.
    own_class_probability : array-like of shape (n_prototypes,)
        Probability that it is read as its own class.
    prototype_labels : array-like of shape (n_prototypes,)
        Classes of the prototypes.
    own_groups : array-like of shape (n_prototypes,)
        Group that is typical of the class of each prototype; None where there is none.
    groups : array-like of shape (n_groups,)
        Groups, in the order of the columns.
    prototypes : array-like of shape (n_prototypes, height, width, 3), default=None
        Pictures to show beside the rows, float values in [0, 1].
    group_reliance : float, default=None
        A number for the title.
    class_names, group_names : dict or sequence of str, default=None
        Names to show instead of the labels: by label, or one each in sorted order.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    image_ : matplotlib AxesImage
        The colours, of shape (n_rows, n_groups + 1).
    texts_ : ndarray of shape (n_rows, n_groups + 1)
        Their matplotlib Texts; None where a cell is too small for one.
    frames_ : list of matplotlib Rectangle
        The frame of each row.

    See Also
    --------
    sklgm.bias.diagnose_bias : The figures behind it.

    Examples
    --------
    >>> from sklgm.plotting import BiasDisplay
    >>> display = BiasDisplay(
    ...     group_probabilities=[[0.9, 0.1], [0.3, 0.7]],
    ...     own_class_probability=[0.6, 0.8],
    ...     prototype_labels=["cow", "camel"],
    ...     own_groups=["grass", "sand"],
    ...     groups=["grass", "sand"],
    ... )
    >>> display.plot()
    <...>
    """

    group_probabilities: Any
    own_class_probability: Any
    prototype_labels: Any
    own_groups: Any
    groups: Any
    prototypes: Any = None
    group_reliance: float | None = None
    class_names: Any = None
    group_names: Any = None

    @classmethod
    def from_report(cls, report, *, class_names=None, group_names=None, ax=None):
        """Draw a report.

        Parameters
        ----------
        report : BiasReport
            A report of :func:`sklgm.bias.diagnose_bias`.
        class_names, group_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one each in sorted order.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        BiasDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is something else.
        """
        check_result(report, "BiasReport", "diagnose_bias")
        images = report.prototypes.images
        display = cls(
            group_probabilities=report.group_probabilities,
            own_class_probability=[record["class_probability"] for record in report.records],
            prototype_labels=report.prototypes.labels,
            own_groups=[record["group"] for record in report.records],
            groups=report.groups,
            prototypes=images if images.ndim == 4 else None,
            group_reliance=report.group_reliance,
            class_names=class_names,
            group_names=group_names,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the table.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        BiasDisplay
            The display itself.
        """
        labels, groups = np.asarray(self.prototype_labels), np.asarray(self.groups)
        framed = np.asarray(self.own_groups)[:, None] == groups
        values = np.column_stack([self.group_probabilities, self.own_class_probability])
        shows = (values[:, :-1] * framed).sum(axis=1)
        rows = np.sort(np.argsort(-shows, kind="stable")[:_MOST_ROWS])
        values = values[rows]
        classes, of_class = np.unique(labels, return_inverse=True)
        names = resolve_class_names(classes, self.class_names)
        self._draw_cells(
            ax,
            values,
            rows=[names[index] for index in of_class[rows]],
            columns=[*resolve_class_names(groups, self.group_names), "own class"],
            texts=[[f"{value:.2f}" for value in line] for line in values],
            lowest=0,
            framed=framed[rows],
            label="probability",
            n_beside=self.prototypes is not None,
        )
        self.ax_.axvline(len(groups) - 0.5, color="white", lw=6)
        if self.prototypes is not None:
            check_consistent_length(self.prototypes, labels)
            self._draw_pictures(np.asarray(self.prototypes)[rows])
            self.ax_.set_xlim(-1.5, len(groups) + 0.5)
        which = "framed: typical of its class" if framed.any() else "none is typical of a class"
        title = f"read as group ({which})"
        if self.group_reliance is not None and framed.any():  # otherwise it is 0 by definition
            title = f"group reliance {self.group_reliance:.2f}\n{title}"
        if len(rows) < len(labels):
            title += f"\n{len(rows)} of {len(labels)} prototypes that show it most"
        self.ax_.set_title(title, fontsize=10)
        self.ax_.set_ylabel("prototype of")
        return self

    def _draw_pictures(self, pictures: np.ndarray) -> None:
        """Draw a picture to the left of each row."""
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        # In points, so that they stay square whatever the cells are.
        zoom = 0.88 * 72 * min(self._cell) / max(pictures.shape[1:3])
        for row, picture in enumerate(pictures):
            image = OffsetImage(picture, zoom=zoom, interpolation="nearest")
            self.ax_.add_artist(AnnotationBbox(image, (-1, row), frameon=False, pad=0))
