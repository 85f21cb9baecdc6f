"""Images much longer than wide: as the libraries have them, and without a huge copy on the way."""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from sklgm import Backbone
from sklgm.images import resize_crop, resizing

rng = np.random.default_rng(3)
# Resized as a whole to 518 pixels, the longer ones would take 12 GB and more.
STRIPS = [(1, 1), (1, 40_000), (40_000, 1), (3, 65_000), (65_000, 3), (1, 400_000)]
SHAPES = [(1, 90), (90, 1), (2, 301), (301, 2), (3, 200), (7, 150), (500, 11), (33, 40), (16, 16)]
MODES = ["center", "squash", "border", "shortest", "longest"]


def backbone(mode, size, interpolation="bicubic"):
    name = "timm:test_vit" if mode in MODES[:3] else "open_clip:ViT-B-32"
    spec = Backbone.from_name(name, pretrained=False).spec
    spec = replace(spec, resize=mode, interpolation=interpolation)
    return Backbone(spec, size, False, torch.device("cpu"))


def theirs(net):
    """The library's own transforms of a backbone, up to the tensor."""
    spec, size = net.spec, net.image_size
    if spec.source == "timm":
        options = {"crop_pct": spec.crop_pct, "crop_mode": spec.resize}
        options |= {"interpolation": spec.interpolation, "mean": spec.mean, "std": spec.std}
        steps = create_transform((3, size, size), **options).transforms
    else:
        options = {"resize_mode": spec.resize, "interpolation": spec.interpolation}
        steps = open_clip.image_transform(size, is_train=False, **options).transforms
    return Compose(steps[:-2])


def picture(shape):
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", STRIPS)
@pytest.mark.parametrize("size", [56, 518])
def test_strips_are_resized(shape, size):
    image = np.broadcast_to(np.array([10, 200, 90], np.uint8), (*shape, 3))
    square = resize_crop(image, size)
    assert square.shape == (size, size, 3)
    assert (square == [10, 200, 90]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", STRIPS)
def test_backbones_resize_strips(mode, shape):
    image = np.full((*shape, 3), 77, np.uint8)
    square = backbone(mode, 32).resize(image)
    assert square.shape == (32, 32, 3)
    assert (square == 77).all(axis=-1).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_ordinary_images_are_equal_to_the_librarys(mode, interpolation):
    for size in (15, 32, 225):
        net = backbone(mode, size, interpolation)
        for shape in [(33, 40), (16, 16), (640, 480), (481, 641), (5, 3), (100, 1000), (17, 400)]:
            if mode in ("border", "longest") and size * min(shape) < max(shape):
                continue  # there, timm and open_clip round a side to none and fail
            image = picture(shape)
            expected = np.asarray(theirs(net)(Image.fromarray(image)))
            np.testing.assert_array_equal(net.resize(image), expected)


@pytest.mark.parametrize("filter", ["BICUBIC", "BILINEAR", "LANCZOS", "HAMMING"])
def test_a_part_is_what_the_whole_would_have(filter, monkeypatch):
    monkeypatch.setattr(resizing, "_HUGE", 0)  # every resized image counts as huge
    n_off, n = 0, 0
    for shape in SHAPES[:7]:
        for size in (13, 16, 57):
            image = picture(shape)
            whole = Compose([Resize(size, InterpolationMode[filter]), CenterCrop(size)])
            expected = np.asarray(whole(Image.fromarray(image)), dtype=int)
            off = np.abs(np.asarray(whole(resizing.Picture(image))) - expected)
            assert off.max() <= 2
            n_off, n = n_off + (off > 0).sum(), n + off.size
    assert n_off < 0.01 * n


@pytest.mark.parametrize("mode", ["center", "shortest"])
def test_a_part_through_the_librarys_steps(mode, monkeypatch):
    net = backbone(mode, 24)
    images = [picture(shape) for shape in SHAPES[:5]]
    expected = [np.asarray(theirs(net)(Image.fromarray(image)), dtype=int) for image in images]
    monkeypatch.setattr(resizing, "_HUGE", 600)
    for image, square in zip(images, expected, strict=True):
        assert np.abs(net.resize(image) - square).max() <= 2
