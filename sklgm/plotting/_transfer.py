"""How well prototypes made for some backbones serve others, as a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklgm.plotting._heatmap import HeatMapDisplay
from sklgm.utils.tables import check_result


@dataclass(kw_only=True, eq=False, repr=False)
class TransferDisplay(HeatMapDisplay):
    """Heat map of a transfer matrix: made for the row, evaluated on the column.

    It is recommended to use :meth:`from_matrix` to make a display.

    Parameters
    ----------
    scores : array-like of shape (n_rows, n_columns)
        Mean scores.
    errors : array-like of shape (n_rows, n_columns)
        Their standard errors; NaN is not written.
    reference : array-like of shape (n_columns,)
        Score of probes on all images, for each column: colours tell the share of it.
    rows, columns : sequence of str
        What prototypes were made for or are, and the backbones they are evaluated on.
    at_home : array-like of bool of shape (n_rows, n_columns), default=None
        Cells whose prototypes were made for that backbone. They are framed.
    metric : str, default="accuracy"
        Name of the score.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    image_ : matplotlib AxesImage
        The coloured cells.
    texts_ : ndarray of shape (n_rows, n_columns)
        Their matplotlib Texts; None where a cell is too small for one.
    frames_ : list of matplotlib Rectangle
        The frames.

    See Also
    --------
    AlignmentDisplay : How alike the backbones are.

    Examples
    --------
    >>> from sklgm.plotting import TransferDisplay
    >>> display = TransferDisplay(
    ...     scores=[[0.9, 0.6], [1, 1]],
    ...     errors=[[0.01, 0.02], [0.01, 0.01]],
    ...     reference=[1, 1],
    ...     rows=["lite0", "all"],
    ...     columns=["lite0", "lite2"],
    ... )
    >>> display.plot()
    <...>
    """

    scores: Any
    errors: Any
    reference: Any
    rows: Sequence[str]
    columns: Sequence[str]
    at_home: Any = None
    metric: str = "accuracy"

    @classmethod
    def from_matrix(cls, matrix, *, metric="accuracy", ax=None):
        """Draw what :func:`~sklgm.evaluation.cross_model_transfer` returns.

        Parameters
        ----------
        matrix : TransferMatrix
            The result.
        metric : str, default="accuracy"
            What to write. Colour is the same divided by that of the probe on all images of the
            column.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        TransferDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is something else, or has no such metric.
        """
        check_result(matrix, "TransferMatrix", "cross_model_transfer")
        matrix._check_metric(metric)
        rows, columns, cells = matrix._cells()

        def of_cells(name):
            return np.array([[cells[row, column][name] for column in columns] for row in rows])

        display = cls(
            scores=of_cells(metric),
            errors=of_cells(f"{metric}_sem"),
            reference=of_cells(metric)[rows.index("all")],
            rows=rows,
            columns=columns,
            at_home=of_cells("at_home") == True,  # noqa: E712 -- None where nothing was distilled
            metric=metric,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw means and standard errors, coloured by their share of the full data.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        TransferDisplay
            The display itself.
        """
        scores, reference = (np.asarray(one, dtype=float) for one in (self.scores, self.reference))
        shares = np.divide(scores, reference, out=np.zeros(scores.shape), where=reference > 0)
        errors = np.broadcast_to(self.errors, scores.shape)
        texts = np.vectorize(_score_text, otypes=[object])(scores, errors)
        name = self.metric.replace("_", " ")
        colours = f"colours: {name.removeprefix('relative ')} / that of all images"
        self._draw_cells(
            ax,
            shares,
            rows=self.rows,
            columns=self.columns,
            texts=texts,
            framed=() if self.at_home is None else self.at_home,
            label=f"{colours}\nnumbers: {name}",
        )
        self.ax_.set(xlabel="evaluated on", ylabel="distilled on, or chosen as")
        return self


def _score_text(score, error):
    return f"{score:.2f}" if np.isnan(error) else f"{score:.2f}\n± {error:.2f}"
