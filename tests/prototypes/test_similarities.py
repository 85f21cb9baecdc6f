import pickle
from copy import copy, deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics.pairwise import cosine_similarity

from sklgm import BackboneEmbedder, ClassCentroids, LGMDistiller, RandomHeads, RandomImages
from sklgm.prototypes.similarities import PrototypeSimilarities, has_references
from tests.image_checks import toy_images
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
SELECTOR = RandomImages(NET, random_state=0).fit(X, Y)


@pytest.fixture
def similarities():
    return SELECTOR.transform(X)


@pytest.mark.parametrize(
    "estimator",
    [
        LGMDistiller(NET, max_iter=2, heads=RandomHeads(pool_size=4), random_state=0),
        RandomImages(NET, prototypes_per_class=2, random_state=0),
        ClassCentroids(NET),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_transform_is_the_cosine_of_the_embedded_images(estimator):
    similarities = estimator.fit(X, Y).transform(X)
    features = BackboneEmbedder(NET).fit_transform(X)
    expected = cosine_similarity(features, estimator.prototype_features_)
    assert similarities.shape == (len(X), len(estimator.prototypes_))
    assert similarities.dtype == np.float32
    assert_allclose(np.asarray(similarities), expected, rtol=1e-5, atol=1e-5)


def test_a_chosen_image_is_its_own_nearest_prototype():
    # 16 px seen and a canvas of 18: prototypes and images are prepared alike where they are square.
    similarities = np.asarray(SELECTOR.transform(X))
    chosen = SELECTOR.prototype_indices_
    assert_allclose(similarities[chosen, range(len(chosen))], 1, atol=1e-3)


def test_references(similarities):
    assert type(similarities) is PrototypeSimilarities
    assert has_references(similarities)
    assert similarities.images is X
    assert similarities.prototypes is SELECTOR.prototypes_
    assert_array_equal(similarities.prototype_labels, SELECTOR.prototype_labels_)
    assert similarities.prototype_probabilities is None
    soft = RandomImages(NET, soft_labels=True, random_state=0).fit(X, Y)
    assert soft.transform(X).prototype_probabilities is soft.prototype_probabilities_


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:3],
        lambda s: s[[0, 1]],
        lambda s: s[s[:, 0] > 0],
        lambda s: s + 1,
        lambda s: 2 * s,
        lambda s: s + s,
        lambda s: -s,
        np.abs,
        lambda s: s.T,
        lambda s: s.argmax(axis=1),
        lambda s: s.argsort(),
        lambda s: s.clip(0, 1),
        lambda s: s.view(),
        lambda s: s.round(2),
        np.sort,
        np.transpose,
        np.ravel,
        np.atleast_2d,
        np.zeros_like,
        np.concatenate,
        lambda s: np.concatenate([s, s]),
        lambda s: np.where(s > 0, s, 0),
        lambda s: np.take(s, [0, 1], axis=0),
        lambda s: np.split(s, 2)[0],
        lambda s: next(iter(s)),
        lambda s: s.copy(),
        lambda s: s.astype(float),
        lambda s: s.reshape(-1),
        lambda s: np.vstack([s, s]),
        lambda s: s.max(axis=0),
    ],
)
def test_what_is_made_of_them_is_a_plain_array(similarities, change):
    changed = change(similarities)
    assert type(changed) is np.ndarray
    assert_array_equal(changed, change(np.array(similarities)))


@pytest.mark.parametrize("copied", [copy, deepcopy])
def test_copies_have_no_references(similarities, copied):
    assert not has_references(copied(similarities))
    assert_array_equal(copied(similarities), np.array(similarities))


def test_numbers_are_numbers(similarities):
    assert isinstance(similarities[0, 0], np.float32)
    assert isinstance(similarities.sum(), np.float32)


def by_joblib(similarities, folder):
    joblib.dump(similarities, folder / "similarities.joblib")
    return joblib.load(folder / "similarities.joblib")


@pytest.mark.parametrize(
    "copied",
    [
        *(
            lambda s, _, protocol=protocol: pickle.loads(pickle.dumps(s, protocol))
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ),
        by_joblib,
    ],
)
def test_pickles_keep_the_references(similarities, copied, tmp_path):
    copied = copied(similarities, tmp_path)
    assert type(copied) is PrototypeSimilarities
    assert_array_equal(np.asarray(copied), np.asarray(similarities))
    for name in ("images", "prototypes", "prototype_labels", "features"):
        assert_array_equal(getattr(copied, name), getattr(similarities, name))
    assert copied.feature_key == similarities.feature_key


def test_they_are_an_array_to_everybody_else(similarities):
    plain = np.array(similarities)
    assert_array_equal(pd.DataFrame(similarities).to_numpy(), plain)
    assert_array_equal(np.asarray(similarities, dtype=float), plain.astype(float))
    assert similarities.argmax() == plain.argmax()
    assert repr(similarities)
