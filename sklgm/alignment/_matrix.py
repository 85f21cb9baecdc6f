"""Alignment of every pair of several backbones, and the matrix it is returned as."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import validate_parameter_constraints

from sklgm.alignment._calibration import CALIBRATION_CONSTRAINTS, beside_chance, draw_orders
from sklgm.alignment._features import check_features, metric_score
from sklgm.backbones import Backbone
from sklgm.backbones._several import name_backbones
from sklgm.estimators.embedder import BackboneEmbedder
from sklgm.plotting import AlignmentDisplay
from sklgm.utils.tables import html_table, markdown


@dataclass(frozen=True, eq=False, repr=False)
class AlignmentMatrix:
    """Alignment of backbones with each other, or of prototypes with backbones.

    Parameters
    ----------
    metric : str
        Name of what was measured.
    rows, columns : tuple of str
        Names: the same backbones for :func:`alignment_matrix`; prototypes and backbones for
        :func:`gradient_alignment_matrix`.
    scores : ndarray of shape (n_rows, n_columns)
        The metric itself, float64.
    calibrated, p_values, null_means : ndarray of shape (n_rows, n_columns) or None
        Beside chance, as in `Alignment`; None for gradients.
    low, high : ndarray of shape (n_rows, n_columns) or None
        Bootstrap intervals, for gradients; None otherwise.
    """

    metric: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    scores: np.ndarray
    calibrated: np.ndarray | None = None
    p_values: np.ndarray | None = None
    null_means: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def values(self, name: str = "scores") -> np.ndarray:
        """Return one of the matrices by its name.

        Parameters
        ----------
        name : str, default="scores"
            "scores", "calibrated", "p_values", "null_means", "low" or "high".

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            The matrix, float64.

        Raises
        ------
        ValueError
            If the result has no such matrix.
        """
        found = [field.name for field in fields(self)[3:] if getattr(self, field.name) is not None]
        if name not in found:
            raise ValueError(f"values={name!r} is none of this result's: {', '.join(found)}.")
        return getattr(self, name)

    def to_markdown(self, *, values: str | None = None) -> str:
        """Return the matrix in Markdown.

        Parameters
        ----------
        values : str or None, default=None
            The matrix to take, as in :meth:`values`. None takes calibrated values where there are
            some, and otherwise the scores.

        Returns
        -------
        str
            Three decimals. Scores that have an interval are followed by it, in brackets.

        Raises
        ------
        ValueError
            If the result has no such matrix.
        """
        return markdown(*self._table(values))

    def _name_and_label(self, values: str | None) -> tuple[str, str]:
        """Return the name of the matrix to show, and what to call its values."""
        name = values or ("scores" if self.calibrated is None else "calibrated")
        label = self.metric if name == "scores" else f"{self.metric}, {name}"
        return name, label.replace("_", " ")

    def _table(self, values: str | None = None) -> tuple[list[str], list[list[str]]]:
        """Return the titles and the cells of each row."""
        name, label = self._name_and_label(values)
        cells = [[f"{number:.3f}" for number in row] for row in self.values(name)]
        if name == "scores" and self.low is not None and self.high is not None:
            for (i, j), low in np.ndenumerate(self.low):
                cells[i][j] += f" [{low:.3f}, {self.high[i, j]:.3f}]"
        lines = [[row, *line] for row, line in zip(self.rows, cells, strict=True)]
        return [label, *self.columns], lines

    def plot(self, ax: Any = None, *, values: str | None = None) -> Any:
        """Draw the matrix as a heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.
        values : str or None, default=None
            The matrix to draw, as in :meth:`to_markdown`.

        Returns
        -------
        AlignmentDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the result has no such matrix.
        """
        return AlignmentDisplay.from_matrix(self, values=values, ax=ax)

    def __repr__(self) -> str:
        return f"{type(self).__name__}\n{self.to_markdown()}"

    def _repr_html_(self) -> str:
        return html_table(*self._table())


def alignment_matrix(
    backbones: Sequence[str | Backbone] | Mapping[str, str | Backbone],
    X: Any,
    *,
    metric: str | Callable[[np.ndarray, np.ndarray], float] = "mutual_knn",
    n_neighbors: int = 10,
    n_permutations: int = 200,
    embedder: BackboneEmbedder | None = None,
    random_state: Any = None,
) -> AlignmentMatrix:
    """Compare the feature spaces of several backbones on the same images, pair by pair.

    Images pass each backbone once. What is compared are features of plain centre crops, as
    each backbone's own library prepares them.

    Parameters
    ----------
    backbones : list of str or Backbone, or dict of str to str or Backbone
        The nets, perhaps under names of your own.
    X : array-like of images
        Images, as every estimator takes them.
    metric : {"mutual_knn", "linear_cka"} or callable, default="mutual_knn"
        See :func:`calibrate`. A callable is taken to be symmetric.
    n_neighbors : int, default=10
        Number of neighbours that "mutual_knn" looks at.
    n_permutations : int, default=200
        Random orders of the images, at least 19; the same ones for all pairs.
    embedder : BackboneEmbedder or None, default=None
        Settings of the passes, such as ``image_size`` or ``memory``. Its backbone is not used.
    random_state : int, RandomState instance or None, default=None
        Makes the permutations reproducible.

    Returns
    -------
    AlignmentMatrix
        Symmetric.

    Raises
    ------
    ValueError
        If something cannot be used.

    See Also
    --------
    calibrate : For features that are at hand.
    gradient_alignment_matrix : Whether prototypes mean the same to several backbones.

    Examples
    --------
    ::

        matrix = alignment_matrix(
            {"lite0": "efficientnet_lite0", "lite2": "efficientnet_lite2"},
            X,
            embedder=BackboneEmbedder(image_size=56),
        )
        print(matrix.to_markdown())
    """
    constraints = {**CALIBRATION_CONSTRAINTS, "embedder": [BackboneEmbedder, None]}
    validate_parameter_constraints(constraints, locals(), caller_name="alignment_matrix")
    nets = name_backbones(backbones)
    prepare, compare = metric_score(metric, n_neighbors)
    embedder = embedder or BackboneEmbedder()
    spaces = []
    for net in nets.values():
        features = clone(embedder).set_params(backbone=net).fit_transform(X)
        spaces.append(prepare(check_features(features, "X")))
    orders = draw_orders(len(features), n_permutations, random_state)
    cells = np.empty((4, len(nets), len(nets)))
    for i, j in combinations_with_replacement(range(len(nets)), 2):
        found = beside_chance(compare, spaces[i], spaces[j], orders)
        cells[:, i, j] = found.score, found.calibrated, found.p_value, found.null_mean
        cells[:, j, i] = cells[:, i, j]
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "alignment")
    return AlignmentMatrix(name, tuple(nets), tuple(nets), *cells)
