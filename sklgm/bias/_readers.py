"""Linear readers: what class and what group features show, learnt where the two are independent."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

_CS = (1.0, 0.1, 0.01, 0.001)
_MOST_FOLDS = 3
# What readers read is noise if they are better than chance by less than this share of what is
# possible, or learnt from fewer images of a pair of class and group.
_CLEAR_MARGIN, _FEW_IMAGES = 0.25, 5


def fit_reader(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[Pipeline, float]:
    """Return a logistic regression on standardised features, and its cross-validated accuracy.

    Its ``C`` is the one whose cross-validated probabilities have the least log-loss. Weights, by
    which all pairs of class and group count alike, are those of training and of both scores.
    """
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000)) for C in _CS]
    weighted = {f"{name}__sample_weight": weights for name in models[0].named_steps}
    n_folds = min(_MOST_FOLDS, int(np.bincount(targets).min()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    settings = {"cv": folds, "method": "predict_proba", "params": weighted}
    read = [cross_val_predict(model, features, targets, **settings) for model in models]
    losses = [log_loss(targets, found, sample_weight=weights) for found in read]
    best = int(np.argmin(losses))
    accuracy = accuracy_score(targets, read[best].argmax(axis=1), sample_weight=weights)
    return models[best].fit(features, targets, **weighted), float(accuracy)


def excess(shares: np.ndarray, readings: np.ndarray) -> float:
    """Return how far an association of classes shows in readings, corrected for chance.

    With the shares :math:`t_c(g)` of the groups in each of the classes, the readings
    :math:`r_c(g)`, and means over the classes :math:`t(g)` and :math:`r(g)`:

        sum_c sum_g (t_c(g) - t(g)) (r_c(g) - r(g)) / C / (1 - sum_g t(g)^2)

    For readings that equal the shares this is Goodman and Kruskal's tau, classes counting alike.
    It is 1 where each class has a group and is read as that, 0 where readings do not follow the
    shares, or these do not differ between the classes; negative where they follow others.
    """
    mean = shares.mean(axis=0)
    most = 1 - (mean**2).sum()
    if most <= np.finfo(np.float64).eps:
        return 0.0
    together = (shares - mean) * (readings - readings.mean(axis=0))
    return float(together.sum() / len(shares) / most)


def warn_of_noise(
    accuracy: Mapping[str, float], targets: Mapping[str, np.ndarray], fewest: int
) -> None:
    """Warn of readers that are hardly better than chance, or had few images of a pair."""
    parts = []
    for kind, score in accuracy.items():
        chance = 1 / (targets[kind].max() + 1)
        if score < chance + _CLEAR_MARGIN * (1 - chance):
            parts.append(
                f"on real images the reader of the {kind} has an accuracy of {score:.2f}, with "
                f"chance at {chance:.2f}"
            )
    if fewest < _FEW_IMAGES:
        parts.append(f"the reference has a pair of class and group with {fewest} images")
    if parts:
        warnings.warn(
            f"Readings of prototypes and group reliance may be noise: {'; '.join(parts)}. Pass a "
            f"larger reference, in the command by --test, or a net that tells them apart.",
            stacklevel=3,
        )
