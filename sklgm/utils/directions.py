"""Rows of features without their length."""

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches


def directions(features: np.ndarray) -> np.ndarray:
    """Scale finite rows (n, d) to length 1, also those whose squares overflow or vanish.

    A row of zeros stays as it is.
    """
    largest = np.abs(features).max(axis=1, keepdims=True)
    return normalize(features / np.where(largest > 0, largest, 1))


def cosines(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return cosine similarities (n, n_points) of finite rows (n, d) to points (n_points, d).

    Rows are copied a few thousand at a time, since they may lie in a file.
    """
    unit = directions(points).T
    found = np.empty((len(features), len(points)), np.result_type(features, points))
    for rows in gen_batches(len(features), 8192):
        found[rows] = directions(features[rows]) @ unit
    return found
