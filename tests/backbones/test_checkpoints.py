"""Weights in a file or a folder of one's own: loaded in full, or refused with a reason."""

import json
import logging
import os
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from sklgm import LGMDistiller
from sklgm.backbones import Backbone, WeightsNotFoundError, get_backbone
from sklgm.backbones._checkpoints import warn_of_resizing
from sklgm.backbones._folding import fold_batch_norms
from sklgm.backbones._registry import REGISTRY
from tests.library_nets import TINY_CLIP, add_tiny_clip, fill, own_cache, save, undrawn
from tests.tiny_backbones import TinyConvNet

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

PIXELS = torch.linspace(0, 1, 3 * 160 * 160).view(1, 3, 160, 160)
DINOV2 = "vit_small_patch14_dinov2"
REGISTERS = "vit_small_patch14_reg4_dinov2"


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    add_tiny_clip(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 256, (75, 121, 3), dtype=np.uint8)


def filled(architecture, **options):
    """Make a net of timm with a classifier."""
    with undrawn():
        net = timm.create_model(architecture, **options)
    return fill(net).eval()


def filled_clip(architecture="tiny-quickgelu", **options):
    model, _, transform = open_clip.create_model_and_transforms(architecture, **options)
    return fill(model).eval(), transform


def assert_features_of(backbone, net, picture, **prepared):
    """Compare with timm's net, its classifier taken off, on what timm's transform prepares."""
    net.reset_classifier(0)
    size = backbone.image_size
    data = timm.data.resolve_model_data_config(net, {"input_size": (3, size, size)})
    pixels = timm.data.create_transform(**data | prepared)(Image.fromarray(picture))[None]
    with torch.no_grad():
        wanted = net(pixels)
        found = backbone.features(backbone.prepare([picture]))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert wanted.std() > 1e-3


def assert_features_of_clip(backbone, model, transform, picture):
    with torch.no_grad():
        wanted = model.encode_image(transform(Image.fromarray(picture))[None])
        found = backbone.features(backbone.prepare([picture]))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def under(*prefixes):
    """Return a function that puts prefixes before keys, the last one first."""
    return lambda state: {"".join(prefixes) + key: value for key, value in state.items()}


def without_head(state):
    return {key: value for key, value in state.items() if "head" not in key and "fc." not in key}


WRAPS = {
    "as it is": lambda state: state,
    "no classifier": without_head,
    "parallel": under("module."),
    "compiled": under("_orig_mod."),
    "state_dict": lambda state: {"epoch": 3, "state_dict": under("module.")(state), "arch": "vit"},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "best": 0.5},
}


@pytest.mark.parametrize(
    ("architecture", "wrap"), [("resnet10t", "as it is"), *(("test_vit", wrap) for wrap in WRAPS)]
)
def test_timm_files(architecture, wrap, tmp_path, picture):
    net = filled(architecture)
    torch.save(WRAPS[wrap](net.state_dict()), tmp_path / "weights.pth")
    backbone = Backbone.from_name(f"timm:{architecture}", checkpoint=tmp_path / "weights.pth")
    assert_features_of(backbone, net, picture)


@pytest.mark.parametrize(
    "architecture",
    [
        "deit_tiny_distilled_patch16_224",  # two classifiers
        "convnext_atto",  # a norm beside the classifier
        "levit_128s",  # BatchNorm in the classifiers
        "cait_xxs24_224",
        "xcit_nano_12_p16_224",
        "mobilenetv3_small_050",
        "resnetv2_50x1_bit.goog_in21k_ft_in1k",  # a convolution as classifier
    ],
)
def test_classifiers_of_many_families_are_left_out(architecture, tmp_path):
    net = filled(architecture)
    path = save(net.state_dict(), tmp_path / "weights.safetensors")
    backbone = Backbone.from_name(f"timm:{architecture}", checkpoint=path)
    net.reset_classifier(0)
    bare = fold_batch_norms(net, backbone.image_size)
    found, wanted = backbone.module.state_dict(), bare.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_ways_to_name_a_file_are_one(tmp_path, monkeypatch, picture):
    net = filled("test_vit")
    path = save(net.state_dict(), tmp_path / "weights.safetensors")
    backbone = Backbone.from_name("timm:test_vit", checkpoint=path)
    assert_features_of(backbone, net, picture)
    assert Backbone.from_name("timm:test_vit", checkpoint=str(path)) is backbone
    assert Backbone.from_name(f"timm:test_vit@{path}") is backbone
    assert get_backbone(f"timm:test_vit@{path}", device="cpu") is backbone
    monkeypatch.chdir(tmp_path)
    assert Backbone.from_name("timm:test_vit@weights.safetensors") is backbone
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Backbone.from_name("timm:test_vit@~/weights.safetensors") is backbone


def test_a_registry_name_with_a_file(tmp_path, picture):
    """The record's preprocessing and size stay; licence and reference, the weights', do not."""
    net = filled(DINOV2)
    path = save(net.state_dict(), tmp_path / "mine@home.safetensors")
    backbone = Backbone.from_name("dinov2_vits14", checkpoint=path)
    assert Backbone.from_name(f"dinov2_vits14@{path}") is backbone
    assert backbone.image_size == 224
    assert backbone.name.startswith("dinov2_vits14#")
    assert (backbone.spec.license, backbone.spec.reference, backbone.spec.repository) == ("",) * 3
    net.set_input_size(224)
    with pytest.warns(UserWarning, match="interpolated from 37 x 37 positions to 16 x 16"):
        assert_features_of(backbone, net, picture)


def test_a_package_name_with_a_file(tmp_path, picture):
    net = filled("tf_efficientnet_lite0")
    path = save(net.state_dict(), tmp_path / "weights.pth")
    backbone = Backbone.from_name("efficientnet_lite0", checkpoint=path, image_size=56)
    assert_features_of(backbone, net, picture)


@pytest.mark.parametrize("architecture", [DINOV2, REGISTERS])
def test_the_original_names_of_dinov2(architecture, tmp_path, picture):
    """As its authors publish it, trained at 518 pixels: a mask token, one embedding for all."""
    size = 98
    with undrawn():
        net = timm.create_model(architecture, num_classes=0)
        expected = timm.create_model(architecture, num_classes=0, img_size=size).eval()
    state = dict(fill(net).state_dict())
    published = dict(state, mask_token=torch.ones(1, 384))
    if architecture == REGISTERS:
        published["register_tokens"] = published.pop("reg_token")
        own = 0.5 * torch.ones(1, 1, 384)  # what the class token has of the embedding
        published["cls_token"] = state["cls_token"] - own
        published["pos_embed"] = torch.cat([own, state["pos_embed"]], dim=1)
    path = save(published, tmp_path / "dinov2.pth")
    backbone = Backbone.from_name(f"timm:{architecture}", checkpoint=path, image_size=size)
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(
        state["pos_embed"],
        [size // 14, size // 14],
        num_prefix_tokens=0 if architecture == REGISTERS else 1,
    )
    expected.load_state_dict(state)
    assert_features_of(backbone, expected, picture)


def test_the_original_names_of_mae(tmp_path, picture):
    """Its published encoder has timm's names; its decoder, in another file, is too much."""
    net = filled("vit_tiny_patch16_224", num_classes=0)
    path = save(net.state_dict() | {"mask_token": torch.ones(1, 1, 192)}, tmp_path / "mae.pth")
    assert_features_of(
        Backbone.from_name("timm:vit_tiny_patch16_224", checkpoint=path), net, picture
    )
    state = net.state_dict() | {"decoder_embed.weight": torch.ones(8, 192)}
    path = save(state, tmp_path / "mae_full.pth")
    with pytest.raises(ValueError, match=r"the net lacks decoder_embed\.weight\."):
        _ = Backbone.from_name("timm:vit_tiny_patch16_224", checkpoint=path).module


def test_timm_at_another_size(tmp_path, picture):
    """The position embedding is interpolated as `set_input_size` does it."""
    net = filled("test_vit")
    path = save(net.state_dict(), tmp_path / "weights.safetensors")
    backbone = Backbone.from_name("timm:test_vit", checkpoint=path, image_size=96)
    net.set_input_size(96)
    assert_features_of(backbone, net, picture)
    # And from a file made at another size than the architecture's.
    path = save(net.state_dict(), tmp_path / "smaller.safetensors")
    backbone = Backbone.from_name("timm:test_vit", checkpoint=path)
    assert backbone.image_size == 160
    wanted = timm.create_model("test_vit", checkpoint_path="").eval()
    state = net.state_dict()
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(
        state["pos_embed"], [10, 10], num_prefix_tokens=net.num_prefix_tokens
    )
    wanted.reset_classifier(0)
    wanted.load_state_dict(state)
    told = r"smaller\.safetensors were trained at another image size than .*: pos_embed.* 6 x 6 "
    with pytest.warns(UserWarning, match=told):
        assert_features_of(backbone, wanted, picture)


def test_open_clip_from_a_file_of_another_size(tiny_clip, tmp_path, picture):
    model, _ = filled_clip(force_image_size=48)
    path = save(model.state_dict(), tmp_path / "clip.pt")
    backbone = Backbone.from_open_clip("tiny-quickgelu", checkpoint=path)
    library, _, transform = open_clip.create_model_and_transforms(
        "tiny-quickgelu", pretrained=str(path)
    )
    with pytest.warns(
        UserWarning, match="positional_embedding is interpolated from 6 x 6 .* to 4 x 4"
    ):
        assert_features_of_clip(backbone, library.eval(), transform, picture)


@pytest.mark.parametrize(
    ("n_theirs", "n_ours", "image_size", "checkpoint"),
    [
        (1 + 256, 256, 224, "weights.pth"),  # the class token's own, which timm adds to it
        (37 * 37, 16 * 16, 112, "weights.pth"),  # another size is what the user asks for
        (37 * 37, 16 * 16, 224, ""),  # as the record has it
    ],
)
def test_what_needs_no_warning(n_theirs, n_ours, image_size, checkpoint):
    spec = replace(REGISTRY["dinov2_vits14"], checkpoint=checkpoint)
    theirs, ours = ({"pos_embed": torch.empty(1, n, 8)} for n in (n_theirs, n_ours))
    warn_of_resizing(spec, image_size, theirs, ours)


def test_mean_and_std(tmp_path, picture):
    net = filled("resnet10t")
    path = save(net.state_dict(), tmp_path / "weights.pth")
    options = {"checkpoint": path, "image_size": 64}
    backbone = Backbone.from_name("timm:resnet10t", mean=0.5, std=(0.2, 0.3, 0.4), **options)
    assert_features_of(backbone, net, picture, mean=(0.5,) * 3, std=(0.2, 0.3, 0.4))
    plain = Backbone.from_name("timm:resnet10t", **options)
    assert plain is not backbone
    assert plain.fingerprint() != backbone.fingerprint()
    with pytest.raises(ValueError, match="std must be positive"):
        Backbone.from_name("timm:resnet10t", std=0, **options)
    with pytest.raises(ValueError, match="mean must be a number or three"):
        Backbone.from_name("timm:resnet10t", mean=(1, 2), **options)
    named = [Backbone.from_name("clip", std=std) for std in (None, 0.5)]
    assert named[0].fingerprint() != named[1].fingerprint()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crop_and_filter(interpolation, tiny_clip, tmp_path, picture):
    """Those of the training, also where the library itself cuts nothing off."""
    net = filled("resnet10t")
    path = save(net.state_dict(), tmp_path / "weights.pth")
    asked = {"crop_pct": 0.7, "interpolation": interpolation}
    backbone = Backbone.from_timm("resnet10t", checkpoint=path, image_size=64, **asked)
    assert backbone.canvas_size == 91
    assert_features_of(backbone, net, picture, **asked)
    path = save(filled_clip()[0].state_dict(), tmp_path / "clip.pt")
    clip = Backbone.from_open_clip("tiny-quickgelu", checkpoint=path, **asked | {"crop_pct": 0.8})
    assert clip.canvas_size == 40
    resized = Image.fromarray(picture).resize((64, 40), Image.Resampling[interpolation.upper()])
    np.testing.assert_array_equal(clip.resize(picture), np.asarray(resized)[4:36, 16:48])
    plain = Backbone.from_open_clip("tiny-quickgelu", checkpoint=path)
    assert plain.fingerprint() != clip.fingerprint()


def test_a_tag_brings_its_preprocessing(tmp_path, picture):
    """Of two tags of one architecture, each with its own mean."""
    net = filled("vit_tiny_patch16_224")
    path = save(net.state_dict(), tmp_path / "weights.pth")
    options = {"checkpoint": path, "image_size": 32}
    found = {
        Backbone.from_name(f"timm:{name}", **options).spec.mean[0]
        for name in ("vit_base_patch16_224.dino", "vit_base_patch16_224.augreg_in21k")
    }
    assert found == {0.485, 0.5}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 1, "state_dict": under("module.")(state)},
        lambda state: {
            key.removeprefix("visual."): value
            for key, value in state.items()
            if key.startswith("visual.")
        },
    ],
    ids=["model", "training", "tower"],
)
def test_open_clip_files(tiny_clip, wrap, tmp_path, picture):
    size = 48
    model, _ = filled_clip()
    path = tmp_path / "clip.pt"
    torch.save(wrap({key: value.clone() for key, value in model.state_dict().items()}), path)
    backbone = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path, image_size=size)
    # open_clip's own way with a file, which interpolates too.
    whole = save(model.state_dict(), tmp_path / "whole.pt")
    library, _, transform = open_clip.create_model_and_transforms(
        "tiny-quickgelu", pretrained=str(whole), force_image_size=size
    )
    assert_features_of_clip(backbone, library.eval(), transform, picture)


def test_open_clip_names(tiny_clip, tmp_path, picture):
    model, transform = filled_clip()
    path = save(model.state_dict(), tmp_path / "clip.safetensors")
    backbone = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path)
    assert_features_of_clip(backbone, model, transform, picture)
    assert Backbone.from_name(f"open_clip:tiny-quickgelu@{path}") is backbone
    plain = Backbone.from_name("open_clip:tiny", checkpoint=path)
    pixels = backbone.prepare([picture])
    with torch.no_grad():
        assert (plain.features(pixels) - backbone.features(pixels)).abs().max() > 1e-3
    other = Backbone.from_name("open_clip:tiny", checkpoint=path, mean=0.1, std=0.9)
    assert (other.spec.mean, other.spec.std) == ((0.1,) * 3, (0.9,) * 3)


def test_resnet_clip_at_another_size(tmp_path, picture):
    """open_clip does not resize the embedding of the attention pool; we do, by timm's means."""
    with undrawn():
        model = open_clip.create_model("RN50-quickgelu")
        wanted, _, transform = open_clip.create_model_and_transforms(
            "RN50-quickgelu", force_image_size=96
        )
    # The text tower is of no use here.
    state = {
        f"visual.{key}": value.clone() for key, value in fill(model.visual).state_dict().items()
    }
    path = save(state, tmp_path / "clip.safetensors")
    backbone = Backbone.from_name("clip_rn50", checkpoint=path, image_size=96)
    key = "visual.attnpool.positional_embedding"
    assert state[key].shape == (1 + 7 * 7, 2048)
    state[key] = timm.layers.resample_abs_pos_embed(state[key][None], [3, 3])[0]
    wanted.visual.load_state_dict(
        {key.removeprefix("visual."): value for key, value in state.items()}, assign=True
    )
    assert_features_of_clip(backbone, wanted.eval(), transform, picture)


def test_siglip_at_another_size(tmp_path, monkeypatch, picture):
    """Towers of timm inside open_clip: as open_clip itself does, after it loaded a file."""
    from open_clip import factory, pretrained

    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg"}
        | {"timm_proj": "none"},
        "text_cfg": TINY_CLIP["text_cfg"],
    }
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(pretrained, "_PRETRAINED", dict(pretrained._PRETRAINED))
    (tmp_path / "tiny-timm.json").write_text(json.dumps(config | {"custom_text": True}))
    open_clip.add_model_config(tmp_path / "tiny-timm.json")
    model, _ = filled_clip("tiny-timm")
    path = save(model.state_dict(), tmp_path / "clip.pt")
    for size in (None, 96):
        backbone = Backbone.from_name("open_clip:tiny-timm", checkpoint=path, image_size=size)
        library, _, transform = open_clip.create_model_and_transforms("tiny-timm")
        library.load_state_dict(model.state_dict())
        if size is not None:
            library.visual.set_input_size(size)
            transform = open_clip.image_transform(size, is_train=False)
        assert_features_of_clip(backbone, library.eval(), transform, picture)


@pytest.mark.parametrize(("safe", "size"), [(True, None), (False, 80)])
def test_folder_of_timm(safe, size, tmp_path, picture):
    net = filled("test_vit", num_classes=7)
    timm.models.save_for_hf(net, tmp_path / "net", safe_serialization=safe)
    (tmp_path / "net" / "README.md").write_text("mine")
    backbone = Backbone.from_name(f"local-dir:{tmp_path / 'net'}", image_size=size)
    if safe:  # which timm 1.0.22 cannot read from a folder
        wanted = net
    else:
        wanted = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    if size:
        wanted.set_input_size(size)
    assert_features_of(backbone, wanted, picture)
    assert backbone.n_features == 64


def test_folder_of_timm_with_arguments(tmp_path, picture):
    """Size, pooling and mean are the folder's, as they are for timm."""
    options = {"img_size": 96, "global_pool": "avg", "num_classes": 0}
    net = filled("test_vit", **options)
    net.pretrained_cfg = net.pretrained_cfg | {"mean": (0.1, 0.2, 0.3), "input_size": (3, 96, 96)}
    timm.models.save_for_hf(net, tmp_path / "net", model_args=options)
    backbone = Backbone.from_name(f"local-dir:{tmp_path / 'net'}")
    assert (backbone.image_size, backbone.spec.mean) == (96, (0.1, 0.2, 0.3))
    assert_features_of(backbone, net, picture)


def lay_out_clip(folder, model, **preprocess):
    """Write the files that open_clip writes for the hub."""
    config = {"model_cfg": TINY_CLIP | {"quick_gelu": True}, "preprocess_cfg": preprocess}
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save(model.state_dict(), folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("size", [None, 64])
def test_folder_of_open_clip(tiny_clip, size, tmp_path, picture):
    model, _ = filled_clip()
    folder = tmp_path / "net"
    lay_out_clip(folder, model, mean=[0.4, 0.5, 0.6], std=[0.2] * 3, resize_mode="squash")
    backbone = Backbone.from_name(f"local-dir:{folder}", image_size=size)
    library, _, transform = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", force_image_size=size
    )
    assert_features_of_clip(backbone, library.eval(), transform, picture)
    assert backbone.spec.resize == "squash"
    assert backbone.n_features == 24


def test_a_folder_moves(tmp_path, monkeypatch):
    """The folder's place is no part of what the backbone is, nor of what the caches key by."""
    timm.models.save_for_hf(filled("test_vit"), tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "one")
    (tmp_path / "two" / "one").rename(tmp_path / "two" / "moved")
    one = Backbone.from_name(f"local-dir:{tmp_path / 'one'}")
    two = Backbone.from_name(f"local-dir:{tmp_path / 'two' / 'moved'}")
    assert one.fingerprint() == two.fingerprint()
    assert str(tmp_path) not in one.fingerprint()
    assert torch.equal(one.features(PIXELS), two.features(PIXELS))
    # The same tensors, described otherwise, are another net.
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    config["model_args"] = config.get("model_args", {}) | {"act_layer": "relu"}
    (tmp_path / "one" / "config.json").write_text(json.dumps(config))
    other = Backbone.from_name(f"local-dir:{tmp_path / 'one'}")
    assert other.fingerprint() != two.fingerprint()
    assert not torch.equal(other.features(PIXELS), two.features(PIXELS))
    # Nor is it loaded in the place of the one that was made.
    own_cache(monkeypatch)
    with pytest.raises(ValueError, match="holds other weights"):
        _ = pickle.loads(pickle.dumps(one)).module


def test_a_folder_whose_weights_do_not_fit(tmp_path):
    timm.models.save_for_hf(filled("test_vit"), tmp_path / "net")
    save({"weight": torch.ones(1)}, tmp_path / "net" / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit architecture 'test_vit'"):
        _ = Backbone.from_name(f"local-dir:{tmp_path / 'net'}").module


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        Backbone.from_name(f"local-dir:{tmp_path / 'nowhere'}")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')  # transformers has those
    with pytest.raises(FileNotFoundError, match=r"neither a config\.json with an"):
        Backbone.from_name(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"architecture": "test_vit"}')
    with pytest.raises(FileNotFoundError, match=r"holds none of the files model\.safetensors"):
        Backbone.from_name(f"local-dir:{tmp_path}")


def test_keys_that_do_not_match(tmp_path):
    state = dict(filled("test_vit", num_classes=0).state_dict())
    for key in [key for key in state if key.startswith("blocks.1.")]:
        state[f"layers.{key}"] = state.pop(key)
    path = save(state, tmp_path / "weights.pth")
    backbone = Backbone.from_name("timm:test_vit", checkpoint=path)
    for _ in range(2):  # the second time too
        with pytest.raises(ValueError, match="do not fit architecture 'test_vit'") as caught:
            _ = backbone.module
    wanted = r"file lacks .*blocks\.1\..*net lacks .*layers\.blocks\.1\."
    assert re.search(wanted, str(caught.value))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert backbone._module is None


@pytest.mark.parametrize(
    ("architecture", "other"), [("test_vit", "test_vit2"), ("resnet10t", "resnet14t")]
)
def test_tensors_of_another_architecture(architecture, other, tmp_path):
    path = save(filled(architecture).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"the file lacks|in the file and"):
        _ = Backbone.from_name(f"timm:{other}", checkpoint=path).module


def test_tensors_of_another_shape(tmp_path):
    state = dict(filled("test_vit").state_dict())
    state["blocks.0.mlp.fc1.bias"] = torch.ones(5)
    path = save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"fc1\.bias is \[5\] in the file and \[192\] in the net"):
        _ = Backbone.from_name("timm:test_vit", checkpoint=path).module
    # Which timm would resample without a word.
    state = dict(filled("test_vit").state_dict())
    state["patch_embed.proj.weight"] = torch.ones(64, 3, 8, 8)
    path = save(state, tmp_path / "patches.pth")
    with pytest.raises(ValueError, match=r"patch_embed.proj.weight is \(64, 3, 8, 8\), not"):
        _ = Backbone.from_name("timm:test_vit", checkpoint=path).module


def test_open_clip_keys_that_do_not_match(tiny_clip, tmp_path):
    model, _ = filled_clip()
    state = dict(model.state_dict())
    del state["visual.proj"]
    state["visual.ln_pre.bias"] = torch.ones(3)
    path = save(state, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"ln_pre.bias is .*; the file lacks proj\."):
        _ = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path).module
    text = {key: value for key, value in model.state_dict().items() if "visual" not in key}
    path = save(text, tmp_path / "text.pt")
    with pytest.raises(ValueError, match="the file lacks"):
        _ = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path).module


class Payload:
    """What a pickle can do to whoever loads it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def malicious_old_format(path, target):
    state = {"weight": torch.ones(2), "extra": Payload(target)}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def whole_module(path, target):
    torch.save(TinyConvNet(), path)


def module_among_tensors(path, target):
    torch.save({"epoch": 1, "model": TinyConvNet()}, path)


def torchscript(path, target):
    torch.jit.save(torch.jit.trace(TinyConvNet().eval(), torch.rand(1, 3, 16, 16)), path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "write", [malicious_old_format, whole_module, module_among_tensors, torchscript]
)
def test_code_is_not_run(write, tmp_path):
    target = tmp_path / "touched"
    write(tmp_path / "weights.pth", target)
    backbone = Backbone.from_name("timm:test_vit", checkpoint=tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights.pth cannot be read: .*What can be:") as caught:
        _ = backbone.module
    if write is not torchscript:
        assert "holds code or Python objects" in str(caught.value)
    assert "weights_only=False" not in str(caught.value)  # no invitation to run it
    assert not target.exists()


def truncated(path):
    save(filled("test_vit").state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12\n")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (truncated, ".safetensors"),
        (truncated, ".pth"),
        (garbage, ".pth"),
        (empty, ".safetensors"),
        (empty, ".pth"),
        (text, ".pth"),
    ],
)
def test_damaged_files(write, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write(path)
    with pytest.raises(ValueError, match=f"{suffix} cannot be read: .*What can be:"):
        _ = Backbone.from_name("timm:test_vit", checkpoint=path).module


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(8))
def test_damaged_pickles(seed, tmp_path):
    """Whatever a flipped byte or a stray one makes of a pickle, the error is ours."""
    rng = np.random.default_rng(seed)
    data = bytearray(pickle.dumps({"weight": [1.0, "two", (3, 4)]}, protocol=2))
    data[int(rng.integers(2, len(data)))] = int(rng.integers(256))
    data = bytes(data) if seed % 2 else b"\x80\x02" + rng.bytes(40)
    (tmp_path / "weights.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"The checkpoint .* cannot be read"):
        _ = Backbone.from_name("timm:test_vit", checkpoint=tmp_path / "weights.pth").module


@pytest.mark.parametrize(
    "content",
    [
        torch.ones(3),
        {},
        {"epoch": 3},
        {0: torch.ones(3)},
        {"optimizer": {"a": torch.ones(1)}},
        {"state_dict": [1, 2]},
        {"model": None},
    ],
    ids=str,
)
def test_files_of_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="it holds no state dict"):
        _ = Backbone.from_name("timm:test_vit", checkpoint=tmp_path / "weights.pth").module


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.pth"):
        Backbone.from_name("timm:test_vit", checkpoint=tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match=r"There is no file .* 'local-dir:"):
        Backbone.from_name("clip", checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"Unknown backbone 'clop'.*Did you mean 'clip@.*nowhere"):
        Backbone.from_name(f"clop@{tmp_path / 'nowhere.pth'}")


def test_a_file_replaced(tmp_path):
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    first = Backbone.from_name("timm:test_vit", checkpoint=path)
    other = fill(timm.create_model("test_vit"), seed=1)
    save(other.state_dict(), path)
    os.utime(path, ns=(1, 1))  # a file system may keep time by the second
    with pytest.raises(ValueError, match="holds other weights than backbone 'timm:test_vit#"):
        _ = first.module
    second = Backbone.from_name("timm:test_vit", checkpoint=path)
    assert second is not first
    assert second.name != first.name
    assert second.fingerprint() != first.fingerprint()
    path.unlink()
    with pytest.raises(WeightsNotFoundError, match="There is no file"):
        _ = second.module


def test_loaded_nets_need_their_file_no_more(tmp_path):
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    backbone = get_backbone(f"timm:test_vit@{path}", device="cpu")
    path.unlink()
    assert backbone.features(torch.rand(1, 3, 160, 160)).shape == (1, 64)


def test_the_same_content_elsewhere(tmp_path):
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    copy = shutil.copy(path, tmp_path / "copy.pth")
    one, two = (Backbone.from_name("timm:test_vit", checkpoint=each) for each in (path, copy))
    assert one.fingerprint() == two.fingerprint()
    assert one.name == two.name
    pixels = torch.rand(1, 3, 160, 160)
    assert torch.equal(one.features(pixels), two.features(pixels))
    for name in ("clip", "dinov2"):  # of which nothing is read but the file's digest
        one, two = (Backbone.from_name(name, checkpoint=each) for each in (path, copy))
        assert one.fingerprint() == two.fingerprint()
        assert one.fingerprint() != Backbone.from_name(name).fingerprint()


def test_pickles_are_recipes(tmp_path, monkeypatch, tiny_clip):
    model, _ = filled_clip()
    clip = save(model.state_dict(), tmp_path / "clip.safetensors")
    vit = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    timm.models.save_for_hf(filled("test_vit"), tmp_path / "net")
    makers = [
        lambda: Backbone.from_name("timm:test_vit", checkpoint=vit, image_size=48, mean=0.5),
        lambda: Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=clip),
        lambda: Backbone.from_name(f"local-dir:{tmp_path / 'net'}"),
        lambda: Backbone.from_name("timm:test_vit", checkpoint=vit),
    ]
    for make in makers:
        own_cache(monkeypatch)
        backbone = make()
        data = pickle.dumps(backbone)
        assert len(data) < 2000
        assert pickle.loads(data) is backbone
        own_cache(monkeypatch)
        loaded = pickle.loads(data)
        assert loaded is not backbone
        assert loaded._module is None
        assert loaded.fingerprint() == backbone.fingerprint()
        pixels = torch.rand(1, 3, backbone.image_size, backbone.image_size)
        assert torch.equal(loaded.features(pixels), backbone.features(pixels))
    vit.unlink()
    assert pickle.loads(data).fingerprint() == backbone.fingerprint()  # no I/O


def test_half_precision_files_give_float32_nets(tmp_path, picture):
    net = filled("test_vit")
    net.load_state_dict({key: value.half().float() for key, value in net.state_dict().items()})
    halves = {key: value.half() for key, value in net.state_dict().items()}
    backbone = Backbone.from_name("timm:test_vit", checkpoint=save(halves, tmp_path / "half.pth"))
    assert_features_of(backbone, net, picture)
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in backbone.module.parameters())


class Products(TorchDispatchMode):
    """Counts the matrices in batched products."""

    n_matrices = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.bmm.default:
            self.n_matrices += len(args[0])
        return function(*args, **kwargs or {})


def test_attention_of_open_clip_projects_a_batch_in_one_product(tmp_path, tiny_clip):
    model, _ = filled_clip()
    path = save(model.state_dict(), tmp_path / "clip.safetensors")
    backbone = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path)
    tower = model.visual.requires_grad_(False)
    found = []
    for net in (tower, backbone.module):
        pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        pixels.requires_grad_()
        with Products() as products:
            features = net(pixels)
            features.sin().sum().backward()
        found.append((features.detach(), pixels.grad, products.n_matrices))
    (wanted, wanted_gradient, before), (features, gradient, after) = found
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, wanted_gradient, atol=1e-5, rtol=1e-4)
    # For each of 17 positions and two layers, forward and back: so torch has it from open_clip.
    assert before == 17 * 2 * 2
    assert after == 0


def test_a_fitted_estimator_keeps_to_its_weights(tmp_path):
    """Another file under the same name is an error, also in another process: no wrong numbers."""
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    images = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    distiller = LGMDistiller(
        f"timm:test_vit@{path}", image_size=32, max_iter=1, n_views=1, device="cpu", random_state=0
    ).fit(images, [0, 1, 0, 1])
    data = pickle.dumps(distiller)
    before = distiller.transform(images)
    assert np.array_equal(pickle.loads(data).transform(images), before)
    save(fill(timm.create_model("test_vit"), seed=1).state_dict(), path)
    os.utime(path, ns=(1, 1))
    for fitted in (distiller, pickle.loads(data)):
        with pytest.raises(ValueError, match="fitted on other weights"):
            fitted.transform(images)


def test_the_same_file_untrained(tmp_path):
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    name = f"timm:test_vit@{path}"
    trained, untrained = Backbone.from_name(name), Backbone.from_name(name, pretrained=False)
    assert trained.fingerprint() != untrained.fingerprint()
    for options in ({"name": "timm:test_vit", "pretrained": False}, {"name": name}):
        with pytest.raises(ValueError, match="Leave one of them out"):
            Backbone.from_name(**options, checkpoint=path)


def test_names_in_the_wrong_place(tmp_path):
    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="Unknown backbone 'timm:dinov2'"):
        Backbone.from_name("timm:dinov2", checkpoint=path)
    with pytest.raises(ValueError, match=r"no Hugging Face repository.*checkpoint=path"):
        Backbone.from_name(f"hf-hub:someone/vit@{path}")


def test_the_root_logger_is_left_alone(tiny_clip, tmp_path, monkeypatch):
    """open_clip may tell it things, which would configure it where the user has not."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    path = save(open_clip.create_model("tiny-quickgelu").state_dict(), tmp_path / "w.pth")
    root.handlers.clear()
    _ = Backbone.from_name("open_clip:tiny-quickgelu", checkpoint=path, image_size=48).module
    assert root.handlers == []


def test_reading_weights_does_not_touch_the_generator(tmp_path, monkeypatch):
    """Other threads draw from it while a file is found and read, which may take minutes."""
    from sklgm.backbones import _timm

    path = save(filled("test_vit").state_dict(), tmp_path / "weights.pth")
    read, states = _timm.read_state_dict, []

    def watched(*args):
        states.append(torch.get_rng_state())
        return read(*args)

    monkeypatch.setattr(_timm, "read_state_dict", watched)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    _ = Backbone.from_name("timm:test_vit", checkpoint=path).module
    assert len(states) == 1
    assert torch.equal(states[0], before)
    assert torch.equal(torch.get_rng_state(), before)
