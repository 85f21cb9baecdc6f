"""Image towers of open_clip."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones._checkpoints import check_total, loading, read_checkpoint
from sklgm.backbones._modules import own_rng
from sklgm.backbones._registry import OPEN_CLIP_FILES
from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import CONFIGS, find_folder, find_weights, weights_not_found


def describe(identifier: str, pretrained: bool) -> BackboneSpec:
    """Write the record of ``open_clip:<identifier>`` from open_clip's own configuration.

    Without a tag of weights, the preprocessing is that of the first weights open_clip lists for
    the architecture.
    """
    import open_clip

    architecture, _, tag = identifier.partition("/")
    # With a colon it would be fetched from elsewhere, under open_clip's own rules.
    config = None if ":" in architecture else open_clip.get_model_config(architecture)
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
    # Its ResNets use ReLU throughout, whatever the name says.
    has_gelu = not _is_resnet(config["vision_cfg"])
    if has_gelu and bool(weights.get("quick_gelu")) and not config.get("quick_gelu"):
        raise ValueError(
            f"The weights {tag!r} were trained with QuickGELU, which architecture "
            f"{architecture!r} does not use: features would be wrong without a sign. "
            f"Use 'open_clip:{architecture}-quickgelu/{tag}'."
        )
    repository, _, filename = str(weights.get("hf_hub") or "").rpartition("/")
    files: tuple[str, ...] = OPEN_CLIP_FILES
    if filename:
        safe = f"{filename.removesuffix('.bin')}.safetensors"
        files = (safe, filename) if safe != filename else (filename,)
    return _from_config(
        config,
        weights or (open_clip.get_pretrained_cfg(architecture, tags[0]) if tags else {}),
        name=f"open_clip:{architecture}/{tag}" if tag else f"open_clip:{architecture}",
        architecture=architecture,
        weights=tag,
        repository=repository,
        files=files,
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
    text = (Path(folder) / CONFIGS["open_clip"]).read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


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


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the image tower, projection included, on the CPU."""
    import open_clip
    from open_clip.model import _build_vision_tower

    folder = find_folder(spec)
    path = _locate(spec) if pretrained else ""
    state = read_checkpoint(path) if pretrained else {}
    if folder:
        config = _read_config(folder)["model_cfg"]
    else:
        config = open_clip.get_model_config(spec.architecture)
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    # A tower of timm is resized once it is loaded: it interpolates by itself.
    is_timm = "timm_model_name" in vision
    if not is_timm:
        vision["image_size"] = image_size
    quick_gelu = config.get("quick_gelu", False)
    with _quiet():
        if pretrained:
            with loading(path, spec.architecture), torch.device("meta"), own_rng():
                skeleton = _build_vision_tower(config["embed_dim"], vision, quick_gelu)
                check_total(skeleton.state_dict(), state)
        # open_clip.create_model would build the text tower too, twice the memory and time.
        with own_rng():
            tower: Any = _build_vision_tower(config["embed_dim"], vision, quick_gelu)
        if pretrained:
            _load(tower, state, path, spec)
        if is_timm and image_size != spec.image_size:
            tower.set_input_size(image_size)
    if getattr(tower, "output_tokens", False):  # CoCa towers return a pair otherwise
        tower.output_tokens = False
    _put_length_first(tower)
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
    from open_clip.pretrained import download_pretrained_from_url

    if spec.checkpoint or spec.repository:
        return find_weights(spec)
    url = open_clip.get_pretrained_cfg(spec.architecture, spec.weights)["url"]
    try:
        return str(download_pretrained_from_url(url))
    except OSError as error:
        raise weights_not_found(spec.name, f"{url} did not answer ({error}).") from error


def _load(tower: Any, state: dict[str, Tensor], path: str, spec: BackboneSpec) -> None:
    """Fill the image tower from a whole model's tensors, or from those of a tower alone."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import resize_pos_embed
    from timm.layers import resample_abs_pos_embed

    model: Any = SimpleNamespace(visual=tower)  # all that the two functions look at
    with loading(path, spec.architecture):
        state = convert_state_dict(model, state)
        if not any(key.startswith("visual.") for key in state):
            state = {f"visual.{key}": value for key, value in state.items()}
        if all(f"visual.{key}" in state for key in tower.state_dict()):
            resize_pos_embed(state, model)
        # The embedding of a ResNet's attention pool is one that open_clip does not resize.
        key = "visual.attnpool.positional_embedding"
        if key in state and hasattr(tower, "attnpool"):
            side = tower.image_size // 32
            state[key] = resample_abs_pos_embed(state[key][None], [side, side])[0]
        tower.load_state_dict(
            {
                key.removeprefix("visual."): value
                for key, value in state.items()
                if key.startswith("visual.")
            }
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what open_clip tells the root logger to itself."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def is_foreign(record: logging.LogRecord) -> bool:
        return Path(record.pathname).parent.name != "open_clip"

    root.addHandler(handler)  # or its first message would configure the root logger for good
    root.addFilter(is_foreign)
    try:
        yield
    finally:
        root.removeFilter(is_foreign)
        root.removeHandler(handler)
