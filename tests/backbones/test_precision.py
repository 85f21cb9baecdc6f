"""Mixed precision: features within the tolerance that the documentation states, also as such."""

import pytest
import timm
import torch
from sklearn.datasets import load_sample_images

from sklgm import BackboneEmbedder
from sklgm.backbones import Backbone, get_backbone
from sklgm.backbones._precision import _CAST, with_cast_weights
from sklgm.synthesis.batch_size import counting_graph
from tests.library_nets import fill


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


def pixel_gradients(backbone, pixels, by_features, dtype):
    pixels = pixels.clone().requires_grad_()
    backbone.features(pixels, autocast=dtype).backward(by_features)
    return pixels.grad


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e-9])
def test_small_gradients_pass_in_float16(size):
    """With many classes they are smaller than what float16 can hold."""
    net = fill(timm.create_model("test_vit", num_classes=0, img_size=32))
    backbone = Backbone.from_module(net, image_size=32)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 32, 32, generator=generator)
    by_features = size * torch.randn(2, backbone.n_features, generator=generator)
    exact, fast = (
        pixel_gradients(backbone, pixels, by_features, dtype) / size
        for dtype in (None, torch.float16)
    )
    assert torch.cosine_similarity(exact.flatten(), fast.flatten(), dim=0) > 0.999
    torch.testing.assert_close(fast.norm(), exact.norm(), rtol=1e-2, atol=0)
    zero = pixel_gradients(backbone, pixels, torch.zeros_like(by_features), torch.float16)
    assert not zero.any()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_cast_once(name, dtype):
    """Features are those under plain autocast, and graphs hold no weights of their own."""
    backbone = Backbone.from_module(
        fill(timm.create_model(name, num_classes=0)), image_size=160, name=name
    )
    pixels = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        expected = backbone.module(pixels).float()

    def saved(net):
        """Return the bytes that one graph holds, weights left out, beside its images."""
        with counting_graph() as sizes, torch.autocast("cpu", dtype=dtype):
            net(pixels.clone().requires_grad_())
        return sum(sizes)

    with torch.no_grad():
        assert torch.equal(backbone.features(pixels, autocast=dtype), expected)
    cast = with_cast_weights(backbone.module, dtype)
    assert with_cast_weights(backbone.module, dtype) is cast
    # Linear layers and convolutions need their weights on the way back.
    weights = sum(part.weight.numel() for part in cast.modules() if isinstance(part, _CAST))
    assert saved(backbone.module) - saved(cast) >= 0.9 * 2 * weights
    shared = {id(tensor) for tensor in (*backbone.module.parameters(), *backbone.module.buffers())}
    own = [p for p in (*cast.parameters(), *cast.buffers()) if id(p) not in shared]
    assert {tensor.dtype for tensor in own} == {dtype}
    assert all(p.dtype == torch.float32 for p in backbone.module.parameters())
