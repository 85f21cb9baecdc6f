"""How alike two feature spaces are on the same images: mutual neighbours and linear CKA.

Both scores are computed in two steps: what concerns one space alone, once, and then the
comparison, in which the rows of the second space may be in another order. That order is what a
permutation null changes, so that hundreds of permutations cost little.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length

from sklgm.utils.directions import directions

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
    return _score(A, B, "mutual_knn", n_neighbors)


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
    return _score(A, B, "linear_cka")


def metric_score(metric: Any, n_neighbors: int) -> tuple[Callable, Callable]:
    """Return a metric in its two steps.

    The first turns the features of one space into what is compared; the second turns two of these
    and an order of the second one's rows into a float.
    """
    if callable(metric):
        return (lambda features: features), lambda a, b, rows: float(metric(a, b[rows]))
    if metric == "mutual_knn":
        return partial(_neighbors, n_neighbors=n_neighbors), _share_in_common
    return _centred, _cka


def check_features(features: Any, name: str) -> np.ndarray:
    """Return features in float64, or raise a ValueError that names them."""
    return check_array(features, dtype=np.float64, ensure_min_samples=2, input_name=name)


def check_pair(A: Any, B: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays of features in float64, with a row for each of the same images."""
    A, B = check_features(A, "A"), check_features(B, "B")
    check_consistent_length(A, B)
    return A, B


def _score(A: Any, B: Any, metric: str, n_neighbors: int = 10) -> float:
    A, B = check_pair(A, B)
    prepare, compare = metric_score(metric, n_neighbors)
    return compare(prepare(A), prepare(B), np.arange(len(A)))


def _neighbors(features: np.ndarray, n_neighbors: int) -> Any:
    """Return a sparse matrix (n, n) with ones where the column is a neighbour of the row."""
    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine", algorithm="brute")
    # Without a query, a row is not its own neighbour.
    return search.fit(features).kneighbors_graph()


def _share_in_common(a: Any, b: Any, rows: np.ndarray) -> float:
    return float(a.multiply(b[rows][:, rows]).sum() / a.nnz)


def _centred(features: np.ndarray) -> np.ndarray:
    """Return rows of length one with columns centred, scaled to a Gram matrix of norm one."""
    rows = directions(features)
    rows -= rows.mean(axis=0)
    if rows.shape[1] > len(rows):
        # Only the Gram matrix counts, and these square rows have the same one.
        rows = np.transpose(np.linalg.qr(rows.T, mode="r"))
    norm = np.linalg.norm(rows.T @ rows)
    if norm < _NO_SPREAD * len(rows):
        raise ValueError(
            "All rows of features point the same way. Check the images and the backbone's weights."
        )
    return rows / np.sqrt(norm)


def _cka(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
    return float(np.clip(np.square(a.T @ b[rows]).sum(), 0, 1))
