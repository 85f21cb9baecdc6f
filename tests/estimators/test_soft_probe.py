"""The probe trained on soft labels, and on sets of prototypes."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet, RandomHeads, RandomImages
from sklgm.estimators.head import fit_linear_head
from tests.estimators.test_soft_labels import HARD
from tests.image_checks import fitted_names, toy_images
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
IRIS, SPECIES = load_iris(return_X_y=True)
SOFT = np.random.default_rng(0).dirichlet(np.ones(3), size=6).astype(np.float32)
LABELS = np.array(["b", "c", "a", "b", "a", "c"])


def probe(backbone=NET, **params):
    settings = {"max_epochs": 20, "n_views": 4, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


def made(backbone=NET, **params):
    """Images with soft labels; sizes that are no canvas of the net's own."""
    sizes = (18, 18, 3) if backbone is not None else (4,)
    images = np.random.default_rng(1).random((6, *sizes))
    return PrototypeSet(images, LABELS, **params)


def weights(fitted):
    return [p.detach().numpy() for p in fitted.head_.module_.parameters()]


def assert_equal_heads(first, second, **tolerance):
    assert_array_equal(first.classes_, second.classes_)
    for a, b in zip(weights(first), weights(second), strict=True):
        assert_allclose(a, b, **({"rtol": 0, "atol": 0} | tolerance))


class Given(BaseEstimator):
    """A distiller of someone else's, whose attributes are there already."""

    def __init__(self, prototypes, labels, probabilities):
        self.prototypes = prototypes
        self.labels = labels
        self.probabilities = probabilities

    def fit(self, X, y):
        self.prototypes_, self.prototype_labels_ = self.prototypes, self.labels
        self.prototype_probabilities_ = self.probabilities
        return self


def test_the_default_head_minimizes_the_cross_entropy_with_soft_labels():
    rows = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)

    def loss(flat):
        weight, bias = flat[:6].reshape(3, 2), flat[6:]
        return -(SOFT * log_softmax(rows @ weight.T + bias, axis=1)).sum(axis=1).mean()

    best = minimize(loss, np.zeros(9))
    settings = probe(None, max_epochs=600, learning_rate=0.1, device="cpu")
    head = fit_linear_head(settings, rows[:, None], SOFT, np.arange(3), seed=0)
    flat = np.concatenate([p.detach().numpy().ravel() for p in head.module_.parameters()])
    assert loss(flat) == pytest.approx(best.fun, rel=1e-4)
    logits = rows @ best.x[:6].reshape(3, 2).T + best.x[6:]
    assert_allclose(head.predict_proba(rows), np.exp(log_softmax(logits, axis=1)), atol=0.01)


def test_one_hot_soft_labels_are_hard_ones():
    one_hot = (np.unique(LABELS) == LABELS[:, None]).astype(float)
    hard, soft = probe().fit(made()), probe().fit(made(probabilities=one_hot))
    assert_equal_heads(hard, soft, atol=1e-6)
    other = probe().fit(made(probabilities=SOFT))
    assert np.abs(weights(other)[0] - weights(hard)[0]).max() > 1e-3


@pytest.mark.parametrize("backbone", [NET, None])
@pytest.mark.parametrize("probabilities", [None, SOFT])
def test_ways_to_the_same_probe(backbone, probabilities):
    """A set, a distiller that has made it, and its similarities."""
    prototypes = made(backbone, probabilities=probabilities)
    of_set = probe(backbone).fit(prototypes)
    assert_equal_heads(of_set, probe(backbone).fit(prototypes, LABELS.tolist()))
    data, labels = (X, LABELS.repeat(3)) if backbone else (IRIS[:18], LABELS.repeat(3))
    given = Given(prototypes.images, prototypes.labels, probabilities)
    assert_equal_heads(of_set, probe(backbone, distiller=given).fit(data, labels))
    assert_array_equal(of_set.predict(data), probe(backbone).fit(prototypes).predict(data))
    assert hasattr(of_set, "n_features_in_") == (backbone is None)


@pytest.mark.parametrize("backbone", [NET, None])
def test_similarities_bring_soft_labels(backbone):
    data, labels = (HARD, Y) if backbone else (IRIS, SPECIES)
    distiller = LGMDistiller(
        backbone, soft_labels=True, max_iter=4, heads=RandomHeads(4, 8), random_state=0
    )
    piped = make_pipeline(clone(distiller), probe(backbone)).fit(data, labels)
    inside = probe(backbone, distiller=distiller).fit(data, labels)
    assert_equal_heads(piped[-1], inside)
    assert_array_equal(piped.predict(data), inside.predict(data))
    hard = probe(backbone, distiller=clone(distiller).set_params(soft_labels=False))
    assert np.abs(weights(hard.fit(data, labels))[0] - weights(inside)[0]).max() > 1e-5
    with pytest.raises(ValueError, match=r"requires y to be passed"):
        probe(backbone).fit(inside.distiller_.transform(data))


def test_a_set_that_was_saved(tmp_path):
    selector = RandomImages(NET, soft_labels=True, random_state=0).fit(X, Y)
    PrototypeSet.from_estimator(selector).save(tmp_path / "set")
    found = probe().fit(PrototypeSet.load(tmp_path / "set"))
    expected = probe(distiller=FrozenEstimator(selector)).fit(X, Y)
    assert_equal_heads(found, expected)
    assert_array_equal(found.predict(X), expected.predict(X))


def test_another_head_takes_the_classes_and_says_so():
    estimator = probe(head=LogisticRegression())
    with pytest.warns(UserWarning, match="takes no soft labels") as warned:
        found = estimator.fit(made(probabilities=SOFT))
    assert [one.filename for one in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = clone(estimator).fit(made())
    assert_array_equal(found.head_.coef_, expected.head_.coef_)


@pytest.mark.parametrize(
    ("estimator", "given", "message"),
    [
        (probe(), (made(), LABELS[::-1]), "y differs from the labels of the prototypes"),
        (probe(), (made(), [0, 1, 2, 0, 1, 2]), "y differs"),
        (probe(), (made(), LABELS[:2]), "y differs"),
        (probe(None), (made(),), "Prototypes are images"),
        (probe(), (made(None),), "Prototypes are rows"),
        (probe(), (PrototypeSet(np.zeros((2, 8, 6, 3)), [0, 1]),), "must be square"),
        (probe(), (PrototypeSet(np.zeros((2, 16, 16, 3)), [0, 0]),), "at least 2 classes"),
        (probe(distiller=RandomImages(NET)), (made(),), "this probe has a distiller"),
        (probe(None), (PrototypeSet(np.eye(3), [0.5, 1.5, 2.5]),), "label type: continuous"),
        (
            probe(None, distiller=Given(np.eye(2), [0.5, 1], None)),
            (IRIS, SPECIES),
            "label type: continuous",
        ),
        (probe(), (X,), "requires y to be passed"),
        (probe(distiller=RandomImages(NET)), (X,), "requires y to be passed"),
        # Of four classes one has no prototype.
        (
            probe(distiller=Given(made().images, LABELS, np.full((6, 4), 0.25))),
            (X, Y),
            r"a column for each class that has one; got \(6, 4\)",
        ),
    ],
)
def test_what_cannot_be_trained_on(estimator, given, message):
    estimator = clone(estimator)
    with pytest.raises(ValueError, match=message):
        estimator.fit(*given)
    assert not [name for name in fitted_names(estimator) if name != "n_features_in_"]


@pytest.mark.parametrize("labels", [[0.0, 1.0, 2.0], [3, 1, 2], list("abc"), [True, False, True]])
def test_one_prototype_a_class_is_no_regression(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = probe(None).fit(PrototypeSet(np.eye(3), labels))
    assert fitted.classes_.tolist() == np.unique(labels).tolist()


@pytest.mark.parametrize("backbone", [NET, None])
@pytest.mark.parametrize(
    "use",
    [
        lambda fitted, given: fitted.predict(given),
        lambda fitted, given: fitted.score(given, given.labels),
        lambda fitted, given: cross_val_score(fitted, given, given.labels, cv=2),
        lambda fitted, given: LGMDistiller(fitted.backbone).fit(given, given.labels),
        lambda fitted, given: LogisticRegression().fit(given, given.labels),
    ],
)
def test_a_set_that_is_no_X_names_what_is(backbone, use):
    given = made(backbone)
    fitted = probe(backbone).fit(given)
    with pytest.raises(TypeError, match=r"Pass set\.images and set\.labels"):
        use(fitted, given)


def test_rows_and_then_images_leave_no_columns():
    estimator = probe(None).fit(made(None))
    assert estimator.n_features_in_ == 4
    assert not hasattr(estimator.set_params(backbone=NET).fit(made()), "n_features_in_")
