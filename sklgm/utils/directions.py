"""Rows of features without their length."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches


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


def cosines(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return cosine similarities of rows to points.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Finite. A copy is made of a few thousand rows at a time.
    points : ndarray of shape (n_points, n_features)
        Finite.

    Returns
    -------
    ndarray of shape (n, n_points)
        In [-1, 1], of the type of both.
    """
    unit = directions(points).T
    found = np.empty((len(features), len(points)), np.result_type(features, points))
    for rows in gen_batches(len(features), 8192):
        found[rows] = directions(features[rows]) @ unit
    return found
