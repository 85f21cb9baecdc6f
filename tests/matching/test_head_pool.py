"""The pool of heads: a pure function of its seed."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sklgm.matching import HeadPool, heads

SIZES = {"size": 12, "n_classes": 3, "n_features": 20}


def pool(seed=5, scale=0.01, **sizes):
    return HeadPool(**SIZES | sizes, scale=scale, seed=seed)


def everything(some_pool):
    return some_pool.take(slice(None))


def test_same_seed_same_heads_bit_for_bit():
    assert torch.equal(everything(pool()), everything(pool()))
    assert everything(pool()).dtype == torch.float32
    assert everything(pool()).shape == (12, 3, 20)


def test_other_seeds_and_other_heads_differ():
    first, second = everything(pool(0)), everything(pool(1))
    rows = torch.cat([first, second]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    # Neighbouring seeds and heads have nothing in common either.
    correlation = np.corrcoef(rows.numpy())
    assert np.abs(correlation - np.eye(len(rows))).max() < 0.6


def test_heads_do_not_depend_on_the_size_of_the_pool():
    assert torch.equal(everything(pool(size=4)), everything(pool())[:4])


@pytest.mark.parametrize(
    "indices",
    [slice(2, 7), slice(0, 0), slice(10, 99), np.array([11, 0, 3, 3]), np.array([], dtype=int)],
)
def test_some_heads_are_rows_of_all(indices):
    whole = everything(pool())
    some = pool()
    for _ in range(2):
        assert torch.equal(some.take(indices, "cpu"), whole[indices])


def test_heads_are_drawn_once(monkeypatch):
    """However many batches and steps ask for them, and however large the pool is."""
    drawn = []
    draw = heads.numbered_generator
    monkeypatch.setattr(
        heads, "numbered_generator", lambda seed, i: drawn.append(i) or draw(seed, i)
    )
    large = HeadPool(size=3, n_classes=1000, n_features=1000, scale=0.01, seed=0)
    for indices in (slice(1, 2), slice(0, 3), np.array([2, 0])):
        large.take(indices)
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_spread(scale):
    weights = everything(pool(scale=scale, size=50, n_features=100)).double()
    assert weights.mean().abs() < 0.03 * scale
    np.testing.assert_allclose(weights.std(), scale, rtol=0.03)
    # Normal: 68 % and 95 % within one and two standard deviations.
    for width, share in ((1, 0.683), (2, 0.954)):
        assert (weights.abs() < width * scale).double().mean() == pytest.approx(share, abs=0.01)


def test_pickle_is_small_and_gives_the_same_heads():
    some = pool(size=200, n_features=500)
    whole = everything(some)
    pickled = pickle.dumps(some)
    assert len(pickled) < 1000
    back = pickle.loads(pickled)
    assert back == some
    assert torch.equal(everything(back), whole)
    assert torch.equal(everything(copy.deepcopy(some)), whole)


def test_global_generators_are_left_alone():
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    everything(pool())
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
