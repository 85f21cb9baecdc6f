"""Linear discriminant analysis (LDA) from means and covariance: the teacher of soft labels.

All classes are equally likely a priori and share one covariance ``S``, which is shrunk towards a
multiple of the identity. Let ``z`` be a feature and ``m`` the mean of a class, both less the mean
of all classes. The class has the weights ``w = (S + trace(S) / d * I)^-1 m`` and the score
``w (z - m / 2)``; the softmax of the scores gives the probabilities.
"""

import numpy as np
import torch

# A variance below this share of the largest squared class mean is what float64 has rounded.
_ROUNDED = 1e-12
# Variance within classes, beside that of their means, where features vary no more than that.
_SMALL = 1e-6


def discriminant_head(means: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear head of LDA with equal priors: weights (C, d) and intercepts (C,).

    Means (C, d) and the covariance within classes (d, d), which may be singular, are float64, and
    so is the head. Where features do not vary within classes, or no more than rounding makes them,
    the nearest mean decides: probabilities are 1 and 0, and equal for classes of equal means.
    """
    n_features = means.shape[1]
    centre = means.mean(axis=0)
    offsets = means - centre
    varies = np.diag(covariance) > _ROUNDED * (means**2).max(axis=0)
    metric = np.where(np.outer(varies, varies), covariance, 0)
    within, between = np.trace(metric) / n_features, (offsets**2).mean()
    if within > 0:
        coef = np.linalg.solve(metric + within * np.eye(n_features), offsets.T).T
    elif between > _ROUNDED * (means**2).mean():
        coef = offsets / (_SMALL * between)
    else:
        coef = np.zeros_like(means)
    return coef, -0.5 * (coef * offsets).sum(axis=1) - coef @ centre


def discriminant_probabilities(
    features: np.ndarray, coef: np.ndarray, intercept: np.ndarray
) -> np.ndarray:
    """Return the probabilities (n, C) of features (n, d) under a head, float64."""
    scores = features.astype(np.float64) @ coef.T + intercept
    return torch.from_numpy(scores).softmax(dim=1).numpy()
