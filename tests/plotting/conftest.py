import matplotlib
import numpy as np
import pytest
from sklearn.base import BaseEstimator

matplotlib.use("Agg")


class StandIn(BaseEstimator):
    """What displays may rely on: prototypes that are given, features that are mean colours."""

    def __init__(self, rows=False):
        self.rows = rows

    def fit(self, labels, seed=0):
        shape = (len(labels), 5) if self.rows else (len(labels), 6, 4, 3)
        self.prototypes_ = np.random.default_rng(seed).random(shape, dtype=np.float32)
        self.prototype_labels_ = np.asarray(labels)
        self.classes_ = np.unique(labels)
        self.prototype_features_ = self._embed(self.prototypes_)
        return self

    def _embed(self, X):
        X = np.asarray(X, dtype=np.float32)
        return X if self.rows else np.concatenate([X.mean(axis=(1, 2)), X.std(axis=(1, 2))], axis=1)


@pytest.fixture
def stand_in():
    return StandIn


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
