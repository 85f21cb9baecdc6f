"""MoCo-v3: the files that its code and the hub publish."""

from dataclasses import replace

import pytest
import torch

from sklgm.backbones import Backbone
from sklgm.backbones._registry import REGISTRY
from tests.library_nets import fill, own_cache, save, undrawn

timm = pytest.importorskip("timm")

WIDTH = 192


@pytest.fixture(autouse=True)
def tiny_moco(monkeypatch):
    """Let the record be one of a smaller net, which is otherwise built and filled alike."""
    own_cache(monkeypatch)
    record = replace(
        REGISTRY["mocov3_vitb16"], architecture="vit_tiny_patch16_224", n_features=WIDTH
    )
    monkeypatch.setitem(REGISTRY, "mocov3_vitb16", record)


def hand_made_net(image_size=224):
    """Make the net that the published code derives its own from."""
    with undrawn():
        return timm.models.VisionTransformer(
            img_size=image_size,
            patch_size=16,
            embed_dim=WIDTH,
            depth=12,
            num_heads=3,
            qkv_bias=True,
            num_classes=0,
        ).eval()


def encoder(seed):
    """Return the tensors of an encoder under the published code's names, projector apart."""
    return dict(fill(hand_made_net(), seed).state_dict())


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def training_checkpoint():
    """Return what the training code saves: two encoders with projectors, and a predictor."""
    projector = {"head.0.weight": torch.ones(32, WIDTH), "head.1.running_mean": torch.ones(32)}
    base = prefixed("module.base_encoder.", encoder(1) | projector)
    momentum = prefixed("module.momentum_encoder.", encoder(2) | projector)
    return base | momentum | {"module.predictor.0.weight": torch.ones(32, 16)}


def whole_training_file():
    optimizer = {"state": {0: {"step": 5}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    return {"epoch": 300, "state_dict": training_checkpoint(), "optimizer": optimizer}


def linear_probe():
    head = {"head.weight": torch.ones(1000, WIDTH), "head.bias": torch.ones(1000)}
    return {"arch": "vit_base", "state_dict": prefixed("module.", encoder(1) | head)}


def assert_features_of(backbone, state, size=224):
    """Compare with the class token of a net into which the tensors of `state` go one by one."""
    net = hand_made_net(size)
    net.load_state_dict(state)
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    mean, std = (
        torch.tensor(value).view(3, 1, 1)
        for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        tokens = net.forward_features((pixels - mean) / std)
        torch.testing.assert_close(backbone.features(pixels), tokens[:, 0], atol=1e-5, rtol=1e-5)
    # Or the two poolings would not be told apart.
    assert (tokens[:, 0] - tokens[:, 1:].mean(1)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("make", "filename"),
    [
        (whole_training_file, "vit.pth.tar"),
        (training_checkpoint, "model.safetensors"),
        (linear_probe, "linear.pth.tar"),
        (lambda: encoder(1), "pytorch_model.bin"),
    ],
    ids=["training", "its tensors", "linear probe", "timm names"],
)
def test_published_files(make, filename, tmp_path):
    """Of the two encoders in a training checkpoint the base one counts, which its authors probe."""
    path = tmp_path / filename
    if path.suffix == ".safetensors":
        save(make(), path)
    else:
        torch.save(make(), path)
    backbone = Backbone.from_name("mocov3", checkpoint=path)
    assert_features_of(backbone, encoder(1))
    assert backbone.n_features == WIDTH


def test_another_image_size(tmp_path):
    path = save(training_checkpoint(), tmp_path / "vit.pth.tar")
    state = encoder(1)
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], [6, 6])
    assert_features_of(Backbone.from_name(f"mocov3@{path}", image_size=96), state, 96)


def test_a_file_of_another_net(tmp_path):
    state = training_checkpoint()
    del state["module.base_encoder.norm.weight"]
    state["module.base_encoder.extra"] = torch.ones(2)
    path = save(state, tmp_path / "vit.pth.tar")
    with pytest.raises(ValueError, match=r"the file lacks norm\.weight; the net lacks extra"):
        _ = Backbone.from_name("mocov3", checkpoint=path).module
