import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import cosine_similarity

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    RandomHeads,
    RandomImages,
)
from sklgm.estimators.selectors.base import choose_distinct
from tests.estimators.test_callbacks import Recorder
from tests.image_checks import (
    IMAGE_CHECKS,
    assert_same_outputs,
    fitted_names,
    save_images,
    toy_images,
)
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


def random_images(backbone=NET, *, prototypes_per_class=1):
    return RandomImages(backbone, prototypes_per_class=prototypes_per_class, random_state=0)


def class_centroids(backbone=NET, *, prototypes_per_class=1):
    return ClassCentroids(backbone, prototypes_per_class=prototypes_per_class, random_state=0)


def nearest_images(backbone=NET, *, prototypes_per_class=1):
    return NearestImages(distiller(backbone, prototypes_per_class=prototypes_per_class))


def herding_images(backbone=NET, *, prototypes_per_class=1):
    return HerdingImages(backbone, prototypes_per_class=prototypes_per_class)


def k_center_images(backbone=NET, *, prototypes_per_class=1):
    return KCenterImages(backbone, prototypes_per_class=prototypes_per_class)


each = pytest.mark.parametrize(
    "selector",
    [random_images, class_centroids, herding_images, k_center_images, nearest_images],
)


@each
def test_prototypes_are_real_images_on_the_canvas(selector):
    fitted = selector(NET, prototypes_per_class=2).fit(X, Y)
    assert fitted.prototypes_.shape == (6, 18, 18, 3)
    assert fitted.prototypes_.dtype == np.float32
    assert fitted.prototype_indices_.shape == (6,)
    assert len(set(fitted.prototype_indices_)) == 6
    assert_array_equal(fitted.prototype_labels_, Y[fitted.prototype_indices_])
    assert fitted.prototype_labels_.tolist() == ["a", "a", "b", "b", "c", "c"]
    for prototype, i in zip(fitted.prototypes_, fitted.prototype_indices_, strict=True):
        expected = np.asarray(Image.fromarray(X[i]).resize((18, 18), Image.BICUBIC))
        assert_array_equal(prototype, expected / np.float32(255))


@each
def test_of_files_only_the_chosen_are_needed_as_prototypes(selector, tmp_path):
    paths = save_images(X, tmp_path)
    fitted = selector().fit(paths, Y)
    expected = selector().fit(X, Y)
    assert_array_equal(fitted.prototypes_, expected.prototypes_)
    assert_array_equal(fitted.prototype_indices_, expected.prototype_indices_)


@each
def test_a_class_too_small(selector):
    keep = np.flatnonzero(Y != "b").tolist() + np.flatnonzero(Y == "b")[:2].tolist()
    estimator = selector(NET, prototypes_per_class=3)
    with pytest.raises(
        ValueError, match="Class 'b' has 2 images, fewer than prototypes_per_class=3"
    ):
        estimator.fit(X[keep], Y[keep])
    assert not fitted_names(estimator)
    assert len(selector(NET, prototypes_per_class=2).fit(X[keep], Y[keep]).prototypes_) == 6


@each
def test_rows(selector):
    rows = np.random.default_rng(0).normal(size=(18, 4))
    fitted = selector(None).fit(rows, Y)
    assert_array_equal(fitted.prototypes_, rows[fitted.prototype_indices_].astype(np.float32))


def test_random_images_embed_only_what_they_chose():
    net = counting_backbone()
    RandomImages(net, random_state=0).fit(X, Y)
    assert net.module.n_images == 3


def test_random_images_follow_their_seed():
    def choose(seed):
        return RandomImages(NET, random_state=seed).fit(X, Y).prototype_indices_.tolist()

    assert choose(0) == choose(0)
    assert len({tuple(choose(seed)) for seed in range(8)}) > 3
    assert len({tuple(choose(None)) for _ in range(8)}) > 3


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_k_centres_are_the_greedy_ones_and_at_most_twice_as_far_as_the_best(n):
    features = BackboneEmbedder(NET).fit_transform(X).astype(float)
    chosen = KCenterImages(NET, prototypes_per_class=n).fit(X, Y).prototype_indices_
    for label, taken in zip("abc", chosen.reshape(3, n).tolist(), strict=True):
        rows = np.flatnonzero(label == Y)
        distances = {row: pairwise_distances(features[[row]], features)[0] for row in rows}

        def to_nearest(centres, rows=rows, distances=distances):
            return {row: min(distances[centre][row] for centre in centres) for row in rows}

        from_mean = np.linalg.norm(features[rows] - features[rows].mean(axis=0), axis=1)
        expected = [rows[from_mean.argmin()]]
        while len(expected) < n:
            left = to_nearest(expected)
            expected.append(max(left, key=left.get))
        assert taken == expected
        radii = [max(to_nearest(c).values()) for c in itertools.combinations(rows, n)]
        assert max(to_nearest(taken).values()) <= 2 * min(radii)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_herding_is_algorithm_4_of_icarl(n):
    """The distance between means that all have length 1, tried for every image left."""
    features = BackboneEmbedder(NET).fit_transform(X).astype(float)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = []
    for label in "abc":
        rows = np.flatnonzero(label == Y).tolist()
        mean = features[rows].mean(axis=0)
        mean /= np.linalg.norm(mean)
        taken = []
        for _ in range(n):
            distances = {}
            for row in set(rows) - set(taken):
                candidate = features[[*taken, row]].mean(axis=0)
                distances[row] = np.linalg.norm(mean - candidate / np.linalg.norm(candidate))
            taken.append(min(distances, key=distances.get))
        expected += taken
    found = HerdingImages(NET, prototypes_per_class=n).fit(X, Y).prototype_indices_
    assert found.tolist() == expected


def test_herding_takes_the_first_of_equal_images():
    rows = np.array([[0.0, 1], [0, 1], [2, 0], [1, 1], [1, 1], [1, 1]])
    y = [0, 0, 0, 1, 1, 1]
    chosen = HerdingImages(None, prototypes_per_class=3).fit(rows, y).prototype_indices_
    assert chosen.tolist() == [0, 2, 1, 3, 4, 5]


def test_a_centroid_is_the_nearest_to_the_mean_feature():
    features = BackboneEmbedder(NET).fit_transform(X).astype(float)
    expected = []
    for label in "abc":
        rows = np.flatnonzero(label == Y)
        distances = pairwise_distances(features[rows], features[rows].mean(axis=0)[None])[:, 0]
        expected.append(rows[distances.argmin()])
    for seed in (0, 1, None):
        fitted = ClassCentroids(NET, random_state=seed).fit(X, Y)
        assert fitted.prototype_indices_.tolist() == expected


def best_clusters(rows, n_clusters):
    """Try every way to divide rows into clusters; return the one with the least inertia."""
    best, least = None, np.inf
    for owners in itertools.product(range(n_clusters), repeat=len(rows)):
        owners = np.array(owners)
        if len(set(owners)) < n_clusters:
            continue
        clusters = [rows[owners == k] for k in range(n_clusters)]
        inertia = sum(((part - part.mean(axis=0)) ** 2).sum() for part in clusters)
        if inertia < least:
            best, least = clusters, inertia
    return best


@pytest.mark.parametrize("count", [2, 3])
def test_several_centroids_are_those_of_clusters(count):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(14, 2))
    labels = np.repeat([0, 1], 7)
    expected = []
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        for part in best_clusters(rows[own], count):
            distances = pairwise_distances(rows[own], part.mean(axis=0)[None])[:, 0]
            # Of a cluster of two, both are equally far from its mean.
            expected.append(own[np.isclose(distances, distances.min()).argmax()])
    assert len(set(expected)) == 2 * count
    fitted = ClassCentroids(None, prototypes_per_class=count, random_state=0).fit(rows, labels)
    assert sorted(fitted.prototype_indices_) == sorted(expected)
    again = clone(fitted).fit(rows, labels)
    assert_array_equal(again.prototype_indices_, fitted.prototype_indices_)


def test_the_largest_cluster_comes_first():
    rows = np.array([[0.0], [0], [9], [9], [9], [1], [2]])
    fitted = ClassCentroids(None, prototypes_per_class=2, random_state=0)
    assert fitted.fit(rows, [0, 0, 0, 0, 0, 1, 1]).prototype_indices_[:2].tolist() == [2, 0]


@each
def test_as_many_prototypes_as_images(selector):
    fitted = selector(prototypes_per_class=6).fit(X, Y)
    assert sorted(fitted.prototype_indices_) == list(range(len(X)))


@each
def test_equal_images_are_chosen_once_each(selector):
    images = np.repeat(X[:2], 3, axis=0)
    labels = [0, 0, 0, 1, 1, 1]
    fitted = selector(prototypes_per_class=3).fit(images, labels)
    assert sorted(fitted.prototype_indices_) == list(range(6))
    if selector is not random_images:
        fitted = selector(prototypes_per_class=2).fit(images, labels)
        assert fitted.prototype_indices_.tolist() == [0, 1, 3, 4]


def test_choose_distinct():
    distances = np.array([[3, 1, 1, 2], [3, 1, 1, 2], [9, 0, 0, 8], [1, 1, 1, 1]], dtype=float)
    assert choose_distinct(distances).tolist() == [1, 2, 3, 0]
    assert distances.max() == 9
    assert choose_distinct(np.array([[0.3, 0.1 + 0.2 - 0.2, 0.1]])).tolist() == [1]


def test_of_equally_near_images_the_first_is_taken():
    rows = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [5, 5], [5, 5], [5, 5]])
    for count, expected in ((1, [0, 4]), (2, [4, 5])):
        fitted = ClassCentroids(None, prototypes_per_class=count, random_state=0)
        fitted.fit(rows, [0, 0, 0, 0, 1, 1, 1])
        assert fitted.prototype_indices_[-2:].tolist() == expected
    images = np.repeat(X[:2], 3, axis=0)
    fitted = ClassCentroids(NET, batch_size=6).fit(images, [0, 0, 0, 1, 1, 1])
    assert fitted.prototype_indices_.tolist() == [0, 3]


def test_similarity_to_a_prototype_is_one_for_itself():
    fitted = ClassCentroids(NET).fit(X, Y)
    images = np.rint(fitted.prototypes_ * 255).astype(np.uint8)
    assert_allclose(np.diag(np.asarray(fitted.transform(images))), 1, atol=1e-5)


# ---------------------------------------------------------------- nearest images


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("maker", [distiller, random_images], ids=lambda maker: maker.__name__)
def test_nearest_images_are_the_most_similar_of_their_class(maker, count):
    fitted = NearestImages(maker(prototypes_per_class=count)).fit(X, Y)
    features = BackboneEmbedder(NET).fit_transform(X)
    taken = []
    for prototype, label in zip(
        fitted.distiller_.prototype_features_, fitted.distiller_.prototype_labels_, strict=True
    ):
        similarities = cosine_similarity(features, prototype[None])[:, 0]
        similarities[(label != Y) | np.isin(np.arange(len(X)), taken)] = -2
        taken.append(int(similarities.argmax()))
    assert fitted.prototype_indices_.tolist() == taken
    assert_array_equal(fitted.prototype_labels_, fitted.distiller_.prototype_labels_)
    assert_array_equal(fitted.classes_, ["a", "b", "c"])


def test_the_distiller_is_cloned():
    maker = distiller()
    fitted = NearestImages(maker).fit(X, Y)
    assert not fitted_names(maker)
    assert_array_equal(fitted.distiller_.prototypes_, maker.fit(X, Y).prototypes_)


def test_a_frozen_distiller_is_not_fitted_again():
    net = counting_backbone()
    maker = distiller(net).fit(X, Y)
    net.module.reset()
    fitted = NearestImages(FrozenEstimator(maker)).fit(X, Y)
    assert net.module.n_images == len(X) + 3
    assert fitted.distiller_.prototypes_ is maker.prototypes_
    expected = NearestImages(distiller(net)).fit(X, Y)
    assert_array_equal(fitted.prototype_indices_, expected.prototype_indices_)
    assert_same_outputs(fitted, expected, X)
    with pytest.raises(NotFittedError):
        NearestImages(FrozenEstimator(distiller())).fit(X, Y)


@pytest.mark.parametrize("labels", [np.where(Y == "a", "z", Y), np.where(Y == "a", "b", Y)])
def test_a_frozen_distiller_of_other_classes(labels):
    estimator = NearestImages(FrozenEstimator(distiller().fit(X, Y)))
    with pytest.raises(ValueError, match=r"frozen distiller include \['a'\]"):
        estimator.fit(X, labels)
    assert not fitted_names(estimator)


def test_several_backbones_compare_in_the_first():
    maker = distiller([NET, tiny_backbone(image_size=24, seed=1)])
    fitted = NearestImages(maker).fit(X, Y)
    expected = cosine_similarity(
        BackboneEmbedder(NET).fit_transform(X), fitted.distiller_.prototype_features_
    )
    expected[Y[:, None] != fitted.prototype_labels_] = -2
    assert_array_equal(fitted.prototype_indices_, expected.argmax(axis=0))
    assert fitted.transform(X).shape == (len(X), 3)


def test_a_class_too_small_is_found_before_distilling():
    net = counting_backbone()
    with pytest.raises(ValueError, match="has 6 images, fewer than prototypes_per_class=7"):
        nearest_images(net, prototypes_per_class=7).fit(X, Y)
    assert net.module.n_images == 0


def test_callbacks_reach_the_distiller():
    recorder = Recorder()
    fitted = nearest_images().set_callbacks(recorder).fit(X, Y)
    assert recorder.ended.count("fit/fit/synthesis/step") == 6
    assert recorder.n_setups == recorder.n_teardowns == 1
    assert not hasattr(fitted.distiller_, "_skl_callbacks")
    probe = FrozenBackboneProbe(NET, distiller=nearest_images(), n_views=2, max_epochs=2)
    recorder = Recorder()
    probe.set_callbacks(recorder).fit(X, Y)
    assert sum(path.endswith("synthesis/step") for path in recorder.ended) == 6


def test_memory_is_the_distillers(tmp_path):
    net = counting_backbone()
    first = NearestImages(distiller(net, memory=tmp_path)).fit(X, Y)
    net.module.reset()
    again = NearestImages(distiller(net, memory=tmp_path)).fit(X, Y)
    assert_array_equal(first.prototype_indices_, again.prototype_indices_)
    assert net.module.n_images == 6 * 3 * 3 + 3 + 3  # synthesis, and twice the prototypes


def test_what_it_does_not_know_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'NearestImages' object has no attribute 'colour'"):
        nearest_images().colour  # noqa: B018
    assert_array_equal(
        pickle.loads(pickle.dumps(nearest_images())).fit(X, Y).prototype_indices_,
        nearest_images().fit(X, Y).prototype_indices_,
    )


# These set a parameter that belongs to the distiller here, or make one without arguments.
NOT_FOR_NEAREST = {
    "check_batch_size_changes_nothing",
    "check_decoding_threads_change_nothing",
    "check_defaults_are_plain_values",
    "check_get_params_and_set_params",
}


@pytest.mark.parametrize(
    "check",
    [check for check in IMAGE_CHECKS if check.__name__ not in NOT_FOR_NEAREST],
    ids=lambda check: check.__name__,
)
def test_image_check(check):
    check(nearest_images(), *toy_images())


def test_in_a_probe():
    fitted = FrozenBackboneProbe(
        NET,
        distiller=nearest_images(prototypes_per_class=2),
        n_views=5,
        max_epochs=60,
        learning_rate=0.05,
        random_state=0,
    ).fit(X, Y)
    assert fitted.score(X, Y) > 0.75
