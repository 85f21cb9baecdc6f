"""Vision models of Hugging Face's transformers, of a repository, of a folder, or as objects."""

import contextlib
import copy
import inspect
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones import _image_processors
from sklgm.backbones._checkpoints import read_state_dict
from sklgm.backbones._image_processors import preparation, read_processor
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import find_folder, find_on_hub, find_weights, shards_of
from sklgm.utils.random import own_rng

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_FILES = (_SINGLE[0], f"{_SINGLE[0]}.index.json", _SINGLE[1], f"{_SINGLE[1]}.index.json")

POOLINGS = ("token", "avg", "token+avg", "pooler", "projection")
_OUTPUTS = {"pooler": "pooler_output", "projection": "image_embeds"}
# The stack that a tensor belongs to, and its layer there.
_LAYER = re.compile(r"(.+?\.)\d+\.")
_QUIET = threading.Lock()
# What the authors of a model probe, where it is not what its pooler returns.
_PROBED = dict.fromkeys(
    ("vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers", "dinov3_vit"), "token"
) | {"ijepa": "avg"}
# What the tokens before those of the patches are made from.
_PREFIXES = ("cls_token", "class_embedding", "distillation_token", "register_tokens")

transform = _image_processors.transform


class PooledModel(torch.nn.Module):
    """A vision model of transformers that returns one of its features, of `POOLINGS`."""

    def __init__(self, net: Any, pooling: str) -> None:
        super().__init__()
        self.net = net
        self.pooling = pooling
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(net.forward).parameters
        self.n_prefix = sum(
            part[..., 0].numel()
            for name, part in net.named_parameters()
            if name.endswith(_PREFIXES) and "embeddings." in name
        )
        if "token" in pooling and not self.n_prefix:
            raise ValueError(
                f"{type(net).__name__} has no class token. Take pooling='pooler' or 'avg'."
            )

    def forward(self, images: Tensor) -> Tensor:
        options: dict[str, Any] = {"return_dict": True}
        if self.interpolates:
            options["interpolate_pos_encoding"] = True
        found = self.net(pixel_values=images, **options)
        if self.pooling in _OUTPUTS:
            features = getattr(found, _OUTPUTS[self.pooling], None)
            if features is None:
                raise ValueError(
                    f"{type(self.net).__name__} has no feature {self.pooling!r}. Take another "
                    f"pooling: {', '.join(POOLINGS[:-1])}."
                )
            return features.flatten(1)  # ConvNets keep two dimensions of length 1
        tokens = found.last_hidden_state
        if tokens.ndim == 4:  # a map of features
            tokens = tokens.flatten(2).transpose(1, 2)
        token, mean = tokens[:, 0], tokens[:, self.n_prefix :].mean(dim=1)
        both = {"token": [token], "avg": [mean], "token+avg": [token, mean]}
        return torch.cat(both[self.pooling], dim=1)


def describe_folder(folder: str) -> BackboneSpec:
    """Write the record of a folder that `save_pretrained` wrote; no code in it is run."""
    import transformers

    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            prepared = preparation(read_processor(folder))
    except Exception as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            "it needs code of its own to be run, which sklgm never does. Load it yourself, and "
            "wrap it by Backbone.from_module"
        ) from error
    pooling = default_pooling(config)
    architecture = _class_of(config, pooling).__name__
    patch = getattr(_vision_config(config), "patch_size", None)
    # What does not divide a model's own size cuts off the rest.
    is_whole = isinstance(patch, int) and prepared["image_size"] % patch == 0
    return BackboneSpec(
        name=f"transformers:{architecture}",
        source="transformers",
        architecture=architecture,
        weights="",
        pooling=pooling,
        global_pool=pooling,
        patch_size=patch if is_whole else None,
        files=_FILES,
        **prepared,
    )


def _vision_config(config: Any) -> Any:
    """Return a copy of the configuration of a model's vision tower, or of the model itself."""
    import transformers

    if config.model_type == "vit_mae":  # a ViT, but for what it masks while it is trained
        return transformers.ViTConfig.from_dict(config.to_dict())
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
        found = transformers.MODEL_MAPPING.get(type(_vision_config(config)), None)
    if getattr(found, "main_input_name", None) != "pixel_values":
        raise ValueError(
            f"transformers has no vision model with pooling={pooling!r} for the model type "
            f"{config.model_type!r}. Take another pooling, {', '.join(POOLINGS[:-1])}, if it is "
            f"one; or wrap a net of your own by Backbone.from_module."
        )
    return found


def adapt(spec: BackboneSpec, pooling: str) -> BackboneSpec:
    """Return the record of a model with another feature."""
    return replace(spec, global_pool=_check_pooling(pooling), pooling=pooling)


def _check_pooling(pooling: str) -> str:
    if pooling not in POOLINGS:
        raise ValueError(
            f"pooling of a model of transformers must be one of {', '.join(POOLINGS)}; got "
            f"{pooling!r}."
        )
    return pooling


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the vision model or tower, on the CPU."""
    import transformers

    folder, pooling = find_folder(spec), spec.global_pool
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind = _class_of(config, pooling)
    if pretrained:
        path = find_weights(spec)
        if spec.checkpoint and spec.repository:  # a file of the user's own
            state = read_state_dict(path)
            return PooledModel(_load(kind, config, pooling, path, state_dict=state), pooling)
        for shard in shards_of(path) if spec.repository else ():
            find_on_hub(spec.name, spec.repository, [Path(shard).name])
        is_safe = _SINGLE[0] in Path(path).name
        net = _load(kind, config, pooling, path, folder, use_safetensors=is_safe)
        return PooledModel(net, pooling)
    with own_rng():
        return PooledModel(kind(_vision_config(config), **_options(kind, pooling)), pooling)


def wrap(model: Any, pooling: str | None, processor: Any) -> tuple[PooledModel, dict[str, Any]]:
    """Copy a model that the user has loaded, or its vision tower, and look up its preparation."""
    config: Any = getattr(model, "config", None)
    if not isinstance(model, torch.nn.Module) or not hasattr(config, "model_type"):
        raise ValueError(
            f"model must be the name of one of transformers, a folder, or such a model itself; got "
            f"{type(model).__name__}. Other nets go by Backbone.from_module."
        )
    pooling = _check_pooling(pooling) if pooling else default_pooling(config)
    if processor is None:
        place = getattr(config, "_name_or_path", "")
        try:
            processor = read_processor(place)
        except Exception as error:  # transformers raises anything
            raise ValueError(
                f"The model's image processor is not found at {place!r}, where the model is from. "
                f"Pass it: processor=AutoImageProcessor.from_pretrained(...)."
            ) from error
    kind = _class_of(config, pooling)
    if type(model) is kind:
        net: Any = copy.deepcopy(model)
    else:
        net = _load(kind, config, pooling, "the model given", state_dict=model.state_dict())
    net.config._name_or_path = ""  # where it lay does not matter
    return PooledModel(net, pooling), preparation(getattr(processor, "image_processor", processor))


def _options(kind: Any, pooling: str) -> dict[str, Any]:
    """Leave out a pooler that is not asked for, and that many files have no weights of."""
    has_pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": pooling == "pooler"} if has_pooler else {}


def _load(
    kind: Any, config: Any, pooling: str, where: str, folder: str | None = None, **source: Any
) -> Any:
    """Let transformers fill a model, all of it, from a folder or from a state dict."""
    try:
        with _quiet():
            net, told = kind.from_pretrained(
                folder,
                config=_vision_config(config),
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
                **_options(kind, pooling),
                **source,
            )
        missing = [key for key in told["missing_keys"] if not key.endswith("mask_token")]
        if missing:
            raise ValueError(f"{len(missing)} tensors are missing, {', '.join(missing[:3])} first")
        names = [key.removeprefix(f"{kind.base_model_prefix}.") for key in told["unexpected_keys"]]
        _refuse_more_layers(net, names)
    except Exception as error:  # transformers raises anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"The weights in {where} cannot be read, or do not fit {kind.__name__} with "
            f"pooling={pooling!r}: {reason}. Another pooling may need less: {', '.join(POOLINGS)}."
        ) from error
    return net.float()


def _refuse_more_layers(net: torch.nn.Module, left_out: Iterable[str]) -> None:
    """Raise ValueError if what a model left out of a file are further layers, and no heads."""
    layers = [found for key in net.state_dict() if (found := _LAYER.match(key))]
    stacks, ours = {layer[1] for layer in layers}, {layer[0] for layer in layers}
    for found in map(_LAYER.match, left_out):
        if found and found[1] in stacks and found[0] not in ours:
            raise ValueError(f"the file has more layers than the model, {found[0]}* for one")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what it leaves out, and from drawing bars."""
    from transformers.utils import logging

    with _QUIET:  # what it sets is the whole process's
        level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if has_bars:
                logging.enable_progress_bar()
