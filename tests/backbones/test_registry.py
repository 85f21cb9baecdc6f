"""Every record of the registry against its own library, on random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sklgm.backbones import Backbone
from sklgm.backbones._registry import ALIASES, REGISTRY
from tests.library_nets import fill, own_cache, undrawn

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
transforms = pytest.importorskip("torchvision.transforms")

# At their own size, which no test below shrinks; the others see two patches a side.
FULL_SIZE = ("clip_vitb16", "dinov2_vitb14", "eva02_base", "mocov3_vitb16")
TIMM_TAGS = {
    "efficientnet_lite0": "tf_efficientnet_lite0.in1k",
    "efficientnet_lite1": "tf_efficientnet_lite1.in1k",
    "efficientnet_lite2": "tf_efficientnet_lite2.in1k",
} | {
    name: f"{record.architecture}.{record.weights}"
    for name, record in REGISTRY.items()
    if record.source == "timm" and record.weights
}
OPEN_CLIP = [name for name, record in REGISTRY.items() if record.source == "open_clip"]
CLIP = [name for name in OPEN_CLIP if name.startswith("clip")]
# Large ones are deeper and wider than others of their family, and no other way.
SMALLER = [name for name in REGISTRY if not any(size in name for size in ("vitl", "large"))]
MOCO_V3 = [name for name in REGISTRY if name.startswith("mocov3")]


@pytest.fixture(scope="module", params=REGISTRY)
def ours(request):
    """Return each backbone in turn, as `from_name` builds it, with weights that all count."""
    record = REGISTRY[request.param]
    size = None if record.name in FULL_SIZE else 2 * (record.patch_size or 32)
    with pytest.MonkeyPatch.context() as patch, undrawn():
        own_cache(patch)
        backbone = Backbone.from_name(record.name, image_size=size, pretrained=False)
        fill(backbone.module)
    return backbone


@pytest.fixture(scope="module")
def pictures():
    """Return two uint8 images of odd shapes: landscape, and narrower than most nets."""
    flower = load_sample_images().images[1]
    rng = np.random.default_rng(0)
    return [flower[::2, ::2][:201, :299], rng.integers(0, 256, (97, 31, 3), dtype=np.uint8)]


def by_open_clip(record, size, architecture=None):
    """Return what open_clip gives for a record: model and transform."""
    trained = open_clip.get_pretrained_cfg(record.architecture, record.weights)
    model = open_clip.create_model(
        architecture or record.architecture,
        force_image_size=size,
        # Which open_clip does itself when it also downloads the weights.
        force_preprocess_cfg={
            key: trained[key] for key in ("mean", "std", "interpolation", "resize_mode")
        },
    )
    from open_clip.transform import PreprocessCfg, image_transform_v2

    preprocess = PreprocessCfg(**model.visual.preprocess_cfg)
    return model.eval(), image_transform_v2(preprocess, is_train=False)


def by_timm(name, size):
    """Return what timm gives for the weights behind a name: net and transform."""
    options = {} if "efficientnet" in name else {"img_size": size}
    if name == "dinov3_vitb16":  # as its authors probe it, see the record
        options["global_pool"] = "token"
    net = timm.create_model(TIMM_TAGS[name], num_classes=0, **options)
    data = timm.data.resolve_model_data_config(net, {"input_size": (3, size, size)})
    return net.eval(), timm.data.create_transform(**data)


def by_moco_v3(record, size):
    """Return what the published code makes, as far as there is any: its transform at test time."""
    net = timm.create_model(record.architecture, num_classes=0, img_size=size)
    transform = transforms.Compose(
        [
            transforms.Resize(int(size / 224 * 256)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    return net.eval(), transform


def embed(forward, transform, pictures):
    with torch.no_grad():
        return forward(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]))


def test_equals_its_library(ours, pictures):
    """Our feature of an image is the library's own of the image that its transform prepares."""
    record, size = ours.spec, ours.image_size
    with undrawn():
        if record.source == "open_clip":
            model, transform = by_open_clip(record, size)
            net, forward = model.visual, model.encode_image
        elif record.name in MOCO_V3:
            net, transform = by_moco_v3(record, size)
            forward = net
        else:
            net, transform = by_timm(record.name, size)
            forward = net
    net.load_state_dict(ours.module.state_dict(), assign=True)
    wanted = embed(forward, transform, pictures)
    with torch.no_grad():
        found = ours.features(ours.prepare(pictures))
    assert found.shape == (2, record.n_features)
    assert found.std() > 0.01
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    # The two images are told apart, so equality says something about every layer.
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("ours", CLIP, indirect=True)
def test_the_plain_clip_architecture_gives_other_features(ours, pictures):
    """The same weights fit it, with another activation: the silent bug that the name avoids."""
    record = ours.spec
    plain = record.architecture.removesuffix("-quickgelu")
    with undrawn():
        model, transform = by_open_clip(record, ours.image_size, plain)
    model.visual.load_state_dict(ours.module.state_dict(), assign=True)
    other = embed(model.encode_image, transform, pictures)
    with torch.no_grad():
        found = ours.features(ours.prepare(pictures))
    if "RN" in record.architecture:  # ReLU throughout: the text tower alone would differ
        torch.testing.assert_close(found, other, atol=1e-5, rtol=1e-5)
    else:
        assert (found - other).abs().max() > 0.01


def bits(net):
    """Sum up the bits of each tensor, as integers."""
    return {
        key: int((value.view(torch.int32) if value.is_floating_point() else value).sum())
        for key, value in net.state_dict().items()
    }


@pytest.mark.parametrize("ours", SMALLER, indirect=True)
def test_gradients_reach_every_pixel_and_weights_stay(ours):
    before = bits(ours.module)
    size = ours.image_size
    pixels = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size).requires_grad_()
    features = ours.features(pixels)
    assert features.shape == (1, ours.spec.n_features)
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert pixels.grad.isfinite().all()
    assert pixels.grad.ne(0).any(1).all()
    assert bits(ours.module) == before
    assert not any(p.requires_grad or p.grad is not None for p in ours.module.parameters())
    assert not any(part.training for part in ours.module.modules())


@pytest.mark.parametrize("name", ["dino_vits16", "efficientnet_lite1", "eva02_tiny"])
def test_untrained_weights_are_random_ones(name, monkeypatch):
    """What the tests above fill by themselves is the library's own initialisation otherwise."""
    own_cache(monkeypatch)
    size = 2 * (REGISTRY[name].patch_size or 32)
    module = Backbone.from_name(name, image_size=size, pretrained=False).module
    for parameter in module.parameters():
        assert parameter.isfinite().all()
        assert parameter.ndim == 1 or parameter.numel() < 1000 or parameter.std() > 0


@pytest.mark.parametrize("name", TIMM_TAGS)
def test_records_agree_with_timm(name):
    record, config = REGISTRY[name], timm.get_pretrained_cfg(TIMM_TAGS[name])
    data = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    for field in ("mean", "std", "interpolation", "crop_pct"):
        assert getattr(record, field) == data[field]
    assert record.resize == data["crop_mode"]
    assert record.fixed_size == config.fixed_input_size
    # The paper shows 224 pixels to DINOv2, which was pretrained at 518 by timm's account.
    size = 224 if name.startswith("dinov2") else data["input_size"][-1]
    assert record.image_size == size
    with undrawn(), torch.device("meta"):
        net = timm.create_model(TIMM_TAGS[name], num_classes=0)
    assert record.n_features == net.num_features
    if record.source == "timm":
        assert (record.patch_size, record.patch_size) == net.patch_embed.patch_size
        assert config.has_weights
        assert record.repository == config.hf_hub_id
        assert record.files == ("model.safetensors", "pytorch_model.bin")
        assert config.hf_hub_filename in (None, *record.files)
    if "class token" in record.pooling:
        assert (record.global_pool or net.global_pool) == "token"
    elif name.startswith("eva02"):
        assert (record.global_pool, net.global_pool) == ("", "avg")


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_records_agree_with_open_clip(name):
    record = REGISTRY[name]
    trained = open_clip.get_pretrained_cfg(record.architecture, record.weights)
    model = open_clip.get_model_config(record.architecture)
    assert record.mean == tuple(trained["mean"])
    assert record.std == tuple(trained["std"])
    assert record.interpolation == trained["interpolation"]
    assert record.resize == trained["resize_mode"]
    assert record.n_features == model["embed_dim"]
    assert record.image_size == model["vision_cfg"]["image_size"]
    assert f"{record.repository}/" == trained["hf_hub"]
    assert record.files[-1] == open_clip.constants.HF_WEIGHTS_NAME
    assert record.files[0] == open_clip.constants.HF_SAFE_WEIGHTS_NAME
    assert bool(trained.get("quick_gelu")) == bool(model.get("quick_gelu"))


@pytest.mark.parametrize("name", MOCO_V3)
def test_records_of_moco_v3(name):
    """No library knows its preprocessing: that is the published code's, for ImageNet."""
    record = REGISTRY[name]
    assert record.mean == timm.data.IMAGENET_DEFAULT_MEAN
    assert record.std == timm.data.IMAGENET_DEFAULT_STD
    assert (record.image_size, record.crop_pct, record.interpolation) == (224, 0.875, "bilinear")
    assert record.files == ("model.safetensors", "pytorch_model.bin")
    assert record.repository == f"nyu-visionx/moco-v3-vit-{name.removeprefix('mocov3_vit')[0]}"


def test_the_table_of_names():
    """The names of the paper and their kin, all of them and under these words."""
    clip = {f"clip_{kind}" for kind in ("vitb16", "vitb32", "vitl14", "rn50", "rn101")}
    dinov2 = {f"dinov2_vit{kind}14{reg}" for kind in "sbl" for reg in ("", "_reg")}
    others = {"dinov3_vitb16", "dino_vitb16", "dino_vits16", "mae_vitb16", "siglip_vitb16"}
    eva02 = {f"eva02_{kind}" for kind in ("tiny", "small", "base", "large")}
    moco_v3 = {"mocov3_vitb16", "mocov3_vitl16"}
    lite = {f"efficientnet_lite{i}" for i in range(3)}
    assert clip | dinov2 | others | eva02 | moco_v3 | lite == set(REGISTRY)
    assert ALIASES == {
        "clip": "clip_vitb16",
        "dinov2": "dinov2_vitb14",
        "dinov3": "dinov3_vitb16",
        "eva02": "eva02_base",
        "mocov3": "mocov3_vitb16",
        "siglip": "siglip_vitb16",
    }
    for name, record in REGISTRY.items():
        assert record.name == name
        assert record.license
        assert record.reference.startswith("https://")
        assert record.pooling


def test_dinov3_takes_the_class_token(monkeypatch):
    """timm's own choice is the mean of the patch tokens, which is another feature."""
    own_cache(monkeypatch)
    with undrawn():
        backbone = Backbone.from_name("dinov3", image_size=32, pretrained=False)
        net = timm.create_model("vit_base_patch16_dinov3", num_classes=0, img_size=32).eval()
    fill(backbone.module)
    state = backbone.module.state_dict()
    # timm norms before or after pooling, and calls the layer accordingly.
    with torch.no_grad():
        pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        found = backbone.features(pixels)
        net.load_state_dict(state, assign=True, strict=False)
        tokens = net.forward_features((pixels - backbone._mean) / backbone._std)
    torch.testing.assert_close(found, tokens[:, 0], atol=1e-5, rtol=1e-5)
    assert (found - tokens[:, 5:].mean(1)).abs().max() > 0.01
