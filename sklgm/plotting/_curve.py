"""Accuracy over the number of prototypes."""

from __future__ import annotations

import numpy as np

from sklgm.plotting._style import MOST_NAMED_CLASSES, check_result, class_styles, fit_text, pyplot

# Dashes tell lines apart without colour.
_DASHES = ("-", "--", "-.", ":")


class PrototypeCurveDisplay:
    """A line for each selection over the number of prototypes, and level lines beside them.

    It is recommended to use :meth:`from_result` to make a display.

    Parameters
    ----------
    curves : dict of str to array-like of shape (n_points, 3)
        Each row of a curve holds the number of prototypes per class, the mean score and its
        standard deviation; a deviation of NaN is not drawn.
    levels : dict of str to float, default=None
        Scores that do not depend on the number of prototypes, such as that of probes on all
        images.
    metric : str, default="accuracy"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : dict of str to matplotlib ErrorbarContainer or Line2D
        The lines that were drawn, by name.

    Raises
    ------
    ValueError
        If a curve does not have three columns.

    See Also
    --------
    SelectionComparisonDisplay : With one number of prototypes.

    Examples
    --------
    >>> from sklgm.plotting import PrototypeCurveDisplay
    >>> points = [[1, 0.7, 0.02], [5, 0.8, 0.01]]
    >>> display = PrototypeCurveDisplay(curves={"distilled": points}, levels={"all": 0.9})
    >>> display.plot()
    <...>
    """

    def __init__(self, *, curves, levels=None, metric="accuracy"):
        self.curves = curves
        self.levels = levels
        self.metric = metric

    @classmethod
    def from_result(cls, result, *, metric="accuracy", ax=None):
        """Draw what :func:`~sklgm.evaluation.prototype_curve` returns.

        Parameters
        ----------
        result : PrototypeCurve
            The result.
        metric : str, default="accuracy"
            The metric to draw.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        PrototypeCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is something else, or has no such metric.
        """
        check_result(result, "PrototypeCurve", "prototype_curve")
        result._check_metric(metric)
        curves: dict = {}
        levels: dict = {}
        for row in result.summary():
            name, count = row["selection"], row["prototypes_per_class"]
            if count:
                curves.setdefault(name, []).append((count, row[metric], row[f"{metric}_std"]))
            else:
                levels[name] = row[metric]
        return cls(curves=curves, levels=levels, metric=metric).plot(ax)

    def plot(self, ax=None):
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        PrototypeCurveDisplay
            The display itself.
        """
        plt = pyplot()

        if ax is None:
            _, ax = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        self.ax_, self.figure_, self.lines_ = ax, ax.figure, {}
        looks = class_styles(MOST_NAMED_CLASSES)
        for index, (name, points) in enumerate(self.curves.items()):
            points = np.asarray(points, dtype=float)
            if points.ndim != 2 or points.shape[1] != 3:
                raise ValueError(
                    f"curves[{name!r}] must have shape (n_points, 3): prototypes per class, mean "
                    f"and deviation; got {points.shape}."
                )
            places, means, deviations = points.T
            color, marker, _ = looks[index % len(looks)]
            # Side by side, since the deviations of several lines at one place would hide others.
            shift = 1.15 ** ((index + 0.5) / len(self.curves) - 0.5)
            self.lines_[name] = ax.errorbar(
                places * shift,
                means,
                yerr=np.nan_to_num(deviations),
                color=color,
                marker=marker,
                ls=_DASHES[index % len(_DASHES)],
                ms=5,
                lw=1.4,
                capsize=2,
                elinewidth=0.9,
            )
        for name, level in (self.levels or {}).items():
            self.lines_[name] = ax.axhline(level, color="0.35", lw=1.2, ls=(0, (6, 3)))
        counts = {int(point[0]) for points in self.curves.values() for point in points}
        every = sorted(counts or {1})
        ax.set_xscale("log")
        ax.set_xticks(every, [str(count) for count in every])
        ax.xaxis.set_minor_locator(plt.NullLocator())
        ax.set_xlabel("prototypes per class")
        ax.set_ylabel(f"{self.metric.replace('_', ' ')} on test images")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        self._name()
        return self

    def _name(self):
        """Write the legend beside the axes."""
        box = self.ax_.legend(
            list(self.lines_.values()),
            [" "] * len(self.lines_),
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
            fontsize=9 if len(self.lines_) <= 16 else 8,
            handlelength=2.6,
        )
        # Set afterwards: a legend would leave out names that start with an underscore.
        for text, name in zip(box.get_texts(), self.lines_, strict=True):
            text.set(text=fit_text(name, 24), parse_math=False)
