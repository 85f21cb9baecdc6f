"""Rows of features without their length."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import normalize


def directions(features: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, also those whose squares overflow or vanish.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Finite.

    Returns
    -------
    ndarray of shape (n, n_features)
        Rows of the same type. A row of zeros stays as it is.
    """
    largest = np.abs(features).max(axis=1, keepdims=True)
    return normalize(features / np.where(largest > 0, largest, 1))
