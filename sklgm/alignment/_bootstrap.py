"""Bootstrap intervals."""

from collections.abc import Callable

import numpy as np

_RESAMPLES = 2000


def percentile_interval(
    samples: list[np.ndarray],
    statistic: Callable[..., np.ndarray],
    random_state: np.random.RandomState,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a statistic of samples, drawn together.

    The statistic takes samples with a resample in each row. Where it is NaN it is left out.
    """
    rng = np.random.default_rng(random_state.randint(2**31 - 1))
    n = len(samples[0])
    rows = rng.integers(n, size=(_RESAMPLES, n))
    found = statistic(*(sample[rows] for sample in samples))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
