"""Accuracy over the number of prototypes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklgm.plotting._style import LOOKS, Display, draw_legend, pyplot
from sklgm.utils.tables import check_result

# Dashes tell lines apart without colour.
_DASHES = ("-", "--", "-.", ":")


@dataclass(kw_only=True, eq=False, repr=False)
class PrototypeCurveDisplay(Display):
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

    curves: Mapping[str, Any]
    levels: Mapping[str, float] | None = None
    metric: str = "accuracy"

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
        ax = self._set_axes(ax, (7.2, 4.2))
        self.lines_ = {}
        sizes = {"ms": 5, "lw": 1.4, "capsize": 2, "elinewidth": 0.9}
        for index, (name, points) in enumerate(self.curves.items()):
            places, means, deviations = np.asarray(points, dtype=float).T
            color, marker, _ = LOOKS[index % len(LOOKS)]
            # Side by side, since the deviations of several lines at one place would hide others.
            shift = 1.15 ** ((index + 0.5) / len(self.curves) - 0.5)
            looks = {"color": color, "marker": marker, "ls": _DASHES[index % len(_DASHES)]}
            errors = np.nan_to_num(deviations)
            self.lines_[name] = ax.errorbar(places * shift, means, yerr=errors, **looks, **sizes)
        for name, level in (self.levels or {}).items():
            self.lines_[name] = ax.axhline(level, color="0.35", lw=1.2, ls=(0, (6, 3)))
        counts = sorted({int(point[0]) for points in self.curves.values() for point in points})
        ax.set(xscale="log", xlabel="prototypes per class")
        ax.set_xticks(counts, map(str, counts))
        ax.xaxis.set_minor_locator(pyplot().NullLocator())
        ax.set_ylabel(f"{self.metric.replace('_', ' ')} on test images")
        ax.grid(axis="y", color="0.9")
        draw_legend(ax, list(self.lines_.values()), list(self.lines_), handlelength=2.6)
        return self
