"""Scores beside what chance gives: calibration by a permutation null."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from sklgm.alignment._features import check_pair, metric_score
from sklgm.utils.random import own_random_state

# Probability with which unrelated spaces exceed the threshold.
_ALPHA = 0.05

CALIBRATION_CONSTRAINTS = {
    "metric": [StrOptions({"mutual_knn", "linear_cka"}), callable],
    # With fewer, not even the highest score of all would be beyond the threshold.
    "n_permutations": [Interval(Integral, 19, None, closed="left")],
    "random_state": ["random_state"],
}


@dataclass(frozen=True)
class Alignment:
    """What :func:`calibrate` returns: how alike two feature spaces are, beside chance.

    Parameters
    ----------
    score : float
        The metric itself.
    calibrated : float
        A score in [0, 1]: 0 up to ``threshold``, 1 where the score is 1, linear in between; 0
        throughout if ``threshold`` is 1.
    p_value : float
        Share of permutations that score as high, in (0, 1]; the given order counts as one.
    null_mean : float
        Mean score of the permutations.
    threshold : float
        The score that chance exceeds with a probability of 5 %.
    """

    score: float
    calibrated: float
    p_value: float
    null_mean: float
    threshold: float


def calibrate(
    A: Any,
    B: Any,
    *,
    metric: str | Callable[[np.ndarray, np.ndarray], float] = "mutual_knn",
    n_neighbors: int = 10,
    n_permutations: int = 200,
    random_state: Any = None,
) -> Alignment:
    """Compare two feature spaces, and the same with their images shuffled.

    Raw scores of unrelated spaces grow with the number of features and as images get few, so
    that scores of different pairs of nets do not compare. Shuffling the rows of one space keeps
    all of that and takes away what the spaces have in common.

    Parameters
    ----------
    A, B : array-like of shape (n_samples, n_features)
        Features of the same images in the same order; the numbers of features may differ.
    metric : {"mutual_knn", "linear_cka"} or callable, default="mutual_knn"
        A callable takes two arrays of float64 and returns a float, at most 1.
    n_neighbors : int, default=10
        Number of neighbours that "mutual_knn" looks at.
    n_permutations : int, default=200
        Random orders of the rows of B, at least 19.
    random_state : int, RandomState instance or None, default=None
        Makes the permutations reproducible.

    Returns
    -------
    Alignment
        The score, the calibrated score, p-value, mean and threshold of the null.

    Raises
    ------
    ValueError
        If features, metric or a number cannot be used.

    See Also
    --------
    alignment_matrix : The same for every pair of several backbones.

    Notes
    -----
    By [1]_: of the ``K`` scores of permutations and the score ``s`` itself, the threshold ``t``
    is the 95 % quantile; ``calibrated = max(0, (s - t) / (1 - t))`` and
    ``p = (1 + #{null >= s}) / (K + 1)``.

    References
    ----------
    .. [1] F. Gröger, S. Wen, M. Brbić, "Revisiting the Platonic Representation Hypothesis: An
       Aristotelian View", 2026, arXiv 2602.14486.

    Examples
    --------
    Unrelated spaces, more features than images:

    >>> import numpy as np
    >>> from sklgm.alignment import calibrate
    >>> A, B = np.random.default_rng(0).normal(size=(2, 40, 500))
    >>> found = calibrate(A, B, metric="linear_cka", random_state=0)
    >>> found.score > 0.8, found.calibrated
    (True, 0.0)
    """
    validate_parameter_constraints(CALIBRATION_CONSTRAINTS, locals(), caller_name="calibrate")
    A, B = check_pair(A, B)
    prepare, compare = metric_score(metric, n_neighbors)
    orders = draw_orders(len(A), n_permutations, random_state)
    return beside_chance(compare, prepare(A), prepare(B), orders)


def draw_orders(n_samples: int, n_permutations: int, random_state: Any) -> np.ndarray:
    """Return random orders of rows, of shape (n_permutations, n_samples)."""
    state = own_random_state(random_state)
    return np.array([state.permutation(n_samples) for _ in range(n_permutations)])


def beside_chance(
    compare: Callable[[Any, Any, np.ndarray], float], a: Any, b: Any, orders: np.ndarray
) -> Alignment:
    """Return the alignment of two spaces that a metric has prepared, with orders of the second."""
    score = compare(a, b, np.arange(orders.shape[1]))
    null = np.array([compare(a, b, rows) for rows in orders])
    threshold = float(np.quantile(np.append(null, score), 1 - _ALPHA))
    # Where chance alone is perfect, as with two images, nothing can be told.
    beyond = (score - threshold) / (1 - threshold) if threshold < 1 else 0.0
    return Alignment(
        score=score,
        calibrated=float(np.clip(beyond, 0, 1)),
        p_value=float((1 + np.sum(null >= score)) / (len(null) + 1)),
        null_mean=float(null.mean()),
        threshold=threshold,
    )
