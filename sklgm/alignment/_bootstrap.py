"""Bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from sklgm.utils.numbers import is_whole

# Numbers of all resamples that are held at once.
_AT_ONCE = 2**21


def check_bootstrap(n_resamples: Any, confidence_level: Any) -> None:
    """Raise a ValueError unless the numbers can be used."""
    if not is_whole(n_resamples) or n_resamples < 1:
        raise ValueError(f"n_resamples must be a whole number of at least 1; got {n_resamples!r}.")
    if not isinstance(confidence_level, float | np.floating) or not 0 < confidence_level < 1:
        raise ValueError(
            f"confidence_level must be a number between 0 and 1; got {confidence_level!r}."
        )


def percentile_interval(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    n_resamples: int,
    confidence_level: float,
    random_state: np.random.RandomState,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic.

    Parameters
    ----------
    samples : sequence of ndarray of shape (n,)
        Drawn together, with replacement; n is at least 2.
    statistic : callable
        Takes the samples and ``axis=-1``. NaN where a resample leaves it undefined; those are
        left out.
    n_resamples : int
        Resamples.
    confidence_level : float
        In (0, 1).
    random_state : RandomState
        Draws.

    Returns
    -------
    low, high : float
        Bounds.
    """
    seed = random_state.randint(2**31 - 1)
    with warnings.catch_warnings():
        # Of intervals that scipy cannot tell and that are taken from the distribution below.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = bootstrap(
            samples,
            statistic,
            n_resamples=int(n_resamples),
            batch=max(1, _AT_ONCE // len(samples[0])),
            vectorized=True,
            paired=len(samples) > 1,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    tail = (1 - confidence_level) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail])
    return float(low), float(high)
