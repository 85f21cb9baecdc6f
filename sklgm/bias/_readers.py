"""Linear readers: what class and what group features show, learnt where the two are independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

_STRENGTHS = (1.0, 0.1, 0.01, 0.001)
_MOST_FOLDS = 3


def balanced_weights(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return weights by which all pairs of class and group count alike, of mean 1.

    Parameters
    ----------
    labels, groups : ndarray of int of shape (n,)
        Each pair occurs.

    Returns
    -------
    ndarray of shape (n,)
        The inverse of the size of the pair, scaled.
    """
    counts = np.zeros((labels.max() + 1, groups.max() + 1))
    np.add.at(counts, (labels, groups), 1)
    return len(labels) / (counts.size * counts[labels, groups])


@dataclass(frozen=True)
class Reader:
    """A fitted classifier of standardised features.

    Attributes
    ----------
    scaler : StandardScaler
        Scaler of the features.
    classifier : classifier
        A classifier with ``predict_proba``, whose classes are 0, 1, ...
    accuracy : float
        Accuracy on folds it was not trained on, with every pair of class and group counting alike.
    """

    scaler: StandardScaler
    classifier: Any
    accuracy: float

    @classmethod
    def fit(
        cls, reader: Any, features: np.ndarray, targets: np.ndarray, weights: np.ndarray
    ) -> Reader:
        """Train a reader, and its twins on folds for the accuracy.

        Parameters
        ----------
        reader : classifier or None
            Unfitted; None takes the logistic regression of the strength whose probabilities are
            best, by the log-loss on the folds.
        features : ndarray of shape (n, n_features)
            Features of the reference images.
        targets : ndarray of int of shape (n,)
            The targets to read: 0, 1, ..., each twice or more.
        weights : ndarray of shape (n,)
            See :func:`balanced_weights`.

        Returns
        -------
        Reader
            Trained on all.
        """
        candidates = [reader]
        if reader is None:
            candidates = [LogisticRegression(C=c, max_iter=2000) for c in _STRENGTHS]
        n_folds = min(_MOST_FOLDS, int(np.bincount(targets).min()))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        read = np.empty((len(candidates), len(targets), targets.max() + 1))
        for train, test in folds.split(features, targets):
            scaler = StandardScaler().fit(features[train], sample_weight=weights[train])
            seen, unseen = (scaler.transform(features[part]) for part in (train, test))
            for i, candidate in enumerate(candidates):
                twin = clone(candidate).fit(seen, targets[train], sample_weight=weights[train])
                read[i, test] = twin.predict_proba(unseen)
        own = np.maximum(read[:, np.arange(len(targets)), targets], np.finfo(np.float64).tiny)
        best = int(np.average(-np.log(own), axis=1, weights=weights).argmin())
        right = read[best].argmax(axis=1) == targets
        scaler = StandardScaler().fit(features, sample_weight=weights)
        classifier = clone(candidates[best])
        classifier.fit(scaler.transform(features), targets, sample_weight=weights)
        return cls(scaler, classifier, float(np.average(right, weights=weights)))

    def read(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (n, n_targets) of features (n, n_features)."""
        return self.classifier.predict_proba(self.scaler.transform(features))


def entropies(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each row, from 0 (certain) to 1 (all alike)."""
    p = np.maximum(probabilities, np.finfo(np.float64).tiny)
    return -(p * np.log(p)).sum(axis=1) / np.log(p.shape[1])


def excess(shares: np.ndarray, readings: np.ndarray) -> float:
    """Return how far an association of classes shows in readings, corrected for chance.

    With the shares :math:`t_c(g)` of the groups in each of the classes, the readings
    :math:`r_c(g)`, and means over the classes :math:`t(g)` and :math:`r(g)`:

        sum_c sum_g (t_c(g) - t(g)) (r_c(g) - r(g)) / C / (1 - sum_g t(g)^2)

    For readings that equal the shares this is Goodman and Kruskal's tau, classes counting alike.

    Parameters
    ----------
    shares, readings : ndarray of shape (n_classes, n_groups)
        Rows add up to 1.

    Returns
    -------
    float
        1 where each class has a group and is read as that, 0 where readings do not follow the
        shares, or these do not differ between the classes; negative where they follow others.
    """
    mean = shares.mean(axis=0)
    most = 1 - (mean**2).sum()
    if most <= np.finfo(np.float64).eps:
        return 0.0
    together = (shares - mean) * (readings - readings.mean(axis=0))
    return float(together.sum() / len(shares) / most)
