"""How well prototypes made for some backbones serve others, as a heat map."""

from __future__ import annotations

import numpy as np

from sklgm.plotting._heatmap import draw_heat_map, short_number
from sklgm.plotting._style import check_result


class TransferDisplay:
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
    n_distilled : int, default=None
        Rows at the top that were distilled, set apart by a line.
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

    Raises
    ------
    ValueError
        If arrays and names do not fit each other.

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

    def __init__(
        self,
        *,
        scores,
        errors,
        reference,
        rows,
        columns,
        at_home=None,
        n_distilled=None,
        metric="accuracy",
    ):
        self.scores = scores
        self.errors = errors
        self.reference = reference
        self.rows = rows
        self.columns = columns
        self.at_home = at_home
        self.n_distilled = n_distilled
        self.metric = metric

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

        homes = of_cells("at_home")
        display = cls(
            scores=of_cells(metric),
            errors=of_cells(f"{metric}_sem"),
            reference=of_cells(metric)[rows.index("all")],
            rows=rows,
            columns=columns,
            at_home=homes == True,  # noqa: E712 -- None in rows that were not distilled
            n_distilled=sum(home is not None for home in homes[:, 0]),
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
        scores, errors, reference, at_home = self._validate()
        shares = np.divide(scores, reference, out=np.zeros(scores.shape), where=reference > 0)
        short = np.array([[short_number(score) for score in line] for line in scores])
        texts = short.astype(object)
        for place, error in np.ndenumerate(errors):
            if not np.isnan(error):
                texts[place] += f"\n± {short_number(error)}"
        least = min(0.9, np.floor(10 * shares.min()) / 10)
        name = self.metric.replace("_", " ").removeprefix("relative ")
        self.ax_, self.image_, self.texts_ = draw_heat_map(
            ax,
            shares,
            rows=self.rows,
            columns=self.columns,
            texts=texts,
            short_texts=short,
            limits=(least, max(1, shares.max())),
            framed=at_home,
            label=f"{name} / that of all images",
        )
        self.figure_ = self.ax_.figure
        if self.n_distilled is not None:
            self.ax_.axhline(self.n_distilled - 0.5, color="white", lw=4)
        self.ax_.set_xlabel("evaluated on")
        self.ax_.set_ylabel("distilled on, or chosen as")
        return self

    def _validate(self):
        shape = len(self.rows), len(self.columns)
        home = np.zeros(shape, dtype=bool) if self.at_home is None else self.at_home
        found = {"scores": self.scores, "errors": self.errors, "at_home": home}
        arrays = {name: np.asarray(array) for name, array in found.items()}
        arrays["reference"] = np.asarray(self.reference, dtype=float)
        for name, array in arrays.items():
            wanted = shape[1:] if name == "reference" else shape
            if array.shape != wanted or 0 in wanted:
                raise ValueError(
                    f"{name} must have shape {wanted}, by the names of rows and columns; got "
                    f"{array.shape}."
                )
        return (arrays[name] for name in ("scores", "errors", "reference", "at_home"))
