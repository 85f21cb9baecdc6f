"""Any scikit-learn classifier as the head of a probe, and metadata that goes to it."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklgm import (
    BackboneEmbedder,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    RandomHeads,
    RandomImages,
)
from tests.image_checks import fitted_names, save_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
X_TEST, Y_TEST = toy_images(n_per_class=20, seed=5)
WEIGHTS = np.random.default_rng(0).uniform(0.1, 3, len(X))
HEADS = {
    "default": None,
    "logistic": LogisticRegression(),
    "svc": LinearSVC(),
    "nearest": KNeighborsClassifier(n_neighbors=1, metric="cosine"),
    "ridge": RidgeClassifier(),
}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


def probe(backbone=NET, **params):
    settings = {"n_views": 5, "max_epochs": 60, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


def weighted(head=None):
    return (head or LogisticRegression()).set_fit_request(sample_weight=True)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize(
    ("head", "methods"),
    [
        ("default", {"predict_proba", "decision_function"}),
        ("logistic", {"predict_proba", "decision_function"}),
        ("svc", {"decision_function"}),
        ("nearest", {"predict_proba"}),
        ("ridge", {"decision_function"}),
    ],
)
def test_a_probe_has_the_methods_of_its_head(head, methods):
    estimator = probe(head=HEADS[head])
    for _ in ("unfitted", "fitted"):
        for method in ("predict_proba", "decision_function"):
            assert hasattr(estimator, method) == (method in methods)
        estimator.fit(X, Y)
    assert estimator.score(X_TEST, Y_TEST) > 0.8


@pytest.mark.parametrize("labels", [Y, Y == "a"], ids=["multiclass", "binary"])
@pytest.mark.parametrize("head", ["logistic", "svc", "nearest", "ridge"])
def test_without_views_it_is_the_head_on_features(head, labels):
    # On square images of the canvas' size views are what the embedder sees.
    images, _ = toy_images(size=18)
    test, _ = toy_images(n_per_class=20, seed=5, size=18)
    embedder = BackboneEmbedder(NET).fit(images)
    fitted = probe(head=HEADS[head], augmentation=None).fit(images, labels)
    expected = clone(HEADS[head]).fit(embedder.transform(images), labels)
    features = embedder.transform(test)
    assert_array_equal(fitted.predict(test), expected.predict(features))
    for method in ("predict_proba", "decision_function"):
        if hasattr(expected, method):
            got = getattr(fitted, method)(test)
            assert_allclose(got, getattr(expected, method)(features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "head",
    [LogisticRegression(C=0.01), LinearSVC(C=0.01), RidgeClassifier(alpha=100)],
    ids=lambda head: type(head).__name__,
)
def test_class_weights_of_a_head(head):
    keep = np.flatnonzero(Y != "a").tolist() + np.flatnonzero(Y == "a")[:1].tolist()

    def n_predicted(**params):
        fitted = probe(head=clone(head).set_params(**params)).fit(X[keep], Y[keep])
        return (fitted.predict(X_TEST) == "a").sum()

    assert n_predicted(class_weight="balanced") > n_predicted()
    assert n_predicted(class_weight={"a": 20}) > n_predicted()


# ---------------------------------------------------------------- metadata


def test_sample_weights_count_for_every_view(routing):
    fitted = probe(head=weighted()).fit(X, Y, sample_weight=WEIGHTS)
    again = probe(head=weighted()).fit(X, Y, sample_weight=pd.Series(WEIGHTS, index=range(7, 25)))
    plain = probe(head=weighted()).fit(X, Y)
    assert_array_equal(fitted.head_.coef_, again.head_.coef_)
    assert np.abs(fitted.head_.coef_ - plain.head_.coef_).max() > 1e-3


def test_equal_weights_change_nothing_and_zeros_leave_images_out(routing):
    settings = {"head": weighted(LogisticRegression(tol=1e-8)), "augmentation": None}
    plain = probe(**settings).fit(X, Y)
    equal = probe(**settings).fit(X, Y, sample_weight=np.ones(len(X)))
    assert_allclose(equal.head_.coef_, plain.head_.coef_, atol=1e-5)
    some = np.arange(len(X)) % 4 > 0
    left_out = probe(**settings).fit(X, Y, sample_weight=some.astype(float))
    expected = probe(**settings).fit(X[some], Y[some])
    assert_allclose(left_out.head_.coef_, expected.head_.coef_, atol=1e-3)


class Recording(ClassifierMixin, BaseEstimator):
    def fit(self, X, y, sample_weight=None, groups=None, setting=None):
        self.classes_ = np.unique(y)
        self.given_ = {"y": y, "w": sample_weight, "groups": groups, "setting": setting}
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def test_metadata_of_images_is_repeated_and_other_metadata_is_not(routing):
    head = Recording().set_fit_request(sample_weight="weight", groups=True, setting=True)
    groups = [f"g{i}" for i in range(len(X))]
    fitted = probe(head=head).fit(X, Y, weight=WEIGHTS, groups=groups, setting=[1, 2])
    given = fitted.head_.given_
    assert_array_equal(given["w"], WEIGHTS.repeat(5))
    assert_array_equal(given["groups"], np.repeat(groups, 5))
    assert given["setting"] == [1, 2]
    assert_array_equal(given["y"], Y.repeat(5))


def test_weights_through_a_pipeline_of_heads(routing):
    head = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), weighted())
    fitted = probe(head=head).fit(X, Y, sample_weight=WEIGHTS)
    plain = probe(head=head).fit(X, Y)
    assert np.abs(fitted.head_[-1].coef_ - plain.head_[-1].coef_).max() > 1e-3


def test_weights_through_what_holds_a_probe(routing):
    estimator = probe(head=weighted(), n_views=2).set_score_request(sample_weight=True)
    scores = cross_val_score(estimator, X, Y, cv=2, params={"sample_weight": WEIGHTS})
    assert len(scores) == 2
    search = GridSearchCV(estimator, {"n_views": [1, 2]}, cv=2, error_score="raise")
    search.fit(X, Y, sample_weight=WEIGHTS)
    direct = clone(search.best_estimator_).fit(X, Y, sample_weight=WEIGHTS)
    assert_array_equal(search.best_estimator_.head_.coef_, direct.head_.coef_)


def test_weights_without_routing_are_refused_as_scikit_learns_meta_estimators_do():
    for head in (None, LogisticRegression(), KNeighborsClassifier()):
        estimator = probe(head=head)
        with pytest.raises(ValueError, match=r"Probe\.fit is only supported if enable_metadata"):
            estimator.fit(X, Y, sample_weight=WEIGHTS)
        assert not fitted_names(estimator)


def test_weights_nobody_asked_for_are_refused(routing):
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        probe(head=LogisticRegression()).fit(X, Y, sample_weight=WEIGHTS)
    for head in (None, KNeighborsClassifier()):
        with pytest.raises(TypeError, match="unexpected argument"):
            probe(head=head).fit(X, Y, sample_weight=WEIGHTS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (WEIGHTS[:-1], r"sample_weight.shape == \(17,\), expected \(18,\)"),
        (np.full(len(X), np.nan), "sample_weight contains NaN"),
        (np.ones((len(X), 2)), "1D"),
        (np.zeros(len(X)), "non-zero"),
    ],
)
def test_bad_weights(routing, weights, message):
    net = counting_backbone()
    estimator = probe(net, head=weighted())
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, Y, sample_weight=weights)
    assert net.module.n_images == 0
    assert not fitted_names(estimator)


def test_weights_of_images_are_no_weights_of_prototypes(routing):
    net = counting_backbone()
    maker = distiller(net).set_fit_request(sample_weight=False)
    estimator = probe(head=weighted(SGDClassifier()), distiller=maker)
    with pytest.raises(ValueError, match=r"sample_weight cannot be used.*on prototypes"):
        estimator.fit(X, Y, sample_weight=WEIGHTS)
    assert net.module.n_images == 0
    maker = RandomImages(NET, random_state=0).set_fit_request(sample_weight=False)
    pipeline = make_pipeline(maker, probe(head=weighted()))
    with pytest.raises(ValueError, match=r"sample_weight cannot be used.*on prototypes"):
        pipeline.fit(X, Y, sample_weight=WEIGHTS)


def test_prototypes_of_a_set_have_weights_of_their_own(routing):
    rows = X.mean(axis=(1, 2), dtype=np.float32) / 255
    estimator = probe(None, head=weighted())
    found = clone(estimator).fit(PrototypeSet(rows, Y), sample_weight=WEIGHTS).head_
    expected = LogisticRegression().fit(rows, Y, sample_weight=WEIGHTS)
    assert_allclose(found.coef_, expected.coef_, atol=1e-3)
    assert np.abs(found.coef_ - LogisticRegression().fit(rows, Y).coef_).max() > 0.01
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(17,\), expected \(18,\)"):
        estimator.fit(PrototypeSet(rows, Y), sample_weight=WEIGHTS[1:])


def test_similarities_have_the_weights_of_their_images(routing):
    # Without a backbone the probe learns from the similarities of all images.
    maker = RandomImages(NET, prototypes_per_class=2, random_state=0)
    maker.set_fit_request(sample_weight=False)
    fitted = make_pipeline(maker, probe(None, head=weighted())).fit(X, Y, sample_weight=WEIGHTS)
    similarities = np.asarray(fitted[0].transform(X))
    expected = LogisticRegression().fit(similarities, Y, sample_weight=WEIGHTS)
    assert_allclose(fitted[-1].head_.coef_, expected.coef_, atol=1e-3)


# ---------------------------------------------------------------- model selection


@pytest.mark.parametrize("kind", ["arrays", "paths"])
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("head", ["default", "svc", "nearest"])
def test_calibration(head, ensemble, kind, tmp_path):
    images = X if kind == "arrays" else save_images(X, tmp_path)
    estimator = probe(head=HEADS[head], n_views=2, max_epochs=20)
    calibrated = CalibratedClassifierCV(estimator, cv=2, ensemble=ensemble).fit(images, Y)
    probabilities = calibrated.predict_proba(X_TEST)
    assert_allclose(probabilities.sum(axis=1), 1)
    assert calibrated.score(X_TEST, Y_TEST) > 0.5


def test_calibration_of_a_distillation():
    estimator = probe(distiller=distiller(max_iter=60), max_epochs=30)
    calibrated = CalibratedClassifierCV(estimator, cv=2, ensemble=False).fit(X, Y)
    assert calibrated.predict_proba(X_TEST).shape == (len(X_TEST), 3)


@pytest.mark.parametrize("maker", [None, distiller()], ids=["images", "prototypes"])
@pytest.mark.parametrize("head", ["default", "logistic", "nearest"])
def test_cross_val_predict(head, maker):
    estimator = probe(head=HEADS[head], distiller=maker, max_epochs=20)
    probabilities = cross_val_predict(estimator, X, Y, cv=3, method="predict_proba")
    assert probabilities.shape == (len(X), 3)
    assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@each_head
def test_cross_validate_returns_estimators(head):
    result = cross_validate(
        probe(head=head, distiller=distiller(), max_epochs=20),
        X,
        Y,
        cv=3,
        scoring=["accuracy", "balanced_accuracy"],
        return_estimator=True,
        return_train_score=True,
        error_score="raise",
    )
    assert result["test_balanced_accuracy"].shape == (3,)
    prototypes = [fitted.distiller_.prototypes_ for fitted in result["estimator"]]
    assert np.abs(prototypes[0] - prototypes[1]).max() > 1e-3
    assert all(set(fitted.predict(X)) <= set("abc") for fitted in result["estimator"])


def test_a_search_over_heads():
    grid = {"head": list(HEADS.values())}
    search = GridSearchCV(probe(), grid, cv=2, error_score="raise").fit(X, Y)
    assert (search.cv_results_["mean_test_score"] > 0.5).all()
