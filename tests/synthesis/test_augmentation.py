"""Views: what is drawn, and what is done with it, against torchvision."""

import numpy as np
import pytest
import torch
from sklearn.utils import gen_batches
from torch.autograd import gradcheck
from torchvision.transforms.v2 import functional as tv

from sklgm.synthesis.augmentation import StandardAugmentation, Views, centre_views

PLAIN = {"flip": 0.0, "blur": 0.0, "noise": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, side, dtype=torch.float32, seed=1):
    return torch.rand(n, 3, side, side, generator=seeded(seed), dtype=dtype)


def fields(views):
    return [views.boxes, views.flip, views.blur, views.noise_seeds]


# Drawing


@pytest.mark.parametrize("canvas", [8, 64, 65, 256])
@pytest.mark.parametrize(
    ("scale", "ratio"),
    [
        ((0.08, 1.0), (3 / 4, 4 / 3)),
        ((0.35, 1.0), (1.0, 1.0)),
        ((0.1, 0.1), (0.5, 2.0)),
        ((1.0, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_within_their_bounds(canvas, scale, ratio):
    views = StandardAugmentation(scale, ratio).draw(500, canvas, seeded())
    top, left, height, width = views.boxes.double().numpy().T
    assert len(views) == 500
    assert views.boxes.dtype == torch.int64
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= canvas
    assert (left + width).max() <= canvas
    assert min(height.min(), width.min()) >= 1
    # Sides are rounded to pixels; the box before that had area and ratio within bounds.
    # Where ten tries gave no box that fits, the whole canvas is taken.
    whole = (height == canvas) & (width == canvas)
    area = canvas**2
    assert np.all(((height + 0.5) * (width + 0.5) >= scale[0] * area) | whole)
    assert np.all(((height - 0.5) * (width - 0.5) <= scale[1] * area) | whole)
    assert np.all(((width + 0.5) / (height - 0.5) >= ratio[0]) | whole)
    assert np.all(((width - 0.5) / (height + 0.5) <= ratio[1]) | whole)


def test_area_is_uniform_and_ratio_is_log_uniform():
    views = StandardAugmentation((0.1, 0.3)).draw(4000, 1000, seeded())
    _, _, height, width = views.boxes.double().numpy().T
    share = height * width / 1000**2
    np.testing.assert_allclose(share.mean(), 0.2, atol=0.003)
    np.testing.assert_allclose(share.std(), 0.2 / 12**0.5, rtol=0.03)
    log_ratio = np.log(width / height)
    np.testing.assert_allclose(log_ratio.mean(), 0, atol=0.01)
    np.testing.assert_allclose(log_ratio.std(), 2 * np.log(4 / 3) / 12**0.5, rtol=0.03)


def test_boxes_lie_anywhere():
    views = StandardAugmentation((0.25, 0.25), (1.0, 1.0)).draw(3000, 32, seeded())
    for start in views.boxes[:, :2].T:
        counts = np.bincount(start, minlength=17)
        assert len(counts) == 17
        assert counts.min() > 0.6 * 3000 / 17
        assert counts.max() < 1.4 * 3000 / 17


def test_no_box_fits():
    """Twice as wide as high and as large as the canvas: impossible, so the canvas is taken."""
    views = StandardAugmentation((1.0, 1.0), (2.0, 2.0)).draw(5, 16, seeded())
    assert views.boxes.tolist() == [[0, 0, 16, 16]] * 5


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", ["flip", "blur", "noise"])
def test_frequencies(name, probability):
    views = StandardAugmentation(**PLAIN | {name: probability}).draw(4000, 16, seeded())
    drawn = {"flip": views.flip, "blur": views.blur, "noise": views.noise_seeds >= 0}
    for key, happens in drawn.items():
        expected = probability if key == name else 0
        assert happens.double().mean() == pytest.approx(expected, abs=0.025)
    assert drawn[name].all() == (probability == 1)


def test_kinds_are_independent():
    views = StandardAugmentation(flip=0.5, blur=0.5, noise=0.5).draw(4000, 16, seeded())
    kinds = torch.stack([views.flip, views.blur, views.noise_seeds >= 0]).double()
    np.testing.assert_allclose(np.corrcoef(kinds), np.eye(3), atol=0.06)
    seeds = views.noise_seeds[views.noise_seeds >= 0]
    assert len(seeds.unique()) == len(seeds)


def test_draws_follow_the_generator_alone():
    augmentation = StandardAugmentation(blur=0.5, noise=0.5)
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    generator = seeded(3)
    first, second = (augmentation.draw(20, 32, generator) for _ in range(2))
    again = augmentation.draw(20, 32, seeded(3))
    for a, b in zip(fields(first), fields(again), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.boxes, second.boxes)
    augmentation.apply(images(20, 32), first, 8)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_views_are_sliced_together():
    views = StandardAugmentation(blur=0.5, noise=0.5).draw(9, 32, seeded())
    some = views[3:5]
    assert len(some) == 2
    for part, whole in zip(fields(some), fields(views), strict=True):
        assert torch.equal(part, whole[3:5])


# Applying


@pytest.mark.parametrize(
    ("canvas", "size"), [(16, 14), (64, 56), (65, 57), (12, 40), (50, 5), (9, 1)]
)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_crops_are_torchvisions(canvas, size, dtype, atol):
    views = StandardAugmentation((0.02, 1.0)).draw(24, canvas, seeded())
    canvases = images(24, canvas, dtype)
    found = StandardAugmentation().apply(canvases, views, size)
    assert found.shape == (24, 3, size, size)
    heights = views.boxes[:, 2]
    assert canvas == 12 or (heights > size).any()
    assert canvas in (50, 9) or (heights < size).any()
    for image, box, flip, view in zip(
        canvases, views.boxes.tolist(), views.flip, found, strict=True
    ):
        expected = tv.resized_crop(image, *box, size=[size, size], antialias=True)
        if flip:
            expected = tv.horizontal_flip(expected)
        torch.testing.assert_close(view, expected, rtol=0, atol=atol)


def test_whole_canvas_at_its_own_size_is_the_image():
    canvases = images(4, 10)
    augmentation = StandardAugmentation((1.0, 1.0), (1.0, 1.0), flip=0.0)
    found = augmentation.apply(canvases, augmentation.draw(4, 10, seeded()), 10)
    assert torch.equal(found, canvases)


def test_a_constant_image_stays_constant():
    augmentation = StandardAugmentation((0.08, 1.0), blur=0.5)
    for value in (0.0, 0.3, 1.0):
        canvases = torch.full((30, 3, 64, 64), value)
        found = augmentation.apply(canvases, augmentation.draw(30, 64, seeded()), 56)
        torch.testing.assert_close(found, torch.full((30, 3, 56, 56), value))


def test_blur_is_the_mean_of_3_x_3_pixels():
    augmentation = StandardAugmentation((1.0, 1.0), (1.0, 1.0), flip=0.0, blur=0.5)
    canvases = images(20, 9)
    views = augmentation.draw(20, 9, seeded())
    found = augmentation.apply(canvases, views, 9).numpy()
    assert 0 < views.blur.sum() < 20
    padded = np.pad(canvases.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    for view, image, mean, blur in zip(
        found, canvases.numpy(), windows.mean(axis=(-2, -1)), views.blur, strict=True
    ):
        np.testing.assert_allclose(view, mean if blur else image, atol=1e-6)


def still(**changes):
    """No crop and no flip: what remains is exactly the noise."""
    settings = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "noise": 1.0}
    return StandardAugmentation(**settings | changes)


def test_noise_has_its_mean_and_spread():
    augmentation = still()
    black = torch.zeros(40, 3, 16, 16)
    noise = augmentation.apply(black, augmentation.draw(40, 16, seeded()), 16)
    # A hundredth of it is clipped.
    np.testing.assert_allclose(noise.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(noise.std(), 0.2, rtol=0.04)
    assert noise.min() == 0
    assert noise.max() == 1
    # No view, channel or pixel repeats another.
    assert np.abs(np.corrcoef(noise.flatten(1)) - np.eye(40)).max() < 0.2
    assert np.abs(np.corrcoef(noise.transpose(0, 1).flatten(1)) - np.eye(3)).max() < 0.05


def test_noise_is_replayed_exactly():
    augmentation = still(noise=0.5)
    canvases = images(12, 8)
    views = augmentation.draw(12, 8, seeded())
    found = augmentation.apply(canvases, views, 8)
    assert torch.equal(augmentation.apply(canvases, views, 8), found)
    noisy = views.noise_seeds >= 0
    assert 0 < noisy.sum() < 12
    for view, image, noise in zip(found, canvases, noisy, strict=True):
        assert torch.equal(view, image) != noise


@pytest.mark.parametrize("batch_size", [1, 5])
def test_views_do_not_depend_on_their_batch(batch_size):
    canvases = images(16, 32)
    parts = list(gen_batches(16, batch_size))
    # Noise, blur and clipping: to the last bit.
    for augmentation, size, exact in (
        (still(noise=0.3, blur=0.5), 32, True),
        (StandardAugmentation((0.08, 1.0), noise=0.3, blur=0.5), 28, False),
    ):
        views = augmentation.draw(16, 32, seeded())
        whole = augmentation.apply(canvases, views, size)
        found = torch.cat([augmentation.apply(canvases[p], views[p], size) for p in parts])
        atol = 0 if exact else 1e-6
        torch.testing.assert_close(found, whole, rtol=0, atol=atol)


def test_a_noisy_neighbour_clips_no_other_view():
    """Pixels a hair above 1, as rounding leaves them, keep their value and their gradient."""
    augmentation = still()
    views = augmentation.draw(2, 4, seeded())
    views = Views(views.boxes, views.flip, views.blur, torch.tensor([7, -1]))
    above = torch.full((2, 3, 4, 4), 1 + 1e-6, requires_grad=True)
    found = augmentation.apply(above, views, 4)
    assert torch.equal(found[1], above[1])
    found[1].sum().backward()
    assert torch.equal(above.grad[1], torch.ones(3, 4, 4))


def test_gradcheck():
    augmentation = StandardAugmentation((0.2, 0.8), flip=0.5, blur=0.5, noise=0.5)
    views = augmentation.draw(4, 6, seeded())
    assert 0 < (views.noise_seeds >= 0).sum() < 4
    canvases = 0.25 * images(4, 6, torch.float64)
    found = augmentation.apply(canvases, views, 3)
    assert found.dtype == torch.float64
    assert gradcheck(lambda x: augmentation.apply(x, views, 3), canvases.requires_grad_())


def test_images_stay_as_they_are():
    canvases = images(6, 12)
    before = canvases.clone()
    augmentation = StandardAugmentation(blur=1.0, noise=1.0)
    augmentation.apply(canvases, augmentation.draw(6, 12, seeded()), 12)
    assert torch.equal(canvases, before)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale": (0, 1)}, "scale must be .*<= 1; got"),
        ({"scale": (0.5, 0.4)}, "scale must be"),
        ({"scale": (0.5, 1.1)}, "scale must be"),
        ({"scale": (float("nan"), 1)}, "scale must be"),
        ({"ratio": (0, 1)}, "ratio must be"),
        ({"ratio": (2, 1)}, "ratio must be"),
        ({"ratio": (1, float("inf"))}, "ratio must be"),
        ({"flip": -0.1}, "'flip' parameter"),
        ({"flip": 1.1}, "'flip' parameter"),
        ({"blur": 2}, "'blur' parameter"),
        ({"noise": float("nan")}, "'noise' parameter"),
        ({"scale": 0.5}, "'scale' parameter"),
        ({"scale": (0.1, 0.5, 1)}, "scale must be"),
        ({"flip": "always"}, "'flip' parameter"),
    ],
)
def test_check_names_the_parameter(setting, message):
    with pytest.raises(ValueError, match=message):
        StandardAugmentation(**setting).check()


def test_check_passes():
    StandardAugmentation().check()
    StandardAugmentation((1e-3, 1), (1, 1), 0, 1, 1).check()


# The centre


@pytest.mark.parametrize("canvas", [64, 65, 66, 67, 18, 8, 256])
@pytest.mark.parametrize("share", [7 / 8, 0.9, 1.0])
def test_centre_is_torchvisions_crop(canvas, share):
    canvases = images(3, canvas)
    side = round(canvas * share)
    expected = tv.center_crop(canvases, [side, side])
    found = centre_views(canvases, side, share)
    assert torch.equal(found, expected)
    assert found.untyped_storage().data_ptr() == canvases.untyped_storage().data_ptr()
    for size in (side - 3, side + 5):
        resized = tv.resize(expected, [size, size], antialias=True)
        torch.testing.assert_close(centre_views(canvases, size, share), resized)


def test_canvas_of_any_image_size_needs_no_resizing():
    for size in range(4, 600):
        side = size + size % 83
        canvas = torch.zeros(1, 1).expand(1, 3, side, side)
        view = centre_views(canvas, size, size / side)
        assert view.shape == (1, 3, size, size)
        assert view.untyped_storage().data_ptr() == canvas.untyped_storage().data_ptr()
