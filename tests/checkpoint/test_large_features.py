"""Features that are too large for memory: here all of them are."""

import numpy as np
import pytest
from joblib import Memory

from sklgm import BackboneEmbedder, ClassCentroids, FrozenBackboneProbe, LGMDistiller
from sklgm.utils import arrays
from tests.image_checks import toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

X, Y = toy_images()
ROWS = np.random.default_rng(0).normal(size=(60, 5))
LABELS = np.repeat([0, 1, 2], 20)


def probe(backbone, **params):
    return FrozenBackboneProbe(backbone, n_views=4, max_epochs=20, random_state=0, **params)


@pytest.fixture
def all_are_large(monkeypatch):
    monkeypatch.setattr(arrays, "_MOST_IN_MEMORY", 0)


@pytest.mark.parametrize("memory", [False, True])
def test_results_are_the_same(memory, tmp_path, monkeypatch):
    found = []
    for most in (2**30, 0):
        monkeypatch.setattr(arrays, "_MOST_IN_MEMORY", most)
        settings = {"memory": tmp_path} if memory else {}
        net = tiny_backbone()
        distiller = LGMDistiller(net, max_iter=2, random_state=0, **settings)
        found.append(
            [
                probe(net, **settings).fit(X, Y).decision_function(X),
                BackboneEmbedder(net, **settings).fit_transform(X),
                ClassCentroids(net, **settings).fit(X, Y).prototype_indices_,
                distiller.fit_transform(X, Y),
                probe(None).fit(ROWS, LABELS).decision_function(ROWS),
            ]
        )
    for small, large in zip(*found, strict=True):
        np.testing.assert_array_equal(small, large)


def test_they_are_kept_in_memory(all_are_large, tmp_path):
    net = counting_backbone()
    memory = Memory(str(tmp_path), verbose=0)
    first = probe(net, memory=memory).fit(X, Y)
    features = BackboneEmbedder(net, memory=memory).fit_transform(X)
    files = sorted((tmp_path / "joblib" / "sklgm" / "features").iterdir())
    assert {np.load(file).shape for file in files} == {(len(X), 4, 16), (len(X), 16)}
    net.module.reset()
    again = probe(net, memory=str(tmp_path)).fit(X, Y)
    np.testing.assert_array_equal(BackboneEmbedder(net, memory=tmp_path).fit_transform(X), features)
    assert net.module.n_images == 0
    np.testing.assert_array_equal(first.decision_function(X), again.decision_function(X))
    memory.clear(warn=False)
    assert not any(file.exists() for file in files)


def test_rows_of_a_file_are_not_copied(tmp_path):
    """A probe on a mapped file holds a batch of it at a time."""
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (60, 5))
    rows[:] = ROWS
    rows.flush()
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    seen = []

    class Head:
        def get_params(self, deep=True):
            return {}

        def set_params(self):
            return self

        def fit(self, X, y):
            seen.append(X)
            return self

        def predict(self, X):
            return np.zeros(len(X))

    FrozenBackboneProbe(None, head=Head()).fit(mapped, LABELS)
    assert np.shares_memory(seen[0], mapped)
