"""Nets of timm, with the weights of timm, of a hub repository, or of a file."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones._checkpoints import Checkpoint, loading, read_checkpoint
from sklgm.backbones._modules import own_rng
from sklgm.backbones._registry import TIMM_FILES
from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import find_folder, find_weights


@functools.lru_cache(maxsize=256)
def describe(identifier: str, pretrained: bool) -> BackboneSpec:
    """Write the record of ``timm:<identifier>`` from timm's own configuration."""
    import timm

    architecture, _, tag = identifier.partition(".")
    tags = [model.partition(".")[2] for model in timm.list_pretrained(f"{architecture}.*")]
    if not timm.is_model(architecture) or (tag and tag not in tags):
        known = [f"timm:{name}" for name in (*timm.list_models(), *timm.list_pretrained())]
        ways = "After 'timm:' comes a name of timm.list_models() or timm.list_pretrained()."
        raise unknown_name(f"timm:{identifier}", known, ways)
    config = timm.get_pretrained_cfg(identifier)
    if config is None or (pretrained and not config.has_weights):
        raise ValueError(
            f"timm has no pretrained weights for {identifier!r}. Use pretrained=False, or weights "
            f"of your own: Backbone.from_name('timm:{architecture}', checkpoint=...)."
        )
    return from_net(_skeleton(identifier, num_classes=0))


def describe_folder(folder: str) -> BackboneSpec:
    """Write the record of a folder that timm saved."""
    spec = from_net(_skeleton(f"local-dir:{folder}", num_classes=0))
    return replace(spec, weights="", repository="", files=TIMM_FILES)


def from_net(net: Any) -> BackboneSpec:
    """Write a record from the configuration that timm gives its nets."""
    from timm.data.config import resolve_data_config

    config = net.pretrained_cfg
    data = resolve_data_config(pretrained_cfg=config)
    architecture, tag = config["architecture"], config.get("tag") or ""
    repository, filename = config.get("hf_hub_id") or "", config.get("hf_hub_filename")
    fixed = bool(config.get("fixed_input_size"))
    embedding = getattr(net, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    # A net that interpolates its position embedding as it runs cuts images into whole patches too.
    whole = fixed or getattr(net, "dynamic_img_size", False)
    if not whole or getattr(embedding, "dynamic_img_pad", False):
        patch = None
    return BackboneSpec(
        name=f"timm:{architecture}.{tag}" if tag else f"timm:{architecture}",
        source="timm",
        architecture=architecture,
        weights=tag,
        image_size=data["input_size"][-1],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        resize=data["crop_mode"],
        pooling="timm's default",
        patch_size=patch[-1] if isinstance(patch, tuple | list) else patch,
        fixed_size=fixed,
        repository=repository,
        files=(filename,) if filename else TIMM_FILES,
        license=config.get("license") or "",
        reference=f"https://huggingface.co/{repository}" if repository else "",
    )


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its classifier, on the CPU."""
    import timm
    from timm.models._hub import download_cached_file

    options: dict[str, Any] = {"num_classes": 0}
    if spec.global_pool:
        options["global_pool"] = spec.global_pool
    if spec.fixed_size:
        options["img_size"] = image_size
    folder = find_folder(spec)
    if folder:
        name = f"local-dir:{folder}"
    else:
        name = f"{spec.architecture}.{spec.weights}" if spec.weights else spec.architecture
    if not pretrained:
        return create(name, **options)
    if spec.repository or spec.checkpoint:
        path = find_weights(spec)
    else:  # At a plain address. timm's own way falls back on a reading that runs code.
        config: Any = timm.get_pretrained_cfg(name)
        path = download_cached_file(config.url)
    return _load(name, read_checkpoint(path), options)


def _load(name: str, checkpoint: Checkpoint, options: dict[str, Any]) -> torch.nn.Module:
    """Make a net with the tensors of a checkpoint, all of them but the classifier's.

    timm converts foreign names it knows and interpolates position embeddings.
    """
    expected = _skeleton(name, **options).state_dict()
    classifier = _skeleton(name, **options | {"num_classes": 1}).state_dict().keys() - expected
    heads = {key.partition(".")[0] for key in classifier}
    kept = {
        key: value
        for key, value in checkpoint.state_dict(expected).items()
        if key in expected or key.partition(".")[0] not in heads
    }
    # With a classifier of as many classes as the file's, none, timm loads strictly.
    overlay = {"state_dict": kept, "source": "", "custom_load": False}
    overlay |= {"num_classes": 0, "label_offset": 0}
    with loading(checkpoint.path, name):
        _check_patches(kept, expected)
        return create(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)


def create(name: str, **options: Any) -> Any:
    """Call `timm.create_model`, which draws from the global generator, and leave that alone."""
    import timm

    with own_rng():
        return timm.create_model(name, **options)


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


def _skeleton(name: str, **options: Any) -> Any:
    """Make a net whose tensors have shapes and no memory."""
    with torch.device("meta"):
        return create(name, **options)


def _check_patches(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise RuntimeError for patches of another size: timm would resample them silently."""
    key = "patch_embed.proj.weight"
    if key in state and key in expected and state[key].ndim == 4:
        theirs, ours = (tuple(tensor.shape) for tensor in (state[key], expected[key]))
        if theirs != ours:
            raise RuntimeError(f"{key} is {theirs}, not {ours}")
