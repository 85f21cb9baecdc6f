"""What is optimised: levels, their schedule, and the images they stand for."""

import numpy as np
import pytest
import torch

from sklgm.synthesis import FeatureRows, Pixels, Pyramid
from sklgm.synthesis.color import correlate_colors

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def start(strategy, size=16, n=2, max_iter=100, seed=0, around=None):
    return strategy.start(n, size, max_iter, seeded(seed), CPU, around)


def sides(synthetic):
    return [level.shape[-1] for level in synthetic.parameters]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (1, 64, [1, 2, 4, 8, 16, 32, 64]),
        (1, 56, [1, 2, 4, 8, 16, 32, 56]),
        (3, 50, [3, 6, 12, 24, 48, 50]),
        (1, 1, [1]),
        (64, 64, [64]),
        (56, 56, [56]),
        (33, 64, [33, 64]),
        (1, 2, [1, 2]),
        (1, 3, [1, 2, 3]),
    ],
)
def test_pyramid_sizes(first, last, expected):
    assert Pyramid(first)._sizes(last) == expected


@pytest.mark.parametrize(
    ("start_size", "size", "levels"), [(1, 16, 5), (3, 14, 4), (16, 16, 1), (1, 1, 1), (5, 6, 2)]
)
@pytest.mark.parametrize("grow_every", [1, 3])
def test_pyramid_grows_at_the_planned_steps(start_size, size, levels, grow_every):
    pyramid = start(Pyramid(start_size, grow_every), size)
    grown = []
    for step in range(20):
        before = len(pyramid.parameters)
        if pyramid.grow(step):
            grown.append(step)
        assert len(pyramid.parameters) == before + (step in grown)
        assert pyramid.is_complete == (len(pyramid.parameters) == levels)
        assert pyramid.decode().shape == (2, 3, size, size)
    assert grown == [grow_every * k for k in range(1, levels)]
    assert sides(pyramid) == Pyramid(start_size)._sizes(size)


@pytest.mark.parametrize(("max_iter", "every"), [(100, 4), (99, 3), (25, 1), (7, 1), (1, 1)])
def test_a_level_every_25th_of_all_steps(max_iter, every):
    pyramid = start(Pyramid(), max_iter=max_iter)
    grown = [step for step in range(max_iter) if pyramid.grow(step)]
    assert grown == [every * k for k in range(1, 5) if every * k < max_iter]


def test_start_size_equal_to_the_final_size_is_complete_at_once():
    """The published start loop never ends in this case."""
    pyramid = start(Pyramid(start_size=16, grow_every=1), 16)
    assert pyramid.is_complete
    assert not any(pyramid.grow(step) for step in range(50))
    assert sides(pyramid) == [16]


@pytest.mark.parametrize("start_size", [0, -1, 17, 1000, 1.5, "a"])
def test_bad_start_size(start_size):
    with pytest.raises(ValueError, match=rf"start_size.*must be.*ot '?{start_size}"):
        start(Pyramid(start_size))


@pytest.mark.parametrize("grow_every", [0, -5])
def test_bad_grow_every(grow_every):
    with pytest.raises(
        ValueError, match=rf"'grow_every'.*must be an int.*or None. Got {grow_every}"
    ):
        start(Pyramid(grow_every=grow_every))


def test_old_levels_shrink_for_a_new_one():
    pyramid = start(Pyramid(grow_every=1))
    for count in range(1, 5):
        before = [level.detach().clone() for level in pyramid.parameters]
        leaves = list(pyramid.parameters)
        pyramid.grow(100)
        assert len(pyramid.parameters) == count + 1
        for level, leaf, old in zip(pyramid.parameters, leaves, before, strict=False):
            assert level is leaf
            torch.testing.assert_close(level.detach(), old * count / (count + 1))
        assert all(level.is_leaf and level.requires_grad for level in pyramid.parameters)


def test_new_level_has_its_share_of_the_spread():
    pyramid = start(Pyramid(grow_every=1), n=20)
    for _ in range(4):
        pyramid.grow(100)
    for level in pyramid.parameters[2:]:
        np.testing.assert_allclose(level.detach().std(), 0.1 / 5, rtol=0.1)


def bilinear(level, size):
    """Along each axis by ``numpy.interp``, which holds the border value as upsampling does."""
    side = level.shape[-1]
    where = (np.arange(size) + 0.5) * side / size - 0.5

    def along(values):
        return np.interp(where, np.arange(side), values)

    return np.apply_along_axis(along, -2, np.apply_along_axis(along, -1, level))


@pytest.mark.parametrize("decorrelate", [False, True])
@pytest.mark.parametrize("size", [16, 11])
def test_decode_is_the_sum_of_upsampled_levels(decorrelate, size):
    pyramid = start(Pyramid(grow_every=1, decorrelate=decorrelate), size)
    for _ in range(3):
        pyramid.grow(100)
    total = sum(bilinear(level.detach().double().numpy(), size) for level in pyramid.parameters)
    if decorrelate:
        total = numpy_colors(total)
    expected = 1 / (1 + np.exp(-2 * total))
    images = pyramid.decode()
    assert images.dtype == torch.float32
    assert ((images > 0) & (images < 1)).all()
    np.testing.assert_allclose(images.detach(), expected, atol=1e-5)


@pytest.mark.parametrize("decorrelate", [False, True])
@pytest.mark.parametrize("strategy", [Pyramid, Pixels])
def test_start_around_images(strategy, decorrelate):
    """Take the noise away and what is left are the images, enlarged."""
    around = torch.rand(2, 3, 4, 4, generator=seeded()) * 0.8 + 0.1
    synthetic = start(strategy(decorrelate=decorrelate), 11, around=around)
    grey = start(strategy(decorrelate=decorrelate), 11)
    with torch.no_grad():
        varied, plain = synthetic.decode().logit(), grey.decode().logit()
        synthetic.parameters[0].zero_()
        mean = synthetic.decode()
    np.testing.assert_allclose(mean, bilinear(around.double().numpy(), 11), atol=1e-6)
    # The noise is that of a grey start, added to the pixels' logits.
    torch.testing.assert_close(varied - mean.logit(), plain, atol=1e-5, rtol=1e-4)


def test_black_and_white_are_within_reach():
    around = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)])
    pixels = start(Pixels(), 4, around=around)
    with torch.no_grad():
        pixels.parameters[0].zero_()
    images = pixels.decode()
    np.testing.assert_allclose(images[:, 0, 0, 0].detach(), [0.03, 0.97], atol=1e-6)
    images.sum().backward()
    assert (pixels.parameters[0].grad > 0.05).all()


def numpy_colors(images):
    matrix = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix /= np.sqrt((matrix**2).sum(axis=0)).max()
    return np.moveaxis(np.moveaxis(images, 1, -1) @ matrix.T, -1, 1)


def test_color_decorrelation_is_a_matrix_product():
    images = torch.randn(2, 3, 4, 5, generator=seeded(), dtype=torch.float64)
    found = correlate_colors(images)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, numpy_colors(images.numpy()), atol=1e-7)


def test_colors_vary_together():
    images = correlate_colors(torch.randn(1, 3, 100, 100, generator=seeded()))
    correlation = np.corrcoef(images[0].flatten(1))
    assert correlation[np.triu_indices(3, 1)].min() > 0.7


def test_pixels_are_parameters():
    assert Pixels().get_params() == {"decorrelate": False}
    pixels = start(Pixels(), size=7)
    assert pixels.is_complete
    assert not pixels.grow(1000)
    assert sides(pixels) == [7]
    expected = 1 / (1 + np.exp(-2 * pixels.parameters[0].detach().double().numpy()))
    np.testing.assert_allclose(pixels.decode().detach(), expected, atol=1e-6)
    colored = start(Pixels(decorrelate=True), size=7)
    assert torch.equal(colored.parameters[0], pixels.parameters[0])
    assert not torch.allclose(colored.decode(), pixels.decode())


def test_gradients_reach_every_level():
    pyramid = start(Pyramid(grow_every=1))
    for _ in range(4):
        pyramid.grow(100)
    pyramid.decode().square().sum().backward()
    assert all((level.grad != 0).all() for level in pyramid.parameters)


@pytest.mark.parametrize("strategy", [Pyramid(grow_every=1), Pixels()])
def test_start_is_a_function_of_the_generator(strategy):
    before = torch.get_rng_state()
    one, same, other = (start(strategy, seed=seed) for seed in (1, 1, 2))
    for synthetic in (one, same, other):
        synthetic.grow(10)
    assert torch.equal(one.decode(), same.decode())
    assert not torch.allclose(one.decode(), other.decode())
    assert torch.equal(torch.get_rng_state(), before)


def test_two_starts_of_one_strategy_share_nothing():
    strategy = Pyramid(grow_every=1)
    one, other = start(strategy), start(strategy)
    one.grow(10)
    assert len(other.parameters) == 1
    assert vars(strategy) == vars(Pyramid(grow_every=1))


def test_feature_rows_are_in_units_of_the_features():
    mean, std = torch.tensor([10.0, -5.0]), torch.tensor([0.1, 3.0])
    rows = FeatureRows(4000, mean, std, seeded())
    found = rows.decode()
    assert not rows.grow(0)
    assert found.shape == (4000, 2)
    np.testing.assert_allclose(found.detach().mean(0), mean, atol=0.15)
    np.testing.assert_allclose(found.detach().std(0), std, rtol=0.05)
    found.sum().backward()
    torch.testing.assert_close(rows.parameters[0].grad, std.expand(4000, 2))


def test_feature_rows_of_constant_features_stay_there():
    rows = FeatureRows(3, torch.tensor([4.0]), torch.tensor([0.0]), seeded())
    assert torch.equal(rows.decode(), torch.full((3, 1), 4.0))
