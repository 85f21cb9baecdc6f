"""Soft labels of prototypes: who teaches, on what views, and what stays as it was."""

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    RandomHeads,
    RandomImages,
    RealGradients,
)
from sklgm.images import check_images
from sklgm.matching.discriminant import discriminant_head, discriminant_probabilities
from sklgm.passes.real_pass import RealPass
from sklgm.synthesis import StandardAugmentation
from tests.followers import Follower
from tests.image_checks import hard_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
HARD = hard_images()
# Unequal classes, of features that are the same in float32.
IRIS, SPECIES = (part[20:] for part in load_iris(return_X_y=True))
IRIS = IRIS.astype(np.float32).astype(np.float64)
TABLE = IRIS, SPECIES


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **({"soft_labels": True} | settings | params))


def with_classes(probabilities):
    """Return what is half these and half the class; as many rows of each, in their order."""
    own = np.arange(len(probabilities)) * 3 // len(probabilities)
    return 0.5 * np.asarray(probabilities) + 0.5 * np.eye(3)[own]


def lda(features, labels):
    """scikit-learn's, whose scores are twice those of ours; as a function."""
    priors = np.full(3, 1 / 3)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", priors=priors, shrinkage=0.5)
    fitted.fit(features.astype(np.float64), labels)

    def probabilities(rows):
        scores = fitted.decision_function(np.asarray(rows, dtype=np.float64))
        return with_classes(softmax(scores / 2, axis=1))

    return probabilities


MAKERS = {
    "distiller": distiller(),
    "random": RandomImages(NET, soft_labels=True, random_state=0),
    "centroids": ClassCentroids(NET, soft_labels=True, random_state=0),
    "herding": HerdingImages(NET, soft_labels=True, random_state=0),
    "k-centre": KCenterImages(NET, soft_labels=True, random_state=0),
    "nearest": NearestImages(distiller()),
}
each = pytest.mark.parametrize("name", MAKERS)


def turned_off(estimator):
    soft = [name for name in estimator.get_params() if name.endswith("soft_labels")]
    return clone(estimator).set_params(**dict.fromkeys(soft, False))


@each
def test_they_are_made_and_nothing_else_changes(name):
    fitted = clone(MAKERS[name]).fit(X, Y)
    plain = turned_off(fitted).fit(X, Y)
    assert not hasattr(plain, "prototype_probabilities_")
    assert_array_equal(fitted.prototypes_, plain.prototypes_)
    assert_array_equal(fitted.prototype_labels_, plain.prototype_labels_)
    found = fitted.prototype_probabilities_
    assert found.dtype == np.float32
    assert found.shape == (3, 3)
    assert found.min() >= 0
    assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert_array_equal(fitted.classes_[found.argmax(axis=1)], fitted.prototype_labels_)
    again = clone(fitted).fit(X, Y)
    assert_array_equal(again.prototype_probabilities_, found)


@each
def test_a_refit_without_forgets_them(name):
    fitted = clone(MAKERS[name]).fit(X, Y)
    soft = [name for name in fitted.get_params() if name.endswith("soft_labels")]
    fitted.set_params(**dict.fromkeys(soft, False)).fit(X, Y)
    assert not hasattr(fitted, "prototype_probabilities_")


@each
def test_a_shared_generator_goes_on_as_without(name):
    states = []
    for change in (clone, turned_off):
        state, estimator = np.random.RandomState(3), change(MAKERS[name])
        seeds = [key for key in estimator.get_params() if key.endswith("random_state")]
        estimator.set_params(**dict.fromkeys(seeds, state)).fit(X, Y)
        # `NearestImages` fits a clone of its distiller.
        states.append(state.randint(2**31, size=4))
    assert_array_equal(*states)


@pytest.mark.parametrize("largest", [0, 3])
def test_of_rows_they_are_scikit_learns(largest):
    """A weight is as good as copies, and one of 0 leaves out."""
    weights = np.arange(len(IRIS)) % (largest + 1) + (largest == 0)
    copies = np.repeat(np.arange(len(IRIS)), weights)
    fitted = distiller(None, prototypes_per_class=2, max_iter=60)
    fitted.fit(IRIS, SPECIES, sample_weight=weights)
    expected = lda(IRIS[copies], SPECIES[copies])(fitted.prototypes_)
    assert_allclose(fitted.prototype_probabilities_, expected, atol=1e-5)


@pytest.mark.parametrize("selector", [RandomImages, ClassCentroids, HerdingImages, KCenterImages])
def test_of_selected_rows_they_are_scikit_learns(selector):
    """A weight is as good as copies, and one of 0 leaves out."""
    weights = np.random.default_rng(0).integers(0, 4, len(IRIS))
    fitted = selector(None, prototypes_per_class=2, soft_labels=True, random_state=0)
    fitted.fit(IRIS, SPECIES, sample_weight=weights)
    copies = np.repeat(np.arange(len(IRIS)), weights)
    expected = lda(IRIS[copies], SPECIES[copies])(fitted.prototypes_)
    assert_allclose(fitted.prototype_probabilities_, expected, atol=1e-6)


def test_a_selector_learns_as_a_distiller_does_and_shows_random_views():
    fitted = RandomImages(NET, soft_labels=True, random_state=0).fit(HARD, Y)
    sums = RealGradients(np.unique(Y), store_covariance=True)
    RealPass(
        BackboneEmbedder(NET)._encoder(), torch.device("cpu"), StandardAugmentation(), 1, 0
    ).add(sums, check_images(HARD), Y, np.ones(len(Y)))
    head = discriminant_head(*sums.class_moments())

    def teacher(features):
        return with_classes(discriminant_probabilities(features, *head))

    # Of far more views than the 100 that there are of each.
    augmentation = StandardAugmentation()
    generator = torch.Generator().manual_seed(1)
    images = torch.from_numpy(fitted.prototypes_).permute(0, 3, 1, 2).repeat_interleave(2000, 0)
    views = augmentation.draw(len(images), images.shape[-1], generator)
    with torch.no_grad():
        features = NET.features(augmentation.apply(images, views, NET.image_size)).numpy()
    shown = teacher(features).reshape(3, 2000, 3)
    error = shown.std(axis=1) / 10
    assert (np.abs(fitted.prototype_probabilities_ - shown.mean(axis=1)) < 4 * error + 1e-6).all()
    centres = teacher(fitted.prototype_features_)
    assert np.abs(fitted.prototype_probabilities_ - centres).max() > 0.01


def test_the_views_of_a_distiller_are_its_own():
    """Two classes that are each other's mirror images."""
    bright = np.random.default_rng(0).integers(0, 128, (9, *X.shape[1:]), dtype=np.uint8)
    bright[:, :, : bright.shape[2] // 2] += 127
    images = np.concatenate([bright, bright[:, :, ::-1]])
    sides = np.repeat(["left", "right"], 9)
    never = StandardAugmentation(scale=(0.8, 1.0), flip=0)
    fitted = distiller(augmentation=never, max_iter=40).fit(images, sides)
    assert np.diag(fitted.prototype_probabilities_).min() > 0.8
    flipped = distiller(augmentation="standard", max_iter=40).fit(images, sides)
    surest = np.diag(flipped.prototype_probabilities_).max()
    assert surest < np.diag(fitted.prototype_probabilities_).min()


def test_selections_of_the_same_images_share_what_is_kept(tmp_path):
    net = counting_backbone()
    settings = {"soft_labels": True, "memory": str(tmp_path)}
    first = RandomImages(net, random_state=0, **settings).fit(X, Y)
    net.module.reset()
    second = RandomImages(net, random_state=1, **settings).fit(X, Y)
    # The centre crop of each chosen image, and 100 views.
    assert net.module.n_images == 3 * (1 + 100)
    again = RandomImages(net, random_state=1, soft_labels=True).fit(X, Y)
    assert_array_equal(second.prototype_probabilities_, again.prototype_probabilities_)
    assert (first.prototype_indices_ != second.prototype_indices_).any()


def test_callbacks_do_not_pay_for_them():
    """One that looks at the prototypes after each step gets these alone."""
    net = counting_backbone()
    counts = []
    for soft_labels in (False, True):
        net.module.reset()
        distiller(net, soft_labels=soft_labels).set_callbacks(Look()).fit(X, Y)
        counts.append(net.module.n_images)
    assert counts[1] == counts[0] + 3 * 100


class Look(Follower):
    """A callback that looks at the prototypes after each step."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "step":
            assert fitted_estimator.prototypes_.shape == (3, 18, 18, 3)


def test_without_augmentation_the_centre_crop_is_shown():
    fitted = distiller(augmentation=None).fit(HARD, Y)
    expected = lda(BackboneEmbedder(NET).fit_transform(HARD), Y)(fitted.prototype_features_)
    assert_allclose(fitted.prototype_probabilities_, expected, atol=1e-4)


def test_the_teacher_of_several_is_the_mean_of_those_of_each():
    nets = [NET, tiny_backbone(seed=1, n_features=9)]
    settings = {"augmentation": None}
    fitted = distiller(nets, **settings).fit(HARD, Y)
    parts = []
    for net in nets:
        embedder = BackboneEmbedder(net).fit(HARD)
        teacher = lda(embedder.transform(HARD), Y)
        # The two have the same canvas.
        parts.append(teacher(net.features(crops(fitted.prototypes_, net)).detach().numpy()))
    assert_allclose(fitted.prototype_probabilities_, np.mean(parts, axis=0), atol=1e-4)


def crops(canvases, net):
    edge = (net.canvas_size - net.image_size) // 2
    pixels = torch.from_numpy(canvases).permute(0, 3, 1, 2)
    return pixels[:, :, edge : edge + net.image_size, edge : edge + net.image_size]


def test_those_of_shards_are_those_of_the_whole():
    whole = distiller().fit(HARD, Y)
    counts = dict(zip(*np.unique(Y, return_counts=True), strict=True))
    shards = [
        distiller().compute_gradients(HARD[rows], Y[rows], class_counts=counts, offset=rows.start)
        for rows in (slice(0, 7), slice(7, 18))
    ]
    fitted = distiller().fit_gradients(sum(shards))
    assert_allclose(fitted.prototype_probabilities_, whole.prototype_probabilities_, atol=1e-4)
    plain = distiller(soft_labels=False).fit_gradients(sum(shards))
    assert_array_equal(plain.prototypes_, fitted.prototypes_)
    assert not hasattr(plain, "prototype_probabilities_")


def test_workers_add_up_what_the_teacher_needs():
    fitted = distiller(None).fit(IRIS, SPECIES)
    with joblib.parallel_config("loky", n_jobs=2):
        shared = distiller(None).compute_gradients(IRIS, SPECIES)
    alone = distiller(None).compute_gradients(IRIS, SPECIES)
    for found, expected in zip(shared.class_moments(), alone.class_moments(), strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    found = distiller(None).fit_gradients(alone).prototype_probabilities_
    assert_array_equal(found, fitted.prototype_probabilities_)


def test_gradients_without_the_covariance_are_refused():
    plain = distiller(soft_labels=False).compute_gradients(X, Y)
    with pytest.raises(ValueError, match=r"store_covariance=False.*or set soft_labels=False"):
        distiller().fit_gradients(plain)


def test_gradients_made_by_hand():
    by_hand = RealGradients(
        np.unique(SPECIES), class_counts=np.bincount(SPECIES), store_covariance=True
    ).update(IRIS, SPECIES)
    fitted = distiller(None).fit_gradients(by_hand)
    expected = lda(IRIS, SPECIES)(fitted.prototypes_)
    assert_allclose(fitted.prototype_probabilities_, expected, atol=1e-5)


def test_the_cache_tells_sums_apart_and_keeps_both(tmp_path):
    for soft_labels in (False, True, False, True):
        made = distiller(soft_labels=soft_labels, memory=tmp_path).fit(X, Y)
        expected = distiller(soft_labels=soft_labels).fit(X, Y)
        assert_array_equal(made.prototypes_, expected.prototypes_)
        assert hasattr(made, "prototype_probabilities_") == soft_labels
        if soft_labels:
            found = made.prototype_probabilities_
            assert_array_equal(found, expected.prototype_probabilities_)


class Break(Follower):
    """A callback that interrupts a fit at the fourth step."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if self.n_steps == 4:
            raise KeyboardInterrupt


def test_an_interrupted_fit_goes_on_with_soft_labels_asked_for_later(tmp_path, at_every_step):
    """They change no picture, so the steps that were taken are not taken again."""
    stopped = distiller(soft_labels=False, memory=tmp_path).set_callbacks(Break())
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y)
    counter = Follower()
    made = distiller(memory=tmp_path).set_callbacks(counter).fit(X, Y)
    assert 0 < counter.n_steps < 6
    expected = distiller().fit(X, Y)
    assert_array_equal(made.prototypes_, expected.prototypes_)
    assert_array_equal(made.prototype_probabilities_, expected.prototype_probabilities_)


def test_steps_are_kept_until_there_are_soft_labels(tmp_path, at_every_step, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("sklgm.estimators.distiller.teach", stop)
        with pytest.raises(KeyboardInterrupt):
            distiller(memory=tmp_path).fit(X, Y)
    counter = Follower()
    made = distiller(memory=tmp_path).set_callbacks(counter).fit(X, Y)
    assert counter.n_steps == 0
    assert_array_equal(made.prototypes_, distiller().fit(X, Y).prototypes_)


@pytest.mark.parametrize("wrap", [clone, lambda one: FrozenEstimator(clone(one).fit(*TABLE))])
@pytest.mark.parametrize(
    "inner",
    [distiller(None), HerdingImages(None, soft_labels=True), NearestImages(distiller(None))],
)
def test_nearest_images_follow_their_distiller(inner, wrap):
    """Their own teacher has seen all images as they are."""
    found = NearestImages(wrap(inner)).fit(*TABLE)
    expected = lda(*TABLE)(found.prototypes_)
    assert_allclose(found.prototype_probabilities_, expected, atol=1e-6)
    plain = NearestImages(wrap(turned_off(inner))).fit(*TABLE)
    assert not hasattr(plain, "prototype_probabilities_")


@pytest.mark.parametrize("estimator", [distiller(soft_labels="yes"), RandomImages(soft_labels=1)])
def test_other_values_are_refused(estimator):
    with pytest.raises(ValueError, match="'soft_labels' parameter"):
        estimator.fit(X, Y)


def test_one_image_a_class():
    """Its views differ, but rows do not: the nearest of them decides."""
    some = np.unique(Y, return_index=True)[1]
    found = distiller().fit(X[some], Y[some]).prototype_probabilities_
    assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    rows = X[some].reshape(3, -1)[:, ::40] / 255
    fitted = RandomImages(None, soft_labels=True).fit(rows, Y[some])
    assert_allclose(fitted.prototype_probabilities_, with_classes(np.eye(3)), rtol=1e-6)
