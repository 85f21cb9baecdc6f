import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sklgm import BackboneEmbedder
from tests.image_checks import toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()


def test_features_are_the_nets_own():
    got = BackboneEmbedder(NET).fit_transform(X)
    with torch.no_grad():
        expected = NET.features(NET.prepare(X)).numpy()
    assert got.dtype == np.float32
    assert got.shape == (len(X), NET.n_features)
    assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_each_image_passes_the_net_once_in_small_batches():
    net = counting_backbone()
    embedder = BackboneEmbedder(net, batch_size=4).fit(X)
    assert net.module.n_images == 0
    embedder.transform(X)
    assert net.module.n_images == len(X)
    assert net.module.largest_batch == 4


@pytest.mark.parametrize("image_size", [32, 48])
def test_image_size(image_size):
    net = tiny_backbone(image_size=image_size)
    embedder = BackboneEmbedder(net, image_size=image_size).fit(X)
    assert embedder.transform(X).shape == (len(X), 16)
    assert embedder.n_features_out_ == 16


def test_rows_pass_through():
    rows = np.random.default_rng(0).normal(size=(10, 4))
    embedder = BackboneEmbedder(None).fit(rows)
    assert embedder.n_features_in_ == embedder.n_features_out_ == 4
    assert_array_equal(embedder.transform(rows), rows.astype(np.float32))


def test_memory(tmp_path):
    net = counting_backbone()
    paths = []
    for i, image in enumerate(X[:4]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    embedder = BackboneEmbedder(net, memory=tmp_path / "cache").fit(paths)
    first = embedder.transform(paths)
    net.module.reset()
    assert_array_equal(embedder.transform(paths), first)
    assert net.module.n_images == 0
    Image.fromarray(X[5][:10]).save(paths[0])
    changed = embedder.transform(paths)
    assert net.module.n_images == 4
    assert_array_equal(changed[1:], first[1:])
    assert np.abs(changed[0] - first[0]).max() > 1e-4


def test_in_a_pipeline():
    pipeline = make_pipeline(BackboneEmbedder(NET), LogisticRegression())
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.8


@pytest.mark.real
def test_real_weights():
    embedder = BackboneEmbedder("efficientnet_lite0", image_size=32)
    assert embedder.fit_transform(X[:2]).shape == (2, 1280)
