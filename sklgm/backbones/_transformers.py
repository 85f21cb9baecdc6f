"""Vision models of Hugging Face's transformers, of a repository, of a folder, or as objects."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones import _image_processors
from sklgm.backbones._checkpoints import content_digest, read_checkpoint
from sklgm.backbones._image_processors import preparation, read_processor
from sklgm.backbones._modules import own_rng
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import find_folder, find_on_hub, find_weights, own_files, shards_of
from sklgm.utils.extras import needs_extra

_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_FILES = (_SINGLE[0], f"{_SINGLE[0]}.index.json", _SINGLE[1], f"{_SINGLE[1]}.index.json")

POOLINGS = ("token", "avg", "token+avg", "pooler", "projection")
# What the authors of a model probe, where it is not what its pooler returns.
_PROBED = dict.fromkeys(
    ("vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers", "dinov3_vit"), "token"
) | {"ijepa": "avg"}
# Tokens that stand before those of the patches, by the names of what they are made from.
_PREFIXES = ("cls_token", "class_embedding", "distillation_token", "register_tokens")

transform = _image_processors.transform


class PooledModel(torch.nn.Module):
    """A vision model that returns one of its features.

    Parameters
    ----------
    net : transformers.PreTrainedModel
        The model.
    pooling : str
        One of `POOLINGS`.
    """

    def __init__(self, net: Any, pooling: str) -> None:
        super().__init__()
        self.net = net
        self.pooling = pooling
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(net.forward).parameters
        self.masks = hasattr(net.config, "mask_ratio")
        if self.masks:
            net.config.mask_ratio = 0.0
        parts = [
            part.flatten(0, -2) if part.ndim > 1 else part[None]
            for name, part in net.named_parameters()
            if name.split(".")[-2:] in [["embeddings", prefix] for prefix in _PREFIXES]
        ]
        self.n_prefix = sum(len(part) for part in parts)
        if "token" in pooling and not self.n_prefix:
            raise ValueError(
                f"{type(net).__name__} has no class token. Take pooling='pooler' or 'avg'."
            )

    def forward(self, images: Tensor) -> Tensor:
        options: dict[str, Any] = {"return_dict": True}
        if self.interpolates:
            options["interpolate_pos_encoding"] = True
        if self.masks:  # nothing is masked, but the patches are put in the order of this noise
            n_patches = math.prod(side // self.net.config.patch_size for side in images.shape[2:])
            noise = torch.arange(n_patches, device=images.device, dtype=images.dtype)
            options["noise"] = noise.expand(len(images), -1)
        found = self.net(pixel_values=images, **options)
        if self.pooling in ("projection", "pooler"):
            name = {"projection": "image_embeds", "pooler": "pooler_output"}[self.pooling]
            features = getattr(found, name, None)
            if features is None:
                raise ValueError(
                    f"{type(self.net).__name__} returns no {name}. Take another pooling than "
                    f"{self.pooling!r}: {', '.join(POOLINGS[:-1])}."
                )
            return features.flatten(1)  # ConvNets keep two dimensions of length 1
        tokens = found.last_hidden_state
        if tokens.ndim == 4:  # a map of features
            tokens = tokens.flatten(2).transpose(1, 2)
        token, mean = tokens[:, 0], tokens[:, self.n_prefix :].mean(dim=1)
        both = {"token": [token], "avg": [mean], "token+avg": [token, mean]}
        return torch.cat(both[self.pooling], dim=1)


def describe(identifier: str) -> BackboneSpec:
    """Write the record of ``transformers:<identifier>``, a folder or a repository.

    Raises
    ------
    FileNotFoundError
        If a folder lacks the weights.
    WeightsNotFoundError
        If a repository is out of reach, or lacks a file.
    ValueError
        If there is no vision model that transformers itself can make.
    """
    name = f"transformers:{identifier}"
    folder, pinned = Path(identifier).expanduser().absolute(), ""
    if not folder.is_dir():
        repository, _, _ = identifier.partition("@")
        if repository.count("/") != 1 or identifier[0] in "./~":
            raise FileNotFoundError(
                f"{identifier} is no folder, and no Hugging Face repository; write "
                f"'transformers:<path>', 'transformers:<owner>/<name>' or "
                f"'transformers:<owner>/<name>@<revision>'."
            )
        folder = Path(find_on_hub(name, identifier, [_CONFIG])).parent
        pinned = f"{repository}@{folder.name}"  # the commit, so that a name keeps its weights
        find_on_hub(name, pinned, _PROCESSORS)
    config, processor = _read_folder(folder)
    spec = replace(
        _describe(config, processor),
        name=f"transformers:{pinned}",
        repository=pinned,
        reference=f"https://huggingface.co/{pinned.partition('@')[0]}" if pinned else "",
    )
    if pinned:
        return spec
    here = [folder / file for file in _FILES if (folder / file).is_file()]
    if not here:
        raise FileNotFoundError(f"{folder} holds none of the files {', '.join(_FILES)}.")
    spec = replace(spec, checkpoint=str(here[0]))
    digest = content_digest(*own_files(spec))
    return replace(spec, name=f"transformers:{spec.architecture}#{digest[:12]}", digest=digest)


def _read_folder(folder: Path) -> tuple[Any, Any]:
    """Return a model's configuration and its image processor; no code in the folder is run."""
    with needs_extra("transformers", "A model of transformers"):
        import transformers
    if not (folder / _CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no model of transformers: it has no {_CONFIG}.")
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            processor = read_processor(str(folder))
    except Exception as error:  # transformers raises anything
        reason = str(error).strip().partition("\n")[0]
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own to be run, which sklgm never does"
        raise ValueError(
            f"transformers cannot read the model in {folder}: {reason}. Load it yourself, and pass "
            f"the object: Backbone.from_transformers(model, processor=...), or "
            f"Backbone.from_module for a net that transformers does not have."
        ) from error
    return config, processor


def _describe(config: Any, processor: Any) -> BackboneSpec:
    prepared, pooling = preparation(processor), default_pooling(config)
    patch = getattr(_vision_config(config), "patch_size", None)
    # What does not divide a model's own size cuts off the rest.
    is_whole = isinstance(patch, int) and prepared["image_size"] % patch == 0
    return BackboneSpec(
        name="",
        source="transformers",
        architecture=_class_of(config, pooling).__name__,
        weights="",
        pooling=pooling,
        global_pool=pooling,
        patch_size=patch if is_whole else None,
        files=_FILES,
        config=_CONFIG,
        **prepared,
    )


def _vision_config(config: Any) -> Any:
    """Return a copy of the configuration of a model's vision tower, or of the model itself."""
    vision = copy.deepcopy(getattr(config, "vision_config", config))
    if vision.model_type != config.model_type and hasattr(config, "projection_dim"):
        vision.projection_dim = config.projection_dim
    return vision


def _tower_name(config: Any) -> str:
    return type(config).__name__.removesuffix("Config").removesuffix("Vision") + "VisionModel"


def default_pooling(config: Any) -> str:
    """Return the feature of a model that its authors probe."""
    import transformers

    projected = f"{_tower_name(config)}WithProjection"
    has_one = hasattr(config, "vision_config") and hasattr(transformers, projected)
    if has_one or projected in (config.architectures or ()):
        return "projection"
    return _PROBED.get(config.model_type, "pooler")


def _class_of(config: Any, pooling: str) -> Any:
    """Return the class that makes a model, or just the vision tower of a model of two."""
    import transformers

    tower = _tower_name(config)
    if pooling == "projection":
        found = getattr(transformers, f"{tower}WithProjection", None)
    elif hasattr(config, "vision_config"):
        found = getattr(transformers, tower, None)
    else:
        found = transformers.MODEL_MAPPING.get(type(config), None)
    if getattr(found, "main_input_name", None) != "pixel_values":
        raise ValueError(
            f"transformers has no vision model with pooling={pooling!r} for the model type "
            f"{config.model_type!r}. Take another pooling, {', '.join(POOLINGS[:-1])}, if it is "
            f"one; or wrap a net of your own by Backbone.from_module."
        )
    return found


def check_pooling(pooling: str) -> str:
    """Return the name of a feature, or raise ValueError."""
    pooling = {"map": "pooler"}.get(pooling, pooling)  # which it is for SigLIP
    if pooling not in POOLINGS:
        raise ValueError(
            f"pooling of a model of transformers must be one of {', '.join(POOLINGS)}; got "
            f"{pooling!r}."
        )
    return pooling


def adapt(spec: BackboneSpec, model_kwargs: Mapping[str, Any], pooling: str) -> BackboneSpec:
    """Return the record of a model with another feature.

    Raises
    ------
    ValueError
        If there is no such feature, or arguments are given.
    """
    if model_kwargs:
        raise ValueError(
            f"model_kwargs are for nets of timm, and {spec.name!r} is one of transformers. Make "
            f"the model yourself, and pass it to Backbone.from_transformers."
        )
    pooling = check_pooling(pooling)
    return replace(spec, global_pool=pooling, pooling=pooling)


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the vision model or tower, on the CPU."""
    import transformers

    folder = find_folder(spec)
    with _quiet(), own_rng():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = _class_of(config, spec.global_pool)
        if not pretrained:
            return PooledModel(_make(kind, config, spec.global_pool), spec.global_pool)
        path = find_weights(spec)
        if spec.checkpoint and spec.repository:  # a file of the user's own
            source: dict[str, Any] = {"state_dict": read_checkpoint(path).state_dict()}
        else:
            for shard in shards_of(path) if spec.repository else ():
                find_on_hub(spec.name, spec.repository, [Path(shard).name])
            is_safe = _SINGLE[0] in Path(path).name
            source = {"folder": folder, "use_safetensors": is_safe, "weights_only": True}
        net = load(kind, config, spec.global_pool, path, **source)
    return PooledModel(net, spec.global_pool)


def wrap(model: Any, pooling: str | None, processor: Any) -> tuple[PooledModel, dict[str, Any]]:
    """Copy a model that the user has loaded, or its vision tower, and look up its preparation."""
    place = ""
    config: Any = getattr(model, "config", None)
    if not isinstance(model, torch.nn.Module) or not hasattr(config, "model_type"):
        raise ValueError(
            f"model must be the name of one of transformers, a folder, or such a model itself; got "
            f"{type(model).__name__}. Other nets go by Backbone.from_module."
        )
    pooling = check_pooling(pooling) if pooling else default_pooling(config)
    if processor is None:
        try:
            place = config._name_or_path
            processor = read_processor(place)
        except Exception as error:  # transformers raises anything
            raise ValueError(
                f"The model's image processor is not found at {place!r}, where the model is from. "
                f"Pass it: processor=AutoImageProcessor.from_pretrained(...)."
            ) from error
    kind = _class_of(config, pooling)
    with _quiet(), own_rng():
        if type(model) is kind:
            net: Any = copy.deepcopy(model)
        else:
            state = {key: value.detach().clone() for key, value in model.state_dict().items()}
            net = load(kind, config, pooling, "the model given", state_dict=state)
    net.config._name_or_path = ""  # where it lay does not matter
    return PooledModel(net, pooling), preparation(getattr(processor, "image_processor", processor))


def _options(kind: Any, pooling: str) -> dict[str, Any]:
    """Leave out a pooler that is not asked for, and that many files have no weights of."""
    has_pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": pooling == "pooler"} if has_pooler else {}


def _make(kind: Any, config: Any, pooling: str) -> Any:
    return kind(_vision_config(config), **_options(kind, pooling))


def load(
    kind: Any, config: Any, pooling: str, where: str, folder: str | None = None, **source: Any
) -> Any:
    """Let transformers fill a model, all of it, from a folder or from a state dict."""
    try:
        net, told = kind.from_pretrained(
            folder,
            config=_vision_config(config),
            local_files_only=True,
            output_loading_info=True,
            **_options(kind, pooling),
            **source,
        )
        missing = [key for key in told["missing_keys"] if not key.endswith("mask_token")]
        if missing:
            raise ValueError(f"{len(missing)} tensors are missing, {', '.join(missing[:3])} first")
    except Exception as error:  # transformers raises anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"The weights in {where} cannot be read, or do not fit {kind.__name__} with "
            f"pooling={pooling!r}: {reason}. Another pooling may need less: {', '.join(POOLINGS)}."
        ) from error
    return net.float()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what it leaves out, and from drawing bars."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
