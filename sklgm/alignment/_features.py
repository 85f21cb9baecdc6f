"""How alike two feature spaces are on the same images: mutual neighbours and linear CKA.

Both scores are computed in two steps: what concerns one space alone, once, and then the
comparison, in which the rows of the second space may be in another order. That order is what a
permutation null changes, so that hundreds of permutations cost little.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array

from sklgm.utils.directions import directions
from sklgm.utils.numbers import is_whole

METRICS = ("mutual_knn", "linear_cka")

# Images up to which Gram matrices are kept, 128 MiB each.
_LARGEST_GRAM = 4096
# What it takes to look an entry of a reordered one up, in products of a matrix product.
_PRODUCTS_A_LOOKUP = 64
# Squared spread of directions that is rounding in float32.
_NO_SPREAD = 1e-12


def mutual_knn(A: Any, B: Any, *, n_neighbors: int = 10) -> float:
    """Compute how many nearest neighbours images have in common in two feature spaces.

    Parameters
    ----------
    A, B : array-like of shape (n_samples, n_features)
        Features of the same images in the same order; the numbers of features may differ.
    n_neighbors : int, default=10
        Neighbours of each image, fewer than there are images.

    Returns
    -------
    float
        Mean share of common neighbours, in [0, 1]; ``n_neighbors / (n_samples - 1)`` is expected
        of unrelated spaces.

    Raises
    ------
    ValueError
        If features are no finite 2-D arrays with a row for each image, or ``n_neighbors`` is not
        from 1 to ``n_samples - 1``.

    See Also
    --------
    calibrate : The same beside what chance gives.
    linear_cka : Compares whole spaces instead of neighbourhoods.

    Notes
    -----
    As in [1]_: neighbours are those of the largest cosine (the inner product of rows of length
    one), and an image is no neighbour of its own. Computed in float64.

    References
    ----------
    .. [1] M. Huh, B. Cheung, T. Wang, P. Isola, "The Platonic Representation Hypothesis", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm.alignment import mutual_knn
    >>> A = np.random.default_rng(0).normal(size=(50, 8))
    >>> mutual_knn(A, -2 * A)
    1.0
    """
    A, B = check_pair(A, B)
    return _as_given(metric_score("mutual_knn", n_neighbors), A, B)


def linear_cka(A: Any, B: Any) -> float:
    """Compute the centred kernel alignment of two feature spaces, with linear kernels.

    Parameters
    ----------
    A, B : array-like of shape (n_samples, n_features)
        Features of the same images in the same order; the numbers of features may differ.

    Returns
    -------
    float
        In [0, 1]; 1 for spaces that are equal up to rotation and scale. With fewer images than
        features, unrelated spaces score high too; see `calibrate`.

    Raises
    ------
    ValueError
        If features are no finite 2-D arrays with a row for each image, or all rows of one point
        the same way.

    See Also
    --------
    calibrate : The same beside what chance gives.
    mutual_knn : Compares neighbourhoods instead of whole spaces.

    Notes
    -----
    With rows brought to length one, as in [2]_, and columns centred,
    ``CKA = ||A^T B||^2 / (||A^T A|| ||B^T B||)`` with Frobenius norms, which is
    ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` of the kernels ``K = A A^T`` and ``L = B B^T``
    [1]_, the biased estimate. Computed in float64.

    References
    ----------
    .. [1] S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network
       Representations Revisited", 2019.
    .. [2] M. Huh, B. Cheung, T. Wang, P. Isola, "The Platonic Representation Hypothesis", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm.alignment import linear_cka
    >>> A = np.random.default_rng(0).normal(size=(50, 8))
    >>> round(linear_cka(A, -2 * A), 6)
    1.0
    """
    A, B = check_pair(A, B)
    return _as_given(metric_score("linear_cka"), A, B)


def metric_score(metric: Any, n_neighbors: int = 10) -> tuple[Callable, Callable]:
    """Return a metric in its two steps.

    Parameters
    ----------
    metric : {"mutual_knn", "linear_cka"} or callable
        A callable takes A and B and returns a float.
    n_neighbors : int, default=10
        Number of neighbours that "mutual_knn" looks at.

    Returns
    -------
    prepare : callable
        It turns the features of one space, an array, into what is compared.
    compare : callable
        It turns two such things, and an order of the second one's rows (ints), into a float.

    Raises
    ------
    ValueError
        If the metric is anything else.
    """
    if callable(metric):
        return (lambda features: features), lambda a, b, rows: float(metric(a, b[rows]))
    if metric == "mutual_knn":
        return partial(_neighbors, n_neighbors=n_neighbors), _share_in_common
    if metric == "linear_cka":
        return _Centred, _cka
    raise ValueError(
        f"metric must be one of {', '.join(map(repr, METRICS))}, or a function of two arrays of "
        f"features that returns a number; got {metric!r}."
    )


def check_features(features: Any, name: str) -> np.ndarray:
    """Return features in float64, or raise a ValueError that names them."""
    return check_array(features, dtype=np.float64, ensure_min_samples=2, input_name=name)


def check_pair(A: Any, B: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of features in float64, with a row for each of the same images."""
    A, B = check_features(A, "A"), check_features(B, "B")
    if len(A) != len(B):
        raise ValueError(
            f"A has {len(A)} rows and B {len(B)}. Pass features of the same images, in the same "
            f"order."
        )
    return A, B


def _as_given(steps: tuple[Callable, Callable], A: np.ndarray, B: np.ndarray) -> float:
    prepare, compare = steps
    return compare(prepare(A), prepare(B), np.arange(len(A)))


def _neighbors(features: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return the places (n, n_neighbors) of each row's nearest others."""
    most = len(features) - 1
    if not is_whole(n_neighbors) or not 1 <= n_neighbors <= most:
        raise ValueError(
            f"n_neighbors must be a whole number from 1 to {most}, one less than there are images; "
            f"got {n_neighbors!r}."
        )
    search = NearestNeighbors(n_neighbors=int(n_neighbors), metric="cosine", algorithm="brute")
    # Without a query, a row is not its own neighbour.
    return search.fit(features).kneighbors(return_distance=False)


def _share_in_common(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
    """Compare neighbours. In the new order, row i has the neighbours of the old row rows[i]."""
    n = len(a)
    place = np.empty(n, dtype=np.intp)
    place[rows] = np.arange(n)
    first = np.arange(n)[:, None] * n
    # One number for each pair of an image and its neighbour.
    common = np.isin(first + a, first + place[b[rows]], assume_unique=True)
    return float(common.mean())


class _Centred:
    """Rows of length one, columns centred, scaled so that the Gram matrix has norm one."""

    def __init__(self, features: np.ndarray) -> None:
        rows = directions(features)
        rows -= rows.mean(axis=0)
        # Of the two Gram matrices the smaller one: both have the same norm.
        norm = np.linalg.norm(rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T)
        if norm < _NO_SPREAD * len(rows):
            raise ValueError(
                "All rows of features point the same way, so there is nothing to align. Check that "
                "the images differ and that the backbone is a trained one."
            )
        self.rows = rows / np.sqrt(norm)

    @cached_property
    def gram(self) -> np.ndarray:
        return self.rows @ self.rows.T


def _cka(a: _Centred, b: _Centred, rows: np.ndarray) -> float:
    """Compare by the quicker form, unless its matrices would be too large."""
    n = len(rows)
    if n <= min(a.rows.shape[1] * b.rows.shape[1] / _PRODUCTS_A_LOOKUP, _LARGEST_GRAM):
        score = np.vdot(a.gram, b.gram[np.ix_(rows, rows)])
    else:
        score = np.square(a.rows.T @ b.rows[rows]).sum()
    return float(np.clip(score, 0, 1))
