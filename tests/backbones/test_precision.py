"""Mixed precision: features within the tolerance that the documentation states, also as such."""

import pytest
import torch
from sklearn.datasets import load_sample_images

from sklgm import BackboneEmbedder
from sklgm.backbones import Backbone, get_backbone


@pytest.fixture(scope="module")
def pixels():
    """Return 24 crops of real photographs as the small net sees them."""
    photos = load_sample_images().images
    crops = [
        photo[i : i + 200, j : j + 200]
        for photo in photos
        for i in (0, 200)
        for j in range(0, 401, 80)
    ]
    return get_backbone("efficientnet_lite0", image_size=56, device="cpu").prepare(crops)


@pytest.mark.real
@pytest.mark.parametrize(
    ("dtype", "mean", "largest"), [(torch.bfloat16, 0.1, 0.4), (torch.float16, 0.01, 0.05)]
)
def test_features_within_tolerance(pixels, dtype, mean, largest):
    backbone = get_backbone("efficientnet_lite0", image_size=56, device="cpu")
    with torch.no_grad():
        exact, fast = backbone.features(pixels), backbone.features(pixels, autocast=dtype)
    assert fast.dtype == torch.float32
    assert not torch.equal(exact, fast)
    error = (exact - fast).norm(dim=1) / exact.norm(dim=1)
    assert error.mean() < mean
    assert error.max() < largest


def test_gradients_under_bfloat16():
    """They reach every pixel and point where those of float32 point."""
    backbone = Backbone.from_name("clip_rn50", image_size=64, pretrained=False)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(2, 3, 64, 64, generator=generator)
    gradients = []
    for dtype in (None, torch.bfloat16):
        pixels = start.clone().requires_grad_()
        backbone.features(pixels, autocast=dtype).square().sum().backward()
        gradients.append(pixels.grad)
    exact, fast = gradients
    assert fast.dtype == torch.float32
    assert fast.abs().sum(1).ne(0).all()
    assert torch.cosine_similarity(exact.flatten(), fast.flatten(), dim=0) > 0.98


@pytest.mark.real
def test_estimators_take_a_precision():
    photos = load_sample_images().images
    settings = {"backbone": "efficientnet_lite0", "image_size": 56, "device": "cpu"}
    exact, same, fast = (
        BackboneEmbedder(**settings, precision=precision).fit_transform(photos)
        for precision in ("float32", "auto", "bfloat16")
    )
    assert (exact == same).all()  # on a CPU
    assert (exact != fast).any()
    assert abs(exact - fast).max() < 0.15 * abs(exact).max()
