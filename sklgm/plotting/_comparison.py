"""Accuracies of selections side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklgm.plotting._style import PALETTE, Display, shorten
from sklgm.utils.tables import check_result


@dataclass(kw_only=True, eq=False, repr=False)
class SelectionComparisonDisplay(Display):
    """Each run of a comparison as a dot, mean and standard deviation of a row beside its dots.

    It is recommended to use :meth:`from_result` to make a display.

    Parameters
    ----------
    scores : sequence of array-like of shape (n_runs,)
        Scores of the runs of each row.
    names : sequence of str
        Names of the rows.
    n_images : sequence of int
        Images that the probes of each row were trained on.
    metric : str, default="accuracy"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    dots_ : list of matplotlib PathCollection
        The runs of each row.

    See Also
    --------
    PrototypeCurveDisplay : Over the number of prototypes.

    Examples
    --------
    >>> from sklgm.plotting import SelectionComparisonDisplay
    >>> display = SelectionComparisonDisplay(
    ...     scores=[[0.5, 0.6], [0.7, 0.8]], names=["random", "distilled"], n_images=[8, 8]
    ... )
    >>> display.plot()
    <...>
    """

    scores: Sequence[Any]
    names: Sequence[str]
    n_images: Sequence[int]
    metric: str = "accuracy"

    @classmethod
    def from_result(cls, result, *, metric="accuracy", ax=None):
        """Draw what :func:`~sklgm.evaluation.compare_selections` returns.

        Parameters
        ----------
        result : SelectionComparison
            The result.
        metric : str, default="accuracy"
            The metric to draw.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        SelectionComparisonDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is something else, or has no such metric.
        """
        check_result(result, "SelectionComparison", "compare_selections")
        result._check_metric(metric)
        rows = result._by_row()
        display = cls(
            scores=[[run[metric] for run in runs] for runs in rows.values()],
            names=[name for (name,) in rows],
            n_images=[runs[0]["n_images"] for runs in rows.values()],
            metric=metric,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the runs.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        SelectionComparisonDisplay
            The display itself.
        """
        n_rows = len(self.names)
        ax = self._set_axes(ax, (6.4, max(2, 1.3 + 0.36 * n_rows)))
        self.dots_ = []
        for place, runs in enumerate(self.scores):
            at = np.full(len(runs), place)
            self.dots_.append(ax.scatter(runs, at, s=22, color=PALETTE[0], alpha=0.35, lw=0))
            deviation = np.std(runs, ddof=1) if len(runs) > 1 else 0
            ax.errorbar(
                np.mean(runs), place - 0.22, xerr=deviation, fmt="o", ms=5, color="black", capsize=3
            )
        labels = zip(self.names, self.n_images, strict=True)
        rows = [f"{shorten(name)} ({n})" for name, n in labels]
        ax.set_yticks(range(len(self.scores)), rows, parse_math=False)
        ax.set(ylim=(n_rows - 0.5, -0.6), ylabel="trained on (images)")
        ax.set_xlabel(f"{self.metric.replace('_', ' ')} on test images")
        ax.grid(axis="x", color="0.9")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        return self
