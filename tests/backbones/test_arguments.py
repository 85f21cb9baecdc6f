"""Nets that a library makes with other arguments, and other features of them."""

import functools
import json
import pickle

import huggingface_hub
import pytest
import torch
from timm.layers import SwiGLUPacked

from sklgm import LGMDistiller
from sklgm.backbones import Backbone
from sklgm.backbones._names import is_here, join_options, place_of, split_options
from sklgm.backbones._several import resolve_backbones
from tests.library_nets import TINY_CLIP, add_tiny_clip, fill, own_cache, save, undrawn

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 4}
SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
# As the model cards have them, but for depth and width.
RECIPES = {
    "UNI": (
        "vit_large_patch16_224",
        {"img_size": 224, "patch_size": 16, "init_values": 1e-5, "num_classes": 0}
        | {"dynamic_img_size": True},
    ),
    "UNI2-h": (
        "vit_giant_patch14_224",
        {"img_size": 224, "patch_size": 14, "init_values": 1e-5, "mlp_ratio": 2.66667 * 2}
        | {"num_classes": 0, "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True}
        | SWIGLU,
    ),
    "H-optimus": (
        "vit_giant_patch14_reg4_dinov2",
        {"init_values": 1e-5, "dynamic_img_size": False, "img_size": 224},
    ),
    "Prov-GigaPath": (
        "vit_giant_patch14_dinov2",
        {"img_size": 224, "in_chans": 3, "patch_size": 16, "init_values": 1e-5}
        | {"mlp_ratio": 5.33334, "num_classes": 0},
    ),
}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


def filled(architecture, **options):
    with undrawn():
        net = timm.create_model(architecture, **options)
    return fill(net).eval()


def normalised(backbone, pixels):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.spec.mean, backbone.spec.std))
    return (pixels - mean) / std


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_model_cards(recipe, tmp_path):
    architecture, options = RECIPES[recipe]
    options = options | SMALL
    net = filled(architecture, **options | {"num_classes": 0})
    path = save(net.state_dict(), tmp_path / "pytorch_model.bin")
    mean, std = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
    given = {"checkpoint": path, "mean": mean, "std": std}
    backbone = Backbone.from_timm(architecture, model_kwargs=options, **given)
    assert backbone.image_size == 224
    pixels = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        wanted = net(normalised(backbone, pixels))
        torch.testing.assert_close(backbone.features(pixels), wanted, atol=1e-5, rtol=1e-5)
    again = dict(reversed(options.items()))
    assert Backbone.from_timm(architecture, model_kwargs=again, **given) is backbone
    assert pickle.loads(pickle.dumps(backbone)) is backbone
    other = Backbone.from_timm(architecture, model_kwargs=options | {"reg_tokens": 2}, **given)
    assert len({backbone.name, other.name}) == 2
    assert backbone.fingerprint() != other.fingerprint()


def test_virchow2_from_a_repository(tmp_path, monkeypatch):
    """Half of its arguments are in the repository, and classes are given by hand."""
    kept = {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "mlp_ratio": 5.3375}
    kept |= {"reg_tokens": 4, "global_pool": "", "dynamic_img_size": True} | SMALL
    net = filled("vit_huge_patch14_224", **kept | SWIGLU)
    commit = "0123456789" * 4
    folder = tmp_path / "models--paige-ai--Virchow2" / "snapshots" / commit
    (folder.parents[1] / "refs").mkdir(parents=True)
    (folder.parents[1] / "refs" / "main").write_text(commit)
    folder.mkdir(parents=True)
    save(net.state_dict(), folder / "model.safetensors")
    config = {"input_size": [3, 224, 224], "fixed_input_size": True, "crop_pct": 1.0}
    config |= {"first_conv": "patch_embed.proj", "classifier": "head", "num_classes": 0}
    config |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    config = {"architecture": "vit_huge_patch14_224", "model_args": kept, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(config))
    find = functools.partial(huggingface_hub.try_to_load_from_cache, cache_dir=tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", find)
    name = "hf-hub:paige-ai/Virchow2"
    backbone = Backbone.from_timm(name, model_kwargs=SWIGLU, pooling="token+avg")
    assert backbone.name.startswith(f"{name}@{commit}#")
    pixels = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        tokens = net(normalised(backbone, pixels))
        found = backbone.features(pixels)
    assert tokens.shape == (2, 1 + 4 + 16 * 16, 48)
    wanted = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=-1)  # as its card has it
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert backbone.n_features == 96
    same = Backbone.from_name("hf_hub:paige-ai/Virchow2?pooling=token+avg", model_kwargs=SWIGLU)
    assert same is backbone
    with pytest.raises(ValueError, match=r"returns all of its tokens.*pooling='token', 'avg' or"):
        _ = Backbone.from_name(name, model_kwargs=SWIGLU).module
    with pytest.raises(ValueError, match="do not fit architecture"):
        _ = Backbone.from_name(name, pooling="token").module  # without its kind of layers


@pytest.mark.parametrize("pooling", ["token", "avg", "max", "map", "token+avg"])
def test_poolings_of_timm(pooling, tmp_path):
    own = {"token+avg": "token"}.get(pooling, pooling)
    net = filled("test_vit", global_pool=own, num_classes=0)
    path = save(net.state_dict(), tmp_path / "net.safetensors")
    backbone = Backbone.from_timm("test_vit", checkpoint=path, pooling=pooling)
    pixels = torch.rand(2, 3, 160, 160, requires_grad=True)
    wanted = net(normalised(backbone, pixels))
    if pooling == "token+avg":
        tokens = net.forward_features(normalised(backbone, pixels))
        wanted = torch.cat([wanted, tokens[:, net.num_prefix_tokens :].mean(1)], 1)
    found = backbone.features(pixels)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    slopes = [torch.autograd.grad(z.square().sum(), pixels)[0] for z in (found, wanted)]
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-4)
    assert backbone is Backbone.from_name(f"timm:test_vit?pooling={pooling}", checkpoint=path)


def test_patches_of_a_net_that_was_trained_by_its_class_token(tmp_path):
    """Their mean after the last norm, which is trained: timm would want another norm's weights."""
    net = filled("test_vit", global_pool="token", num_classes=0)
    path = save(net.state_dict(), tmp_path / "net.safetensors")
    backbone = Backbone.from_timm("test_vit", checkpoint=path, pooling="avg")
    pixels = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        tokens = net.forward_features(normalised(backbone, pixels))
        found = backbone.features(pixels)
    torch.testing.assert_close(found, tokens[:, net.num_prefix_tokens :].mean(1))


def test_names_with_a_pooling_go_wherever_names_go():
    net = Backbone.from_name("dinov2_vits14", pooling="token+avg", pretrained=False)
    assert net.name == "dinov2_vits14?pooling=token+avg"
    conv = Backbone.from_timm("resnet10t", model_kwargs={"global_pool": "max"}, pretrained=False)
    assert conv is Backbone.from_name("timm:resnet10t?pooling=max", pretrained=False)
    found = resolve_backbones(["efficientnet_lite0", "efficientnet_lite0?pooling=max"], 32)
    assert [one.name for one in found] == ["efficientnet_lite0", "efficientnet_lite0?pooling=max"]
    pixels = torch.rand(1, 3, 32, 32)
    plain, largest = (one.features(pixels) for one in found)
    assert (largest >= plain - 1e-5).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:test_vit", {"pooling": "mean"}, "timm cannot make 'test_vit'.*'token', 'avg', "),
        ("timm:resnet10t", {"pooling": "token+avg"}, "timm cannot make 'resnet10t'"),
        ("timm:test_vit", {"model_kwargs": {"depht": 2}}, "unexpected keyword argument 'depht'"),
        ("timm:test_vit", {"model_kwargs": {"pretrained": True}}, "are chosen by pretrained="),
        ("clip", {"model_kwargs": {"width": 2}}, "model_kwargs are for nets of timm"),
        ("clip", {"pooling": "mean"}, "must be 'projection' .the default., or"),
    ],
)
def test_what_a_library_does_not_make(name, options, message):
    with pytest.raises(ValueError, match=message):
        Backbone.from_name(name, pretrained=False, **options)


def test_resnets_of_clip_have_no_feature_before_their_projection():
    backbone = Backbone.from_name("clip_rn50", pooling="pooler", pretrained=False)
    with undrawn(), pytest.raises(ValueError, match="pools by attention"):
        _ = backbone.module


@pytest.mark.parametrize("pooling", ["pooler", "projection"])
def test_clip_before_and_after_its_projection(pooling, tmp_path, monkeypatch):
    add_tiny_clip(tmp_path, monkeypatch)
    model = fill(open_clip.create_model("tiny-quickgelu")).eval()
    path = save(model.state_dict(), tmp_path / "clip.safetensors")
    backbone = Backbone.from_open_clip("tiny-quickgelu", checkpoint=path, pooling=pooling)
    pixels = torch.rand(2, 3, 32, 32)
    if pooling == "pooler":
        model.visual.proj = None
    with torch.no_grad():
        wanted, found = model.visual(normalised(backbone, pixels)), backbone.features(pixels)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert backbone.n_features == found.shape[1]
    plain = Backbone.from_open_clip("tiny-quickgelu", checkpoint=path)
    assert (plain is backbone) == (pooling == "projection")
    assert TINY_CLIP["embed_dim"] == plain.n_features


def test_equal_arguments_make_one_net_with_one_name():
    """The name is pinned: it is the same in every process."""

    def make(eps):
        options = {"mlp_ratio": 2.66667 * 2, "act_layer": torch.nn.SiLU}
        options["norm_layer"] = functools.partial(torch.nn.LayerNorm, eps=eps)
        return Backbone.from_timm("test_vit", model_kwargs=options, pretrained=False, pooling="avg")

    assert make(1e-3) is make(1e-3)
    assert make(1e-3).fingerprint() != make(1e-4).fingerprint()
    assert make(1e-3).name == "timm:test_vit.r160_in1k#25c1c24b6269?pooling=avg"


def test_a_fit(tmp_path):
    backbone = Backbone.from_timm(
        "test_vit", model_kwargs={"reg_tokens": 2}, pooling="token+avg", pretrained=False
    )
    X = torch.rand(6, 32, 32, 3).numpy()
    distiller = LGMDistiller(backbone, max_iter=1, image_size=32, device="cpu", random_state=0)
    fitted = distiller.fit(X, [0, 1] * 3)
    assert pickle.loads(pickle.dumps(fitted)).prototypes_.shape == fitted.prototypes_.shape


def test_options_in_a_name_are_those_of_from_name(tmp_path):
    path = tmp_path / "what?.pth"
    net = timm.create_model("test_resnet", num_classes=0)
    torch.save(net.state_dict(), path)
    options = "pooling=max&mean=0.5&std=0.1,0.2,0.3&crop_pct=1&interpolation=bilinear"
    named = Backbone.from_name(f"timm:test_resnet@{path}?{options}")
    assert named is Backbone.from_timm(
        "test_resnet",
        checkpoint=path,
        pooling="max",
        mean=0.5,
        std=(0.1, 0.2, 0.3),
        crop_pct=1.0,
        interpolation="bilinear",
    )
    # What is passed counts more than what is named.
    assert Backbone.from_name("clip?mean=0.5&std=0.1", mean=0.25).spec.mean == (0.25,) * 3
    both = Backbone.from_name("timm:test_resnet?pooling=avg", pretrained=False, pooling="max")
    assert both.name.endswith("?pooling=max")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("crop=1", "option 'crop' .* pooling, mean, std, crop_pct, interpolation, as in"),
        ("mean=grey", "mean in the name .* must be a number, or for mean and std three"),
        ("mean=0.5,0.5", "mean must be a number or three of them"),
        ("mean=127", "Divide mean and std by 255"),
        ("std=0.5,nan,0.5", "std must be a number or three of them"),
        ("crop_pct=nan", "crop_pct must be in"),
        ("interpolation=nearest", "interpolation"),
    ],
)
def test_options_in_a_name_that_are_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Backbone.from_name(f"clip?{options}")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("clip", None),
        ("timm:test_vit?pooling=avg", None),
        ("timm:test_vit@~/a@b.pth?mean=0.5", "~/a@b.pth"),
        ("local-dir:net", "net"),
        ("hf-hub:owner/net@main", "owner/net@main"),
    ],
)
def test_the_place_in_a_name(name, place):
    assert place_of(name) == place


def test_only_files_and_folders_are_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "net").mkdir(parents=True)
    here = [name for name in ("hf-hub:owner/net", "local-dir:owner/net", "clip") if is_here(name)]
    assert here == ["local-dir:owner/net"]


def test_options_of_a_name_are_written_as_they_are_read():
    name = join_options("clip@a?b.pth?pooling=avg&std=0.5", {"mean": [0.1, 0.2, 0.3], "std": 0.25})
    assert name == "clip@a?b.pth?pooling=avg&std=0.25&mean=0.1,0.2,0.3"
    options = {"pooling": "avg", "std": [0.25], "mean": [0.1, 0.2, 0.3]}
    assert split_options(name) == ("clip@a?b.pth", options)
