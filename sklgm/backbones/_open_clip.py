"""Image towers of open_clip."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones._checkpoints import loading, read_state_dict, warn_of_resizing
from sklgm.backbones._registry import OPEN_CLIP_FILES
from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import CONFIGS, find_folder, find_weights
from sklgm.utils.random import own_rng


def describe(identifier: str, pretrained: bool) -> BackboneSpec:
    """Write the record of ``open_clip:<identifier>`` from open_clip's own configuration.

    Without a tag of weights, the preprocessing is that of the first weights open_clip lists for
    the architecture.
    """
    import open_clip

    architecture, _, tag = identifier.partition("/")
    # With a colon it would be fetched from elsewhere, under open_clip's own rules.
    config = None if ":" in architecture else open_clip.get_model_config(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if config is None or ((pretrained or tag) and tag not in tags):
        known = [f"open_clip:{'/'.join(pair)}" for pair in open_clip.list_pretrained()]
        raise unknown_name(
            f"open_clip:{identifier}",
            known,
            "After 'open_clip:' comes '<architecture>/<pretrained>', a pair of "
            "open_clip.list_pretrained().",
        )
    weights = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    # Its ResNets use ReLU throughout, whatever the name says.
    has_gelu = not _is_resnet(config["vision_cfg"])
    if has_gelu and weights.get("quick_gelu") and not config.get("quick_gelu"):
        raise ValueError(
            f"The weights {tag!r} were trained with QuickGELU, which architecture "
            f"{architecture!r} does not use: features would be wrong without a sign. "
            f"Use 'open_clip:{architecture}-quickgelu/{tag}'."
        )
    repository, _, filename = str(weights.get("hf_hub") or "").rpartition("/")
    return _from_config(
        config,
        weights or (open_clip.get_pretrained_cfg(architecture, tags[0]) if tags else {}),
        name=f"open_clip:{architecture}/{tag}".removesuffix("/"),
        architecture=architecture,
        weights=tag,
        repository=repository,
        files=(filename,) if filename else OPEN_CLIP_FILES,
    )


def describe_folder(folder: str) -> BackboneSpec:
    """Write the record of a folder that open_clip saved."""
    config = _read_config(folder)
    inner = str(config["model_cfg"]["vision_cfg"].get("timm_model_name") or "")
    if ":" in inner:  # another repository or folder
        raise ValueError(f"its timm_model_name {inner!r} is no name of timm.list_models()")
    architecture = config["model_cfg"].get("model_name", Path(folder).name)
    return _from_config(
        config["model_cfg"],
        config.get("preprocess_cfg", {}),
        name=f"open_clip:{architecture}",
        architecture=architecture,
        weights="",
        files=OPEN_CLIP_FILES,
    )


def _read_config(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / CONFIGS["open_clip"]).read_text(encoding="utf-8"))


def _is_resnet(vision: dict[str, Any]) -> bool:
    return isinstance(vision.get("layers"), list)


def _from_config(model: dict[str, Any], preprocess: dict[str, Any], **known: Any) -> BackboneSpec:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    preprocess = merge_preprocess_dict(PreprocessCfg(), preprocess)
    vision = model["vision_cfg"]
    size = vision["image_size"]
    return BackboneSpec(
        **known,
        source="open_clip",
        image_size=size if isinstance(size, int) else size[-1],
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        interpolation=preprocess["interpolation"],
        resize=preprocess["resize_mode"],
        pooling="encode_image, not normalised",
        n_features=model["embed_dim"],
        # The strides of a ResNet multiply to 32.
        patch_size=32 if _is_resnet(vision) else vision.get("patch_size"),
        fixed_size=True,
        reference="https://github.com/mlfoundations/open_clip",
    )


def adapt(spec: BackboneSpec, pooling: str) -> BackboneSpec:
    """Return the record of a tower whose feature is from before or after its projection."""
    if pooling not in ("pooler", "projection"):
        raise ValueError(
            f"pooling of {spec.name!r} must be 'projection' (the default), or 'pooler', which is "
            f"the same before the projection; got {pooling!r}."
        )
    if pooling == "projection":
        return spec
    return replace(spec, global_pool=pooling, pooling=pooling, n_features=None)


def _leave_projection_out(tower: Any, name: str) -> None:
    if hasattr(tower, "trunk"):  # timm's
        tower.head = torch.nn.Identity()
    elif hasattr(tower, "proj"):
        tower.proj = None
    else:
        raise ValueError(
            f"The tower of {name!r} is a ResNet, which pools by attention and projects in one "
            f"step: it has no feature 'pooler'. Leave pooling out."
        )


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the image tower, projection included, on the CPU."""
    import open_clip
    from open_clip.model import _build_vision_tower

    folder = find_folder(spec)
    path = find_weights(spec) if pretrained else ""
    if folder:
        config = _read_config(folder)["model_cfg"]
    else:
        config = open_clip.get_model_config(spec.architecture)
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    # A tower of timm is resized once it is loaded: it interpolates by itself.
    is_timm = "timm_model_name" in vision
    if not is_timm:
        vision["image_size"] = image_size

    with own_rng():
        # open_clip.create_model would build the text tower too, twice the memory and time.
        quick_gelu = config.get("quick_gelu", False)
        tower: Any = _build_vision_tower(config["embed_dim"], vision, quick_gelu)
    if pretrained:
        with loading(path, spec.architecture):
            state, expected = _state_of_tower(tower, path), tower.state_dict()
            tower.load_state_dict(_with_positions(state, expected))
        warn_of_resizing(spec, image_size, state, expected)
    if is_timm and image_size != spec.image_size:
        tower.set_input_size(image_size)
    if getattr(tower, "output_tokens", False):  # CoCa towers return a pair otherwise
        tower.output_tokens = False
    _put_length_first(tower)
    if spec.global_pool:
        _leave_projection_out(tower, spec.name)
    return tower


def _put_length_first(tower: torch.nn.Module) -> None:
    """Let transformers work on (length, n, width) rather than on (n, length, width).

    `torch.nn.MultiheadAttention` with ``batch_first=True`` sees its input through a transposed
    view, which torch multiplies position by position where the weights take no gradient. In the
    other order, which open_clip offers too, it is one product: CLIP ViT-B/16 then takes some two
    thirds of the time on a CPU, forward and back.
    """
    from open_clip.transformer import Transformer

    for part in tower.modules():
        if isinstance(part, Transformer):
            attention = [getattr(block, "attn", None) for block in part.resblocks]
            if all(isinstance(one, torch.nn.MultiheadAttention) for one in attention):
                for one in (part, *attention):
                    one.batch_first = False


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return what open_clip does with an image at test time before its conversion, and a crop."""
    import open_clip
    from torchvision.transforms import CenterCrop

    pipeline = open_clip.image_transform(
        spec.canvas_size(image_size),
        is_train=False,
        resize_mode=spec.resize,
        interpolation=spec.interpolation,
    )
    *resize, _convert, _to_tensor, _normalise = pipeline.transforms
    # open_clip cuts nothing off, but some who train its nets do.
    return [*resize, CenterCrop(image_size)]


def _state_of_tower(tower: Any, path: str) -> dict[str, Tensor]:
    """Take an image tower's tensors from those of a whole model, or of a tower alone."""
    from open_clip.convert import convert_state_dict

    state = read_state_dict(path, tower.state_dict())
    state = convert_state_dict(SimpleNamespace(visual=tower), state)  # which looks at that alone
    start = "visual."
    whole = {key.removeprefix(start): state[key] for key in state if key.startswith(start)}
    return whole or state


def _with_positions(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Interpolate position embeddings to the image size of the tower that is to take them."""
    from timm.layers import resample_abs_pos_embed

    found = dict(state)
    # open_clip resizes the former alike, and the latter, of a ResNet's attention pool, not at all.
    for key in ("positional_embedding", "attnpool.positional_embedding"):
        if key in state and key in expected:
            side = math.isqrt(len(expected[key]) - 1)
            found[key] = resample_abs_pos_embed(state[key][None], [side, side])[0]
    return found
