"""scikit-learn's warning that many classes may be a regression: of real labels alone."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, PrototypeSet, RandomImages
from sklgm.evaluation import compare_selections

N_CLASSES = 25
NUMBERS = np.repeat(np.arange(N_CLASSES) * 3, 4)
LABELS = {"strings": np.array([f"class {i}" for i in NUMBERS]), "integers": NUMBERS}
X = np.random.default_rng(0).normal(size=(len(NUMBERS), 4))
MESSAGE = "number of unique classes is greater than 50%"
RANDOM = RandomImages(None, random_state=0)


def probe(**params):
    return FrozenBackboneProbe(None, **{"max_epochs": 1, "random_state": 0, **params})


# Warnings are errors in these tests.
@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("head", [None, LogisticRegression(), KNeighborsClassifier(1)])
def test_no_warning_of_prototypes(y, head):
    distiller = LGMDistiller(None, max_iter=1, random_state=0)
    fitted = distiller.fit(X, y)
    for own in (distiller, RANDOM, FrozenEstimator(fitted)):
        probe(distiller=own, head=head).fit(X, y)
    make_pipeline(FrozenEstimator(fitted), probe(head=head)).fit(X, y)


@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_no_warning_of_comparisons(y):
    selections = {
        "set": PrototypeSet.from_estimator(RANDOM.fit(X, y)),
        "random": RANDOM,
        "centroid": ClassCentroids(None),
    }
    for head in (None, LogisticRegression()):
        settings = {"backbone": None, "selections": selections, "n_probe_seeds": 1}
        compare_selections(X, y, X, y, probe=probe(head=head), **settings)


def test_no_warning_of_strings_that_were_given():
    names = LABELS["strings"][::4]
    for head in (None, LogisticRegression()):
        probe(head=head).fit(X[::4], names)


@pytest.mark.parametrize("head", [None, LogisticRegression()])
def test_labels_like_those_of_a_regression_are_warned_of_once(head):
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        probe(head=head).fit(X[::4], NUMBERS[::4])
    assert len(caught) == 1
