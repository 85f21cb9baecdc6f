"""How prototypes were made: facts about their estimator, as JSON holds them."""

import contextlib
import importlib.metadata
import json
import platform
import re
from typing import Any

import numpy as np

from sklgm._version import __version__
from sklgm.backbones import Backbone
from sklgm.backbones._checks import PREPARATION
from sklgm.backbones._names import is_here, place_of, split_options
from sklgm.backbones._several import is_several

# Parameters that say where and how a fit ran; they do not shape the prototypes.
_OF_THE_MACHINE = ("memory", "distributed", "n_jobs", "device", "verbose")
# How the images of a net are prepared, in the names of `BackboneSpec`.
_PREPROCESSING = (*PREPARATION, "resize")


def describe(estimator: Any, data: dict[str, Any] | None) -> dict[str, Any]:
    """Return the provenance of prototypes, as `PrototypeSet.from_estimator` documents it."""
    parameters = estimator.get_params(deep=False)
    for name in ("backbone", "image_size"):  # some have them from the estimator in them
        if hasattr(estimator, name):
            parameters[name] = getattr(estimator, name)
    for name in _OF_THE_MACHINE:
        parameters.pop(name, None)
    provenance: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "parameters": {name: _as_json(value) for name, value in parameters.items()},
        "versions": _versions(),
    }
    backbone: Any = getattr(estimator, "backbone", None)
    nets = map(_own_net, backbone if is_several(backbone) else [backbone])
    if own := [net for net in nets if net is not None]:
        size = getattr(estimator, "image_size", None)
        provenance["preprocessing"] = [_preprocessing(net, size) for net in own]
    if hasattr(estimator, "n_iter_"):
        provenance["n_iter"] = _as_json(estimator.n_iter_)
    if data is not None:
        provenance["data"] = data
    return provenance


def _own_net(backbone: Any) -> Backbone | None:
    """Return a net of an object, a file, a folder or a name with options: others are looked up."""
    if not isinstance(backbone, str):
        return backbone if isinstance(backbone, Backbone) else None
    with contextlib.suppress(OSError, ValueError):  # it may be gone since the fit
        if is_here(backbone) or (place_of(backbone) is None and split_options(backbone)[1]):
            return Backbone.from_name(backbone)
    return None


def preparation(net: Backbone) -> dict[str, Any]:
    """Return how the images of a net are prepared, as JSON holds it."""
    return {name: _as_json(getattr(net.spec, name)) for name in _PREPROCESSING}


def _preprocessing(net: Backbone, image_size: int | None) -> dict[str, Any]:
    size = _as_json(image_size or net.image_size)
    return {"name": net.name, "image_size": size, **preparation(net)}


def _as_json(value: Any) -> Any:
    """Return `value` if JSON can hold it, else its repr without memory addresses.

    Items of a list are treated one by one.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))


def _versions() -> dict[str, str]:
    versions = {"sklgm": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "open_clip_torch", "transformers", "scikit-learn", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
