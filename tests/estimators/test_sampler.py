import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from imblearn.base import is_sampler
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import estimator_checks_generator
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    PrototypeSampler,
    RandomHeads,
    RandomImages,
)
from tests.image_checks import fitted_names, save_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
X_TEST, Y_TEST = toy_images(n_per_class=10, seed=5)


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


def probe(backbone=NET, **params):
    settings = {"n_views": 5, "max_epochs": 30, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


MAKERS = [
    distiller(),
    RandomImages(NET, random_state=0),
    ClassCentroids(NET, random_state=0),
]
each_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: type(maker).__name__)


NOT_APPLICABLE = {
    "check_samplers_pandas_sparse": "sparse rows are refused, as dense estimators refuse them"
}
CHECKED = [
    PrototypeSampler(distiller(None)),
    PrototypeSampler(ClassCentroids(None)),
    PrototypeSampler(NearestImages(distiller(None, prototypes_per_class=2))),
]


# A list of what imbalanced-learn's parametrize_with_checks passes as a generator, which pytest 9
# warns of.
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        case
        for sampler in CHECKED
        for case in estimator_checks_generator(
            sampler, mark="xfail", expected_failed_checks=NOT_APPLICABLE
        )
    ],
    ids=lambda value: getattr(getattr(value, "func", None), "__name__", None),
)
def test_imbalanced_learn_check(estimator, check):
    check(estimator)


def test_it_is_a_sampler_and_no_transformer():
    assert is_sampler(PrototypeSampler(distiller()))
    assert not hasattr(PrototypeSampler(distiller()), "transform")


@each_maker
def test_prototypes_replace_the_training_set(maker):
    sampler = PrototypeSampler(clone(maker).set_params(prototypes_per_class=2))
    prototypes, labels = sampler.fit_resample(X, Y)
    assert prototypes.shape == (6, 18, 18, 3)
    assert prototypes.dtype == np.float32
    assert prototypes.min() >= 0
    assert prototypes.max() <= 1
    assert labels.tolist() == ["a", "a", "b", "b", "c", "c"]
    assert sampler.sampling_strategy_ == {"a": 2, "b": 2, "c": 2}
    assert not fitted_names(sampler.distiller)
    expected = clone(sampler.distiller).fit(X, Y)
    assert_array_equal(prototypes, expected.prototypes_)
    assert_array_equal(sampler.distiller_.prototypes_, expected.prototypes_)


def test_the_kind_of_images_changes_nothing(tmp_path):
    expected = PrototypeSampler(distiller()).fit_resample(X, Y)
    paths = save_images(X, tmp_path)
    for images in (paths, pd.Series(paths), [Image.fromarray(x) for x in X], list(X), X / 255):
        for labels in (Y, Y.tolist(), pd.Series(Y)):
            prototypes, got = PrototypeSampler(distiller()).fit_resample(images, labels)
            assert type(prototypes) is type(got) is np.ndarray
            assert_array_equal(prototypes, expected[0])
            assert_array_equal(got, expected[1])


def test_indicators_stay_indicators():
    one_hot = (Y[:, None] == np.unique(Y)).astype(int)
    prototypes, labels = PrototypeSampler(distiller()).fit_resample(X, one_hot)
    expected, _ = PrototypeSampler(distiller()).fit_resample(X, Y)
    assert_array_equal(prototypes, expected)
    assert_array_equal(labels, np.eye(3))
    binary = np.stack([Y == "a", Y != "a"], axis=1).astype(int)
    assert_array_equal(PrototypeSampler(distiller()).fit_resample(X, binary)[1], np.eye(2))


def test_a_frame_of_rows_stays_a_frame():
    rows = pd.DataFrame(X[:, :2, 0].reshape(len(X), -1) / 255).add_prefix("pixel ")
    sampler = PrototypeSampler(distiller(None))
    prototypes, labels = sampler.fit_resample(rows, pd.Series(Y, name="colour"))
    assert prototypes.columns.tolist() == rows.columns.tolist()
    assert labels.name == "colour"
    assert sampler.n_features_in_ == 6
    assert_array_equal(sampler.get_feature_names_out(), rows.columns)
    pipeline = make_pipeline(sampler, probe(None)).fit(rows, Y)
    assert pipeline.predict(rows).shape == Y.shape  # without a warning about feature names
    sampler.set_params(distiller=distiller()).fit(X, Y)
    assert not hasattr(sampler, "n_features_in_")
    assert not hasattr(sampler, "feature_names_in_")


@pytest.mark.parametrize("other", [NET, tiny_backbone(seed=1, n_features=12)])
@each_maker
def test_a_pipeline_is_the_probe_with_a_distiller(maker, other):
    pipeline = make_pipeline(PrototypeSampler(maker), probe(other)).fit(X, Y)
    whole = probe(other, distiller=maker).fit(X, Y)
    for method in ("predict", "predict_proba", "decision_function"):
        assert_array_equal(getattr(pipeline, method)(X_TEST), getattr(whole, method)(X_TEST))
    scores = cross_val_score(pipeline, X, Y, cv=3, error_score="raise")
    expected = cross_val_score(clone(whole), X, Y, cv=3, error_score="raise")
    assert_array_equal(scores, expected)


def test_prototypes_are_not_rounded_to_8_bits(tmp_path):
    prototypes, labels = PrototypeSampler(distiller()).fit_resample(X, Y)
    expected = probe(distiller=distiller()).fit(X, Y).decision_function(X_TEST)
    for same in (prototypes, prototypes.astype(float), list(prototypes), prototypes[::-1][::-1]):
        got = probe(memory=tmp_path).fit(same, labels).decision_function(X_TEST)
        assert_array_equal(got, expected)
    rounded = np.rint(prototypes * 255).astype(np.uint8)
    for other in (rounded, rounded / np.float32(255)):
        got = probe(memory=tmp_path).fit(other, labels).decision_function(X_TEST)
        assert 1e-4 < np.abs(got - expected).max() < 0.1


def test_prototypes_of_another_size_are_resized():
    pipeline = make_pipeline(PrototypeSampler(distiller()), probe(tiny_backbone(image_size=24)))
    assert set(pipeline.fit(X, Y).predict(X_TEST)) <= set("abc")


def test_it_learns():
    maker = distiller(max_iter=150, n_views=4, heads=RandomHeads(pool_size=32))
    pipeline = make_pipeline(PrototypeSampler(maker), probe(max_epochs=60)).fit(X, Y)
    assert pipeline.score(X_TEST, Y_TEST) > 0.75  # chance: a third


def test_the_classifier_sees_prototypes_alone(tmp_path):
    net = counting_backbone()
    pipeline = make_pipeline(PrototypeSampler(distiller()), probe(net)).fit(X, Y)
    assert net.module.n_images == 5 * 3
    net.module.reset()
    pipeline.predict(X_TEST)
    assert net.module.n_images == len(X_TEST)
    cached = make_pipeline(PrototypeSampler(distiller()), probe(), memory=str(tmp_path))
    for _ in range(2):
        assert_array_equal(cached.fit(X, Y).predict(X_TEST), pipeline.predict(X_TEST))


def test_grid_search():
    pipeline = make_pipeline(PrototypeSampler(distiller()), probe())
    grid = {
        "prototypesampler__distiller__prototypes_per_class": [1, 2],
        "frozenbackboneprobe__head": [None, LogisticRegression()],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    assert search.predict_proba(X).shape == (len(X), 3)


def test_after_another_sampler():
    keep = np.flatnonzero(Y != "b").tolist() + np.flatnonzero(Y == "b")[:2].tolist()
    rows = X[:, :4, 0].reshape(len(X), -1) / 255
    balance = RandomOverSampler(random_state=0)
    pipeline = make_pipeline(balance, PrototypeSampler(distiller(None)), LogisticRegression())
    assert pipeline.fit(rows[keep], Y[keep]).score(rows, Y) > 0.5


def test_a_frozen_distiller_is_not_fitted_again():
    maker = distiller().fit(X, Y)
    prototypes, labels = PrototypeSampler(FrozenEstimator(maker)).fit_resample(X_TEST, Y_TEST)
    assert prototypes is maker.prototypes_
    assert Counter(labels) == {"a": 1, "b": 1, "c": 1}


def test_pickle():
    fitted = pickle.loads(pickle.dumps(PrototypeSampler(distiller()).fit(X, Y)))
    assert fitted.distiller_.prototypes_.shape == (3, 18, 18, 3)
