"""Randomness that leaves numpy's global generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def own_random_state(seed: Any) -> np.random.RandomState:
    """Return a generator for ``random_state``.

    Parameters
    ----------
    seed : None, int or RandomState
        Seed as scikit-learn takes it, but None draws fresh entropy and leaves the global generator.

    Returns
    -------
    numpy.random.RandomState
        ``seed`` itself when it is one.
    """
    return np.random.RandomState() if seed is None else check_random_state(seed)
