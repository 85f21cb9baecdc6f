"""Weights of samples: as many copies of them, in everything that is made of the data."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    RandomHeads,
    RandomImages,
)
from tests.image_checks import fitted_names, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
ROWS = np.random.default_rng(0).normal(size=(len(X), 5)).astype(np.float32)
COPIES = np.random.default_rng(1).integers(0, 4, len(X))
WEIGHTS = np.random.default_rng(2).uniform(0.1, 3, len(X))
WEIGHTS.flags.writeable = False


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


SELECTORS = {
    "random": RandomImages(NET, random_state=0),
    "centroids": ClassCentroids(NET, random_state=0),
    "herding": HerdingImages(NET),
    "k-centre": KCenterImages(NET),
    "nearest": NearestImages(distiller()),
}
each = pytest.mark.parametrize("name", ["distiller", *SELECTORS])


def estimator(name):
    return distiller() if name == "distiller" else clone(SELECTORS[name])


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


# ---------------------------------------------------------------- in the statistics


@pytest.mark.parametrize("class_weight", ["balanced", None, {"a": 3.0}])
@pytest.mark.parametrize("of", ["images", "several", "rows"])
def test_whole_weights_are_copies(of, class_weight):
    """Of the same views: centre crops, or rows."""
    nets = {"images": NET, "several": [NET, tiny_backbone(24, seed=1)], "rows": None}
    data = ROWS if of == "rows" else X
    weighted = distiller(nets[of], augmentation=None, class_weight=class_weight)
    copied = clone(weighted)
    copies = np.repeat(data, COPIES, axis=0), Y.repeat(COPIES)
    found = weighted.compute_gradients(data, Y, sample_weight=COPIES)
    expected = copied.compute_gradients(*copies)
    pairs = zip(found, expected, strict=True) if of == "several" else [(found, expected)]
    for one, other in pairs:
        scale = float(other.sums.abs().max())
        assert_allclose(one.sums, other.sums, rtol=0, atol=1e-5 * scale)
        assert_array_equal(one.class_counts, other.class_counts)
        assert_allclose(one.feature_moments(), other.feature_moments(), rtol=1e-5, atol=1e-6)
        if of != "rows":
            assert_allclose(one.mean_images(), other.mean_images(), rtol=1e-6)
    weighted.fit(data, Y, sample_weight=COPIES)
    copied.fit(*copies)
    assert_allclose(weighted.prototypes_, copied.prototypes_, atol=1e-4)
    assert_allclose(weighted.loss_curve_, copied.loss_curve_, rtol=1e-4, atol=1e-5)


def test_weights_add_up_in_every_view():
    """A sum is linear in its weights, whatever the random views, which follow from the place."""
    maker = distiller(class_weight=None, n_real_views=3)
    first, second, both = (
        maker.compute_gradients(X, Y, sample_weight=w) for w in (WEIGHTS, COPIES + 1, None)
    )
    whole = maker.compute_gradients(X, Y, sample_weight=WEIGHTS + 2 * (COPIES + 1) + 1)
    sums = first.sums + 2 * second.sums + both.sums
    assert_allclose(sums, whole.sums, rtol=0, atol=1e-5 * float(sums.abs().max()))
    image_sum = first.image_sum + 2 * second.image_sum + both.image_sum
    assert_allclose(image_sum, whole.image_sum, rtol=1e-6)
    feature_sum = first.feature_sum + 2 * second.feature_sum + both.feature_sum
    assert_allclose(feature_sum, whole.feature_sum, rtol=1e-6)


@each
def test_no_weights_are_ones(name):
    plain = estimator(name).fit(X, Y)
    for ones in (None, 1, np.ones(len(X)), pd.Series(np.ones(len(X)), index=range(7, 25))):
        fitted = estimator(name).fit(X, Y, sample_weight=ones)
        assert_array_equal(fitted.prototypes_, plain.prototypes_)


@each
def test_a_weight_of_zero_leaves_out(name):
    """Bit for bit, random views included; and the net does not look at what a distiller lacks."""
    kept = np.flatnonzero(COPIES)
    fitted = estimator(name).fit(X, Y, sample_weight=(COPIES > 0).astype(int))
    expected = estimator(name).fit(X[kept], Y[kept])
    assert_array_equal(fitted.prototypes_, expected.prototypes_)
    if name == "distiller":
        net = counting_backbone()
        distiller(net).compute_gradients(X, Y, sample_weight=COPIES)
        assert net.module.n_images == 2 * len(kept)
    else:
        assert_array_equal(fitted.prototype_indices_, kept[expected.prototype_indices_])


def test_shards_with_weights_add_up_to_the_whole():
    maker = distiller(n_real_views=2)
    totals = {label: float(COPIES[label == Y].sum()) for label in "abc"}
    parts = [slice(0, 5), slice(5, 11), slice(11, None)]
    total = sum(
        maker.compute_gradients(
            X[part],
            Y[part],
            sample_weight=COPIES[part],
            class_counts=totals,
            offset=np.count_nonzero(COPIES[: part.start]),
        )
        for part in parts
    )
    whole = maker.compute_gradients(X, Y, sample_weight=COPIES)
    assert_allclose(total.sums, whole.sums, rtol=1e-4, atol=1e-5)
    assert_allclose(total.mean_images(), whole.mean_images(), rtol=1e-6)
    nothing = maker.compute_gradients(X[:3], Y[:3], sample_weight=np.zeros(3), class_counts=totals)
    assert nothing.is_empty
    assert_array_equal((total + nothing).sums, total.sums)


def test_the_cache_knows_weights(tmp_path):
    net = counting_backbone()
    maker = distiller(net, memory=tmp_path)
    first = clone(maker).fit(X, Y, sample_weight=WEIGHTS).prototypes_
    plain = clone(maker).fit(X, Y).prototypes_
    assert_array_equal(plain, distiller(net).fit(X, Y).prototypes_)
    assert np.abs(first - plain).max() > 1e-4
    net.module.reset()
    assert_array_equal(clone(maker).fit(X, Y, sample_weight=WEIGHTS).prototypes_, first)
    assert net.module.n_images == 6 * 3 * 3 + 3  # steps and what they made, but no real images


def bad_weights():
    lacking = np.where(Y == "b", 0.0, 1.0)
    return {
        "negative": (-WEIGHTS, "Negative values in data passed to `sample_weight`"),
        "NaN": (np.where(Y == "b", np.nan, 1), "sample_weight contains NaN"),
        "short": (WEIGHTS[:-1], r"sample_weight.shape == \(17,\), expected \(18,\)"),
        "2-D": (np.ones((len(X), 2)), "1D"),
        "infinite in float32": (WEIGHTS * 1e200, "sample_weight contains infinity or a value too"),
        "no b": (lacking, r"sample_weight is zero for every sample of the classes \['b'\]"),
        "none in float32": (lacking + 1e-200, r"is zero for every .* classes \['b'\].*leave these"),
        "nothing": (np.zeros(len(X)), r"zero for every .* \['a', 'b', 'c'\]"),
    }


@pytest.mark.parametrize("weights", bad_weights())
@each
def test_bad_weights_are_refused_before_any_work(name, weights):
    net = counting_backbone()
    maker = estimator(name)
    deep = "distiller__backbone" if name == "nearest" else "backbone"
    maker.set_params(**{deep: net})
    given, message = bad_weights()[weights]
    with pytest.raises(ValueError, match=message):
        maker.fit(X, Y, sample_weight=given)
    assert not fitted_names(maker)
    if name == "distiller":
        with pytest.raises(ValueError, match=message):
            maker.compute_gradients(X, Y, sample_weight=given)
    assert net.module.n_images == 0


# ---------------------------------------------------------------- in selectors


def chosen(selector, rows, labels, weights):
    return selector.fit(rows, labels, sample_weight=weights).prototype_indices_


def test_random_images_are_drawn_in_proportion_to_their_weight():
    labels, weights = np.array([0, 0, 0, 1, 1]), [1, 3, 0, 1, 1]
    rows = np.eye(5)
    firsts = [
        chosen(RandomImages(None, random_state=seed), rows, labels, weights)[0]
        for seed in range(400)
    ]
    assert set(firsts) == {0, 1}
    assert np.mean(firsts) == pytest.approx(0.75, abs=0.08)  # four standard deviations
    pair = RandomImages(None, prototypes_per_class=2, random_state=0)
    assert sorted(chosen(pair, rows, labels, weights)[:2]) == [0, 1]


def test_centroids_and_herding_follow_the_weighted_mean():
    rows = np.abs(np.random.default_rng(3).normal(size=(18, 4)))
    weights = np.where(np.arange(18) % 5 == 0, 30.0, 1.0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for label, centroid, herded in zip(
        "abc",
        chosen(ClassCentroids(None), rows, Y, weights),
        chosen(HerdingImages(None), rows, Y, weights),
        strict=True,
    ):
        own = np.flatnonzero(label == Y)
        mean = weights[own] @ rows[own] / weights[own].sum()
        assert centroid == own[np.linalg.norm(rows[own] - mean, axis=1).argmin()]
        assert herded == own[(unit[own] @ (weights[own] @ unit[own])).argmax()]


def test_clusters_weigh_too():
    """Two clusters of a class change their order by weight, and one its centre."""
    rows = np.array([[0.0], [1], [2], [50], [51], [70], [71]])
    labels, maker = [0, 0, 0, 0, 0, 1, 1], ClassCentroids(None, prototypes_per_class=2)
    maker.set_params(random_state=0)
    assert chosen(maker, rows, labels, None)[:2].tolist() == [1, 3]
    assert chosen(maker, rows, labels, [1, 1, 9, 40, 50, 1, 1])[:2].tolist() == [4, 2]


def test_fewer_images_with_a_weight_than_prototypes():
    for maker in (RandomImages(NET, random_state=0), NearestImages(distiller())):
        deep = "distiller__" if isinstance(maker, NearestImages) else ""
        maker.set_params(**{f"{deep}prototypes_per_class": 2})
        some = np.where(Y == "b", np.cumsum(Y == "b") == 1, True)
        with pytest.raises(
            ValueError, match=r"Class 'b' has 1 images, .*sample_weight of 0 do not"
        ):
            maker.fit(X, Y, sample_weight=some)


# ---------------------------------------------------------------- metadata routing


def probe(**params):
    return FrozenBackboneProbe(NET, n_views=2, max_epochs=5, random_state=0, **params)


@each
def test_through_a_pipeline(name, routing):
    maker = estimator(name).set_fit_request(sample_weight=True)
    pipeline = make_pipeline(maker, probe()).fit(X, Y, sample_weight=WEIGHTS)
    expected = estimator(name).fit(X, Y, sample_weight=WEIGHTS)
    assert_array_equal(pipeline[0].prototypes_, expected.prototypes_)
    direct = clone(maker).fit_transform(X, Y, sample_weight=WEIGHTS)
    assert_array_equal(np.asarray(direct), np.asarray(expected.transform(X)))


@each
def test_through_a_probe_with_a_distiller(name, routing):
    maker = estimator(name)
    fitted = probe(distiller=maker.set_fit_request(sample_weight=True))
    fitted.fit(X, Y, sample_weight=WEIGHTS)
    expected = estimator(name).fit(X, Y, sample_weight=WEIGHTS)
    assert_array_equal(fitted.distiller_.prototypes_, expected.prototypes_)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        probe(distiller=estimator(name)).fit(X, Y, sample_weight=WEIGHTS)


def test_weights_for_both_the_distiller_and_the_head_are_refused(routing):
    head = LogisticRegression().set_fit_request(sample_weight=True)
    both = probe(head=head, distiller=distiller().set_fit_request(sample_weight=True))
    with pytest.raises(ValueError, match="let the distiller request it instead of the head"):
        both.fit(X, Y, sample_weight=WEIGHTS)


def test_through_cross_validation_and_searches(routing):
    maker = distiller().set_fit_request(sample_weight=True)
    whole = probe(distiller=maker).set_score_request(sample_weight=False)
    params = {"params": {"sample_weight": WEIGHTS}, "error_score": "raise"}
    found = cross_validate(whole, X, Y, cv=2, return_estimator=True, return_indices=True, **params)
    for fitted, rows in zip(found["estimator"], found["indices"]["train"], strict=True):
        expected = distiller().fit(X[rows], Y[rows], sample_weight=WEIGHTS[rows])
        assert_array_equal(fitted.distiller_.prototypes_, expected.prototypes_)
    search = GridSearchCV(whole, {"distiller__max_iter": [2, 6]}, cv=2, error_score="raise")
    best = search.fit(X, Y, sample_weight=WEIGHTS).best_estimator_.distiller_
    expected = distiller(max_iter=best.max_iter).fit(X, Y, sample_weight=WEIGHTS)
    assert_array_equal(best.prototypes_, expected.prototypes_)
