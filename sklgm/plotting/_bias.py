"""Which groups prototypes are read as, beside their own class."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sklgm.plotting._heatmap import short_number
from sklgm.plotting._style import check_result, fit_text, pyplot, resolve_class_names

# Inches.
_CELL = 0.62
_SMALL_CELL = 0.3
_MOST_WITH_TEXT = 24


class BiasDisplay:
    """Table of colours: the groups that each prototype is read as, and whether as its own class.

    A row is a prototype. A frame marks the group that its class has more of in training than others
    have: a dark field within it is a prototype that shows this group. The last column is the
    probability of its own class. It is recommended to use :meth:`from_report` to make one.

    Parameters
    ----------
    group_probabilities : array-like of shape (n_prototypes, n_groups)
        Probabilities that each prototype is read as each group.
    own_class_probability : array-like of shape (n_prototypes,)
        Probability that it is read as its own class.
    prototype_labels : array-like of shape (n_prototypes,)
        Classes of the prototypes.
    own_groups : array-like of shape (n_prototypes,)
        Group that goes with the class of each prototype.
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
        The colours, of shape (n_prototypes, n_groups + 1).
    frames_ : list of matplotlib Rectangle
        The frame of each row.
    report_ : BiasReport
        The report that was drawn, if the display was made by :meth:`from_report`.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

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

    def __init__(
        self,
        *,
        group_probabilities,
        own_class_probability,
        prototype_labels,
        own_groups,
        groups,
        prototypes=None,
        group_reliance=None,
        class_names=None,
        group_names=None,
    ):
        self.group_probabilities = group_probabilities
        self.own_class_probability = own_class_probability
        self.prototype_labels = prototype_labels
        self.own_groups = own_groups
        self.groups = groups
        self.prototypes = prototypes
        self.group_reliance = group_reliance
        self.class_names = class_names
        self.group_names = group_names

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
        display.plot(ax)
        display.report_ = report  # type: ignore[attr-defined]
        return display

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
        plt = pyplot()
        from matplotlib.patches import Rectangle

        values, labels, own, groups, pictures = self._validate()
        n_rows, n_groups = len(values), len(groups)
        few = n_rows <= _MOST_WITH_TEXT
        cell = _CELL if few else _SMALL_CELL
        left = -0.5 if pictures is None else -1.5
        if ax is None:
            figsize = (2.6 + cell * (n_groups + 0.5 - left), 1.5 + cell * n_rows)
            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        if pictures is not None:
            for i, picture in enumerate(pictures):
                extent = (-1.44, -0.56, i + 0.44, i - 0.44)
                ax.imshow(picture, extent=extent, interpolation="nearest", vmin=0, vmax=1)
        self.image_ = ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
        # Vermilion, since black is lost on dark blue.
        frame: dict[str, Any] = {"fill": False, "lw": 2, "ec": "#D55E00", "zorder": 3}
        self.frames_ = [
            ax.add_patch(Rectangle((group - 0.46, i - 0.46), 0.92, 0.92, **frame))
            for i, group in enumerate(own)
        ]
        if few:
            for (i, j), value in np.ndenumerate(values):
                ink = "white" if value > 0.65 else "black"
                ax.text(j, i, short_number(value), ha="center", va="center", fontsize=9, color=ink)
        ax.axvline(n_groups - 0.5, color="white", lw=6)
        # After the pictures, each of which sets limits of its own.
        ax.set(xlim=(left, n_groups + 0.5), ylim=(n_rows - 0.5, -0.5), aspect="equal")
        self._name_axes(labels, groups, 10 if few else 7)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        shrink = min(1.0, 10 / n_rows)
        bar = ax.figure.colorbar(
            self.image_, ax=ax, pad=0.02, aspect=25, shrink=shrink, anchor=(0, 1)
        )
        bar.set_label("probability")
        bar.outline.set_visible(False)
        return self

    def _name_axes(self, labels, groups, font_size):
        classes, of_class = np.unique(labels, return_inverse=True)
        names = [fit_text(name, 20) for name in resolve_class_names(classes, self.class_names)]
        columns = [fit_text(name, 20) for name in resolve_class_names(groups, self.group_names)]
        looks = {"parse_math": False, "fontsize": font_size}
        self.ax_.set_yticks(range(len(labels)), [names[index] for index in of_class], **looks)
        slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        self.ax_.set_xticks(range(len(groups) + 1), [*columns, "own class"], **looks, **slant)
        title = "read as group (framed: typical of its class)"
        if self.group_reliance is not None:
            title = f"group reliance {self.group_reliance:.2f}\n{title}"
        self.ax_.set_title(title, fontsize=10)
        self.ax_.set_ylabel("prototype of")

    def _validate(self):
        probabilities = np.asarray(self.group_probabilities, dtype=float)
        groups, own_groups = np.asarray(self.groups), np.asarray(self.own_groups)
        own_class = np.asarray(self.own_class_probability, dtype=float)
        labels = np.asarray(self.prototype_labels)
        if probabilities.ndim != 2 or probabilities.shape[1] != len(groups):
            raise ValueError(
                f"group_probabilities must have shape (n_prototypes, {len(groups)}), a column for "
                f"each of groups; got shape {probabilities.shape}."
            )
        check_consistent_length(probabilities, own_class, labels, own_groups)
        values = np.column_stack([probabilities, own_class])
        if not (values.min() >= 0 and values.max() <= 1 + 1e-6):
            raise ValueError("Probabilities must have values in [0, 1].")
        places = {group: j for j, group in enumerate(groups.tolist())}
        unknown = [group for group in own_groups.tolist() if group not in places]
        if unknown:
            raise ValueError(f"own_groups holds {unknown[0]!r}, which is none of groups.")
        own = [places[group] for group in own_groups.tolist()]
        pictures = None
        if self.prototypes is not None:
            pictures = np.asarray(self.prototypes)
            check_consistent_length(pictures, labels)
            if pictures.ndim != 4 or pictures.shape[3] != 3:
                raise ValueError(
                    f"prototypes must be images of shape (n_prototypes, height, width, 3); got "
                    f"shape {pictures.shape}."
                )
        return values, labels, own, groups, pictures
