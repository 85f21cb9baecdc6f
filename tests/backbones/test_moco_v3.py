"""MoCo-v3: its fixed position embedding, and the files that its code and the hub publish."""

import functools
import math
from dataclasses import replace

import pytest
import torch

from sklgm.backbones import Backbone, _moco_v3, _shared
from sklgm.backbones._registry import REGISTRY
from tests.library_nets import fill, save, undrawn

timm = pytest.importorskip("timm")

WIDTH, DEPTH, HEADS = 192, 12, 3


@pytest.fixture(autouse=True)
def tiny_moco(monkeypatch):
    """Let the record be one of a smaller net, which is otherwise built and filled alike."""
    monkeypatch.setattr(_shared, "_KEPT", {})
    record = replace(
        REGISTRY["mocov3_vitb16"], architecture="vit_tiny_patch16_224", n_features=WIDTH
    )
    monkeypatch.setitem(REGISTRY, "mocov3_vitb16", record)


def published_embedding(side, width):
    """Compute the embedding of the published code, one number at a time."""
    omegas = [1 / 10000 ** (k / (width // 4)) for k in range(width // 4)]
    tokens = [[0.0] * width]
    for row in range(side):
        for column in range(side):
            tokens.append(
                [math.sin(row * omega) for omega in omegas]
                + [math.cos(row * omega) for omega in omegas]
                + [math.sin(column * omega) for omega in omegas]
                + [math.cos(column * omega) for omega in omegas]
            )
    return torch.tensor(tokens)[None]


def hand_made_net(image_size=224):
    """Make the net that the published code derives its own from."""
    with undrawn():
        return timm.models.VisionTransformer(
            img_size=image_size,
            patch_size=16,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            qkv_bias=True,
            num_classes=0,
        ).eval()


@functools.cache
def _encoder(seed):
    state = dict(fill(hand_made_net(), seed).state_dict())
    return state | {"pos_embed": published_embedding(14, WIDTH)}


def encoder(seed):
    """Return the tensors of an encoder under the published code's names, projector apart."""
    return dict(_encoder(seed))


def projector(seed):
    """Return the layers that replace the classifier: linear ones and BatchNorm, in turn."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    state = {}
    for layer, n_in, n_out in ((0, WIDTH, 32), (3, 32, 32), (6, 32, 16)):
        state[f"head.{layer}.weight"] = draw(n_out, n_in)
        for name in ("weight", "bias", "running_mean", "running_var"):
            if layer < 6 or name.startswith("running"):  # the last one has no scale of its own
                state[f"head.{layer + 1}.{name}"] = draw(n_out)
        state[f"head.{layer + 1}.num_batches_tracked"] = torch.tensor(7)
    return state


def predictor():
    generator = torch.Generator().manual_seed(9)
    return {
        f"module.predictor.{name}": torch.randn(*shape, generator=generator)
        for name, shape in (
            ("0.weight", (32, 16)),
            ("1.running_var", (32,)),
            ("3.weight", (16, 32)),
        )
    }


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def wrapped(state):
    """Return what the published training loop saves."""
    return {
        "epoch": 300,
        "arch": "vit_base",
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 5}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "scaler": {"scale": 65536.0},
    }


def training_checkpoint():
    base = prefixed("module.base_encoder.", encoder(1) | projector(1))
    momentum = prefixed("module.momentum_encoder.", encoder(2) | projector(2))
    return base | momentum | predictor()


def momentum_only():
    state = training_checkpoint()
    return {key: value for key, value in state.items() if "base_encoder" not in key}


def linear_probe():
    head = {"head.weight": torch.randn(1000, WIDTH), "head.bias": torch.randn(1000)}
    return prefixed("module.", encoder(1) | head)


def without_embedding():
    return {key: value for key, value in encoder(1).items() if key != "pos_embed"}


def assert_features_of(backbone, state, size=224):
    """Compare with a net into which the tensors of `state` go one by one."""
    net = hand_made_net(size)
    net.load_state_dict(state)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(2, 3, size, size, generator=generator)
    mean, std = (
        torch.tensor(value).view(3, 1, 1)
        for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        tokens = net.forward_features((pixels - mean) / std)
        torch.testing.assert_close(backbone.features(pixels), tokens[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "width"), [(3, 8), (14, 768)])
def test_position_embedding(side, width):
    found = _moco_v3.position_embedding(side, width)
    assert found.shape == (1, 1 + side * side, width)
    torch.testing.assert_close(found, published_embedding(side, width), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [224, 96, 32])
def test_untrained_nets_have_the_fixed_embedding(size):
    backbone = Backbone.from_name("mocov3", image_size=size, pretrained=False)
    found = backbone.module.pos_embed
    wanted = published_embedding(size // 16, WIDTH)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert_features_of(backbone, backbone.module.state_dict() | {"pos_embed": wanted}, size)


@pytest.mark.parametrize(
    ("make", "seed", "filename"),
    [
        (training_checkpoint, 1, "wrapped.pth.tar"),  # the base encoder, which its authors probe
        (training_checkpoint, 1, "model.safetensors"),
        (momentum_only, 2, "bare.pth"),
        (linear_probe, 1, "wrapped.pth.tar"),
        (without_embedding, 1, "pytorch_model.bin"),
        (lambda: encoder(1), 1, "model.safetensors"),
    ],
    ids=["training", "its tensors", "momentum only", "linear probe", "no embedding", "timm names"],
)
def test_published_files(make, seed, filename, tmp_path):
    state, path = make(), tmp_path / filename
    if "wrapped" in filename:
        torch.save(wrapped(state), path)
    else:
        save(state, path)
    backbone = Backbone.from_name("mocov3", checkpoint=path)
    assert_features_of(backbone, encoder(seed))
    assert backbone.n_features == WIDTH


@pytest.mark.parametrize("make", [training_checkpoint, without_embedding])
def test_other_image_sizes(make, tmp_path):
    path = save(make(), tmp_path / "vit.pth.tar")
    state = encoder(1)
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], [6, 6])
    assert_features_of(Backbone.from_name(f"mocov3@{path}", image_size=96), state, 96)


def test_a_file_of_another_net(tmp_path):
    state = training_checkpoint()
    del state["module.base_encoder.norm.weight"]
    state["module.base_encoder.extra"] = torch.ones(2)
    backbone = Backbone.from_name("mocov3", checkpoint=save(state, tmp_path / "vit.pth.tar"))
    with pytest.raises(
        ValueError, match=r"missing keys: 1 \(norm.weight\); unexpected.* 1 \(extra"
    ):
        _ = backbone.module
    path = save({"weight": torch.ones(2)}, tmp_path / "other.pth.tar")
    with pytest.raises(
        ValueError, match=r"do not fit architecture .*missing keys: 15\d \(cls_token"
    ):
        _ = Backbone.from_name("mocov3", checkpoint=path).module


def test_the_class_token_is_not_the_mean(tmp_path):
    """Guard of the tests above: their nets tell the two poolings apart."""
    net = fill(hand_made_net(), 1)
    with torch.no_grad():
        tokens = net.forward_features(torch.rand(2, 3, 224, 224))
    assert (tokens[:, 0] - tokens[:, 1:].mean(1)).abs().max() > 0.1
