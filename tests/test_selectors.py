import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.metrics import pairwise_distances

from sklgm import BackboneEmbedder, ClassCentroids, RandomImages
from tests.image_checks import fitted_names, save_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
both = pytest.mark.parametrize("selector", [RandomImages, ClassCentroids])


@both
def test_prototypes_are_real_images_on_the_canvas(selector, tmp_path):
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


@both
def test_of_files_only_the_chosen_are_needed_as_prototypes(selector, tmp_path):
    paths = save_images(X, tmp_path)
    params = {"random_state": 0} if selector is RandomImages else {}
    fitted = selector(NET, **params).fit(paths, Y)
    expected = selector(NET, **params).fit(X, Y)
    assert_array_equal(fitted.prototypes_, expected.prototypes_)
    assert_array_equal(fitted.prototype_indices_, expected.prototype_indices_)


@both
def test_a_class_too_small(selector):
    keep = np.flatnonzero(Y != "b").tolist() + np.flatnonzero(Y == "b")[:2].tolist()
    estimator = selector(NET, prototypes_per_class=3)
    with pytest.raises(
        ValueError, match="Class 'b' has 2 images, fewer than prototypes_per_class=3"
    ):
        estimator.fit(X[keep], Y[keep])
    assert not fitted_names(estimator)
    assert len(selector(NET, prototypes_per_class=2).fit(X[keep], Y[keep]).prototypes_) == 6


@both
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


def test_every_image_is_chosen_in_the_end():
    fitted = RandomImages(NET, prototypes_per_class=6, random_state=0).fit(X, Y)
    assert sorted(fitted.prototype_indices_) == list(range(len(X)))


@pytest.mark.parametrize("count", [1, 3])
def test_centroids_are_the_nearest_to_the_mean_feature(count):
    features = BackboneEmbedder(NET).fit_transform(X).astype(float)
    expected = []
    for label in "abc":
        rows = np.flatnonzero(label == Y)
        distances = pairwise_distances(features[rows], features[rows].mean(axis=0)[None])[:, 0]
        expected += rows[distances.argsort()[:count]].tolist()
    fitted = ClassCentroids(NET, prototypes_per_class=count).fit(X, Y)
    assert fitted.prototype_indices_.tolist() == expected


def test_of_equally_near_images_the_first_is_taken():
    rows = np.array([[1.0, 0], [-1, 0], [0, 1], [5, 5], [5, 5], [5, 5]])
    fitted = ClassCentroids(None, prototypes_per_class=2).fit(rows, [0, 0, 0, 1, 1, 1])
    assert fitted.prototype_indices_[2:].tolist() == [3, 4]
    images = np.repeat(X[:2], 3, axis=0)
    fitted = ClassCentroids(NET, batch_size=6).fit(images, [0, 0, 0, 1, 1, 1])
    assert fitted.prototype_indices_.tolist() == [0, 3]


def test_similarity_to_a_prototype_is_one_for_itself():
    fitted = ClassCentroids(NET).fit(X, Y)
    images = np.rint(fitted.prototypes_ * 255).astype(np.uint8)
    assert_allclose(np.diag(np.asarray(fitted.transform(images))), 1, atol=1e-5)
