"""Mixed precision: features within the tolerance that the documentation states, also as such."""

import pytest
import torch
from sklearn.datasets import load_sample_images

from sklgm import BackboneEmbedder
from sklgm.backbones import Backbone, get_backbone
from sklgm.backbones._precision import _CAST, with_cast_weights
from sklgm.synthesis.batch_size import counting_graph
from tests.library_nets import fill, own_cache, undrawn


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    own_cache(monkeypatch)


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


def untrained(name, size):
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    fill(backbone.module)
    return backbone


def pixel_gradients(backbone, pixels, by_features, dtype):
    pixels = pixels.clone().requires_grad_()
    backbone.features(pixels, autocast=dtype).backward(by_features)
    return pixels.grad


@pytest.mark.parametrize("size", [1.0, 1e-5, 1e-9])
def test_small_gradients_pass_in_float16(size):
    """With many classes they are smaller than what float16 can hold."""
    backbone = untrained("timm:test_vit", 32)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 32, 32, generator=generator)
    by_features = size * torch.randn(2, backbone.n_features, generator=generator)
    exact, fast = (
        pixel_gradients(backbone, pixels, by_features, dtype) / size
        for dtype in (None, torch.float16)
    )
    assert torch.cosine_similarity(exact.flatten(), fast.flatten(), dim=0) > 0.999
    torch.testing.assert_close(fast.norm(), exact.norm(), rtol=1e-2, atol=0)


@pytest.mark.parametrize(("n", "value"), [(0, 1.0), (2, 0.0), (2, 1e-45)])
def test_nothing_to_scale_is_scaled(n, value):
    backbone = untrained("timm:test_resnet.r160_in1k", 32)
    by_features = torch.full((n, backbone.n_features), value)
    found = pixel_gradients(backbone, torch.rand(n, 3, 32, 32), by_features, torch.float16)
    assert found.shape == (n, 3, 32, 32)
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("timm:test_vit", 32), ("timm:test_resnet.r160_in1k", 64)),
        *(("timm:test_efficientnet", 64), ("clip_rn50", 64), ("clip_vitb32", 64)),
        *(("eva02_tiny", 28), ("dinov2_vits14_reg", 28), ("siglip_vitb16", 32)),
    ],
)
def test_weights_are_cast_once(name, size, dtype):
    """Features are those under plain autocast, and graphs hold no weights of their own."""
    with undrawn():
        backbone = untrained(name, size)
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    normalised = ((pixels - backbone._mean) / backbone._std).contiguous(
        memory_format=backbone._memory_format
    )
    cast = with_cast_weights(backbone.module, dtype)
    assert with_cast_weights(backbone.module, dtype) is cast

    def through(net):
        """Return features, and the bytes that their graph holds, weights left out."""
        with counting_graph() as sizes, torch.autocast("cpu", dtype=dtype):
            features = net(normalised.clone().requires_grad_()).float().detach()
        return features, sum(sizes)

    (expected, kept), (_, less) = through(backbone.module), through(cast)
    with torch.inference_mode():
        assert torch.equal(backbone.features(pixels, autocast=dtype), expected)
    # Linear layers and convolutions need their weights on the way back, two bytes a number.
    own = [part for part in cast.modules() if type(part) in _CAST]
    weights = [w for part in own for w in part.parameters(recurse=False) if w.ndim > 1]
    assert kept - less > 1.8 * sum(weight.numel() for weight in weights)
    shared = {id(tensor) for tensor in (*backbone.module.parameters(), *backbone.module.buffers())}
    copied = [p for p in (*cast.parameters(), *cast.buffers()) if id(p) not in shared]
    assert {tensor.dtype for tensor in copied} == {dtype}
    assert all(p.dtype == torch.float32 for p in backbone.module.parameters())


def test_a_net_first_seen_in_inference_mode_gives_gradients_later():
    backbone = untrained("timm:test_resnet.r160_in1k", 32)
    with torch.inference_mode():
        backbone.features(torch.rand(1, 3, 32, 32), autocast=torch.bfloat16)
    by_features = torch.ones(1, backbone.n_features)
    found = pixel_gradients(backbone, torch.rand(1, 3, 32, 32), by_features, torch.bfloat16)
    assert found.abs().sum() > 0


def test_a_net_of_ones_own_keeps_its_weights():
    """It may compute with them first."""

    class Normalised(torch.nn.Linear):
        def forward(self, images):
            assert self.weight.dtype == torch.float32
            return torch.nn.functional.linear(images.flatten(1), self.weight / self.weight.norm())

    backbone = Backbone.from_module(Normalised(3 * 16 * 16, 5), image_size=16)
    assert backbone.features(torch.rand(2, 3, 16, 16), autocast=torch.bfloat16).shape == (2, 5)
