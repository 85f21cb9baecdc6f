"""Nets of timm, with the weights of timm, of a hub repository, or of a file."""

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sklgm.backbones._checkpoints import loading, read_state_dict, warn_of_resizing
from sklgm.backbones._registry import TIMM_FILES
from sklgm.backbones._spec import Arguments, BackboneSpec, unknown_name
from sklgm.backbones._weights import find_folder, find_weights
from sklgm.utils.random import own_rng

# The pooling that timm does not have: two parts, one after the other.
_BOTH = "token+avg"


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
        patch_size=_patch_size(net, fixed),
        fixed_size=fixed,
        repository=repository,
        files=(filename,) if filename else TIMM_FILES,
        license=config.get("license") or "",
        reference=f"https://huggingface.co/{repository}" if repository else "",
    )


def _patch_size(net: Any, is_fixed: bool) -> int | None:
    """Return what image sizes must be multiples of, or None."""
    embedding = getattr(net, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    # A net that interpolates its position embedding as it runs cuts images into whole patches too.
    is_whole = is_fixed or getattr(net, "dynamic_img_size", False)
    if not is_whole or getattr(embedding, "dynamic_img_pad", False):
        return None
    return patch[-1] if isinstance(patch, tuple | list) else patch


def adapt(spec: BackboneSpec, pooling: str) -> BackboneSpec:
    """Return the record of a net made with the arguments in it, or pooled otherwise.

    A net that timm cannot make is a ValueError.
    """
    given = dict(spec.model_kwargs.values) if spec.model_kwargs else {}
    given.pop("num_classes", None)  # as recipes have it; there is never a classifier here
    asked = given.pop("global_pool", "")
    pooling = pooling or asked or spec.global_pool
    size = given.pop("img_size", 0)
    spec = replace(
        spec,
        image_size=int(size or spec.image_size),
        fixed_size=spec.fixed_size or bool(size),
        model_kwargs=Arguments(given) if given else None,
        global_pool=pooling,
        pooling=pooling or spec.pooling,
        n_features=None,
    )
    try:
        if {"pretrained", "checkpoint_path"} & given.keys():
            raise TypeError("weights are chosen by pretrained= and checkpoint= of the backbone")
        net = _pooled(_skeleton(_name(spec), **options(spec, spec.image_size)), pooling)
    except Exception as error:  # timm raises anything
        raise ValueError(
            f"timm cannot make {spec.architecture!r} with model_kwargs={given} and pooling="
            f"{pooling!r} ({type(error).__name__}: {error}). Vision transformers take pooling "
            f"'token', 'avg', '{_BOTH}', 'max' or 'map', convolutional nets 'avg' or 'max'."
        ) from error
    return replace(spec, patch_size=_patch_size(getattr(net, "net", net), spec.fixed_size))


def options(spec: BackboneSpec, image_size: int) -> dict[str, Any]:
    """Return what `timm.create_model` takes for a record beside the name."""
    found: dict[str, Any] = {"num_classes": 0}
    if spec.model_kwargs:
        found |= spec.model_kwargs.values
    if spec.global_pool:
        found["global_pool"] = "token" if spec.global_pool == _BOTH else spec.global_pool
    if spec.fixed_size:
        found["img_size"] = image_size
    return found


class _TokenAndAverage(torch.nn.Module):
    """A vision transformer's class token, and after it the mean of its patch tokens."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.n_prefix: int = net.num_prefix_tokens

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.net.forward_features(images)
        return torch.cat([tokens[:, 0], tokens[:, self.n_prefix :].mean(dim=1)], dim=1)


def _pooled(net: Any, pooling: str) -> torch.nn.Module:
    """Return a net that gives a row of features for each image, or raise ValueError.

    A folder or a repository may say that a net gives all of its tokens.
    """
    if getattr(net, "global_pool", None) == "":
        raise ValueError(
            f"The net returns all of its tokens. Choose a feature: pooling='token', 'avg' or "
            f"'{_BOTH}' of Backbone.from_name."
        )
    return _TokenAndAverage(net) if pooling == _BOTH else net


def _name(spec: BackboneSpec) -> str:
    """Return the name by which timm makes the net of a record."""
    folder = find_folder(spec)
    if folder:
        return f"local-dir:{folder}"
    tag = "" if spec.source == "package" else spec.weights
    return f"{spec.architecture}.{tag}" if tag else spec.architecture


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its classifier, on the CPU."""
    given = options(spec, image_size)
    net = _load(spec, image_size, given) if pretrained else create(_name(spec), **given)
    return _pooled(net, spec.global_pool)


def _find_file(spec: BackboneSpec) -> str:
    import timm
    from timm.models._hub import download_cached_file

    if spec.repository or spec.checkpoint:
        return find_weights(spec)
    # At a plain address. timm's own way falls back on a reading that runs code.
    config: Any = timm.get_pretrained_cfg(_name(spec))
    return download_cached_file(config.url)


def _load(spec: BackboneSpec, image_size: int, given: dict[str, Any]) -> torch.nn.Module:
    """Make a net with the tensors of a file, all of them but the classifier's.

    timm converts foreign names it knows and interpolates position embeddings.
    """
    name, path = _name(spec), _find_file(spec)
    expected = _skeleton(name, **given).state_dict()
    state = read_state_dict(path, expected)
    with loading(path, spec.architecture):
        if "fc_norm.weight" in expected.keys() - state.keys() and "norm.weight" in state:
            # Trained to pool what is normed already, where timm would norm what is pooled.
            given |= {"fc_norm": False}
            expected = _skeleton(name, **given).state_dict()
        classifier = _skeleton(name, **given | {"num_classes": 1}).state_dict().keys() - expected
        heads = {key.partition(".")[0] for key in classifier}
        kept = {
            key: value
            for key, value in state.items()
            if key in expected or key.partition(".")[0] not in heads
        }
        # With a classifier of as many classes as the file's, none, timm loads strictly.
        overlay = {"state_dict": kept, "source": "", "custom_load": False}
        overlay |= {"num_classes": 0, "label_offset": 0}
        _check_patches(kept, expected)
        net = create(name, pretrained=True, pretrained_cfg_overlay=overlay, **given)
    warn_of_resizing(spec, image_size, state, expected)
    return net


def create(name: str, **options: Any) -> Any:
    """Call `timm.create_model`, which draws from the global generator, and leave that alone."""
    import timm

    with own_rng():
        return timm.create_model(name, **options)


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return what timm does with an image at test time before it is converted to a tensor."""
    from timm.data.transforms_factory import create_transform

    pipeline = create_transform(
        (3, image_size, image_size),
        interpolation=spec.interpolation,
        mean=spec.mean,  # the colour of borders
        crop_pct=spec.crop_pct,
        crop_mode=spec.resize,
    )
    *resize, _to_tensor, _normalise = pipeline.transforms
    return resize


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
