"""Image towers of open_clip."""

from __future__ import annotations

import os
from typing import Any

import torch

from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import find_on_hub, weights_not_found


def describe(identifier: str, pretrained: bool) -> BackboneSpec:
    """Write the record of ``open_clip:<identifier>`` from open_clip's own configuration."""
    import open_clip
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    architecture, _, tag = identifier.partition("/")
    config = open_clip.get_model_config(architecture)
    if config is None:
        known = [f"open_clip:{arch}/{tag}" for arch, tag in open_clip.list_pretrained()]
        ways = (
            "After 'open_clip:' comes '<architecture>/<pretrained>', a pair of "
            "open_clip.list_pretrained()."
        )
        raise unknown_name(f"open_clip:{identifier}", known, ways)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if (pretrained or tag) and tag not in tags:
        known = [f"open_clip:{architecture}/{each}" for each in tags]
        ways = f"open_clip has these weights for {architecture}: {', '.join(tags) or 'none'}."
        raise unknown_name(f"open_clip:{identifier}", known, ways)
    weights = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and bool(weights.get("quick_gelu")) and not config.get("quick_gelu"):
        raise ValueError(
            f"The weights {tag!r} were trained with QuickGELU, which architecture "
            f"{architecture!r} does not use: features would be wrong without a sign. "
            f"Use 'open_clip:{architecture}-quickgelu/{tag}'."
        )
    preprocess = merge_preprocess_dict(PreprocessCfg(), weights)
    vision = config["vision_cfg"]
    size = vision["image_size"]
    return BackboneSpec(
        name=f"open_clip:{architecture}/{tag}" if tag else f"open_clip:{architecture}",
        source="open_clip",
        architecture=architecture,
        weights=tag,
        image_size=size if isinstance(size, int) else size[-1],
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        interpolation=preprocess["interpolation"],
        resize=preprocess["resize_mode"],
        pooling="encode_image, not normalised",
        n_features=config["embed_dim"],
        patch_size=vision.get("patch_size"),
        fixed_size=True,
        reference="https://github.com/mlfoundations/open_clip",
    )


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the image tower, projection included, on the CPU."""
    import open_clip

    model = open_clip.create_model(
        spec.architecture,
        pretrained=_locate(spec) if pretrained else None,
        pretrained_text=False,
        force_image_size=None if image_size == spec.image_size else image_size,
    )
    tower: torch.nn.Module = model.visual
    if getattr(tower, "output_tokens", False):  # CoCa towers return a pair otherwise
        tower.output_tokens = False  # type: ignore[assignment]
    return tower


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return open_clip's transforms at test time, conversion to a tensor included."""
    import open_clip

    pipeline = open_clip.image_transform(
        image_size,
        is_train=False,
        mean=spec.mean,
        std=spec.std,
        resize_mode=spec.resize,
        interpolation=spec.interpolation,
    )
    return list(pipeline.transforms)


def _locate(spec: BackboneSpec) -> str:
    import open_clip
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import download_pretrained_from_url

    weights = open_clip.get_pretrained_cfg(spec.architecture, spec.weights)
    if not weights.get("hf_hub"):
        try:
            return str(download_pretrained_from_url(weights["url"]))
        except OSError as error:
            tried = f"{weights['url']} did not answer ({error})."
            raise weights_not_found(spec.name, tried) from error
    repository, filename = os.path.split(weights["hf_hub"])
    if not filename:
        return find_on_hub(spec.name, repository, [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME])
    safe = filename.removesuffix(".bin") + ".safetensors"
    return find_on_hub(spec.name, repository, [safe, filename] if safe != filename else [filename])
