"""Whether alignment tells where prototypes transfer."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata

from sklgm.alignment._bootstrap import percentile_interval
from sklgm.alignment._matrix import AlignmentMatrix
from sklgm.utils.random import own_random_state
from sklgm.utils.tables import check_result, html_table, markdown

# With fewer pairs most resamples have no correlation at all.
_FEWEST_PAIRS = 4


@dataclass(frozen=True)
class Correlation:
    """A coefficient of correlation with its bootstrap interval.

    Parameters
    ----------
    statistic : float
        The correlation, in [-1, 1].
    low, high : float
        Ends of its interval.
    """

    statistic: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class AlignmentTransfer:
    """What :func:`relate_alignment_to_transfer` returns.

    Parameters
    ----------
    pairs : tuple of (str, str)
        The backbones that prototypes were made on and evaluated on.
    alignment, transfer : ndarray of shape (n_pairs,)
        Values of each pair, float64.
    pearson, spearman : Correlation
        Correlation of the two, over the pairs.
    """

    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    alignment: np.ndarray = field(repr=False)
    transfer: np.ndarray = field(repr=False)
    pearson: Correlation
    spearman: Correlation

    def to_markdown(self) -> str:
        """Return the correlations as a table in Markdown.

        Returns
        -------
        str
            A line for each coefficient, with its interval in brackets.
        """
        return markdown(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the titles and the cells of each row."""
        found = {"Pearson": self.pearson, "Spearman": self.spearman}
        cells = [
            [name, f"{one.statistic:.3f} [{one.low:.3f}, {one.high:.3f}]", str(len(self.pairs))]
            for name, one in found.items()
        ]
        return ["coefficient", "correlation", "pairs"], cells

    def _repr_html_(self) -> str:
        return html_table(*self._table())


def relate_alignment_to_transfer(
    alignment: AlignmentMatrix,
    transfer: Any,
    *,
    values: str = "scores",
    metric: str = "relative_accuracy",
    random_state: Any = None,
) -> AlignmentTransfer:
    """Correlate the alignment of backbones with how well prototypes transfer between them.

    Pairs are the cells of both matrices in which prototypes made for one backbone (row) are
    evaluated on another (column).

    Parameters
    ----------
    alignment : AlignmentMatrix
        From :func:`alignment_matrix` or :func:`gradient_alignment_matrix`. Its names must be
        those of the transfer matrix.
    transfer : TransferMatrix
        From :func:`~sklgm.evaluation.cross_model_transfer`. Means over its seeds are used; rows
        that were not distilled are left out.
    values : str, default="scores"
        The values of the alignment to take: "scores" or "calibrated".
    metric : str, default="relative_accuracy"
        What to take of the transfer. Relative accuracy leaves out how good a net is at all.
    random_state : int, RandomState instance or None, default=None
        Makes the intervals reproducible.

    Returns
    -------
    AlignmentTransfer
        Pearson's and Spearman's coefficients with intervals, and the pairs.

    Raises
    ------
    ValueError
        If a matrix has no such values, fewer than 4 pairs are in both, or one of the two is the
        same for all of them.

    Notes
    -----
    The intervals are 95 % percentile bootstraps over pairs, of 2000 resamples. Pairs that share a
    backbone are not independent, and in a symmetric alignment each value counts for two pairs, so
    the intervals are too narrow rather than too wide. The paper on Linear Gradient Matching [1]_
    reports about ``r = 0.83`` over its 12 pairs.

    References
    ----------
    .. [1] G. Cazenavette, A. Torralba, V. Sitzmann, "Dataset Distillation for Pre-Trained
       Self-Supervised Vision Models", 2025.
    """
    check_result(alignment, "AlignmentMatrix", "alignment_matrix or gradient_alignment_matrix")
    check_result(transfer, "TransferMatrix", "cross_model_transfer")
    transfer._check_metric(metric)
    numbers = alignment.values(values)
    means = {
        (row, column): np.mean([run[metric] for run in runs])
        for (row, column, at_home), runs in transfer._by_row().items()
        if at_home is False
    }
    rows, columns = alignment.rows, alignment.columns
    pairs = tuple((row, column) for row, column in means if row in rows and column in columns)
    x = np.array([numbers[rows.index(row), columns.index(column)] for row, column in pairs])
    y = np.array([means[pair] for pair in pairs])
    if len(pairs) < _FEWEST_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError(
            f"A correlation needs at least {_FEWEST_PAIRS} pairs of backbones that are in both "
            f"matrices under the same names, and different values; got {len(pairs)} pairs."
        )
    state = own_random_state(random_state)
    coefficients = [
        Correlation(float(statistic(x, y)), *percentile_interval([x, y], statistic, state))
        for statistic in (_pearson, _spearman)
    ]
    return AlignmentTransfer(pairs, x, y, *coefficients)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's coefficient along the last axis, NaN where one side is constant."""
    # The one of scipy warns for each constant resample.
    x, y = (one - one.mean(axis=-1, keepdims=True) for one in (x, y))
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 1e-12, (x * y).sum(axis=-1) / scale, np.nan)


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))
