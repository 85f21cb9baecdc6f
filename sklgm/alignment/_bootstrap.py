"""Bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_RESAMPLES = 2000


def percentile_interval(
    samples: list[np.ndarray],
    statistic: Callable[..., np.ndarray],
    random_state: np.random.RandomState,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a statistic.

    Parameters
    ----------
    samples : list of ndarray of shape (n,)
        They are drawn together, with replacement.
    statistic : callable
        It takes the samples with a resample in each row, and returns one value a row. Values that
        are NaN are left out.
    random_state : RandomState
        It seeds the draws.

    Returns
    -------
    low, high : float
        The bounds.
    """
    rng = np.random.default_rng(random_state.randint(2**31 - 1))
    n = len(samples[0])
    rows = rng.integers(n, size=(_RESAMPLES, n))
    found = statistic(*(sample[rows] for sample in samples))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
