"""How alike backbones are, as a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklgm.plotting._heatmap import HeatMapDisplay
from sklgm.utils.tables import check_result


@dataclass(kw_only=True, eq=False, repr=False)
class AlignmentDisplay(HeatMapDisplay):
    """Heat map of the alignment of backbones, or of prototypes with backbones.

    It is recommended to use :meth:`from_matrix` to make a display.

    Parameters
    ----------
    values : array-like of shape (n_rows, n_columns)
        The values to draw.
    rows, columns : sequence of str
        Names.
    label : str, default="alignment"
        Name of the values, beside the colour bar.

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
    TransferDisplay : How well prototypes transfer between backbones.

    Examples
    --------
    >>> from sklgm.plotting import AlignmentDisplay
    >>> names = ["lite0", "lite2"]
    >>> display = AlignmentDisplay(values=[[1, 0.4], [0.4, 1]], rows=names, columns=names)
    >>> display.plot()
    <...>
    """

    values: Any
    rows: Sequence[str]
    columns: Sequence[str]
    label: str = "alignment"

    @classmethod
    def from_matrix(cls, matrix, *, values=None, ax=None):
        """Draw what a function of :mod:`sklgm.alignment` returned.

        Parameters
        ----------
        matrix : AlignmentMatrix
            From :func:`~sklgm.alignment.alignment_matrix` or
            :func:`~sklgm.alignment.gradient_alignment_matrix`.
        values : str or None, default=None
            "scores", "calibrated", or another of its matrices. None takes calibrated values where
            there are some, and otherwise the scores.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        AlignmentDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is something else, or has no such matrix.
        """
        check_result(matrix, "AlignmentMatrix", "alignment_matrix or gradient_alignment_matrix")
        name, label = matrix._name_and_label(values)
        display = cls(
            values=matrix.values(name), rows=matrix.rows, columns=matrix.columns, label=label
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the matrix.

        Of values that depend on the order of the names, as those of prototypes do, cells where
        both names are the same have a frame: prototypes at home.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        AlignmentDisplay
            The display itself.
        """
        values = np.asarray(self.values, dtype=float)
        same = np.array([[row == column for column in self.columns] for row in self.rows])
        symmetric = values.shape[0] == values.shape[1] and np.array_equal(values, values.T)
        self._draw_cells(
            ax,
            values,
            rows=self.rows,
            columns=self.columns,
            texts=[[f"{value:.3f}" for value in line] for line in values],
            framed=same & (not symmetric),
            label=self.label,
        )
        return self
