"""How prototypes were made: facts about their estimator, as JSON holds them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sklgm._version import __version__
from sklgm.backbones import Backbone
from sklgm.backbones._names import is_here, with_options
from sklgm.backbones._several import is_several

# Parameters that say where and how a fit ran; they do not shape the prototypes.
_OF_THE_MACHINE = ("memory", "distributed", "n_jobs", "device", "verbose")
# How the images of a net are prepared, in the names of `BackboneSpec`.
_PREPROCESSING = ("mean", "std", "crop_pct", "interpolation", "resize")


def describe(estimator: Any, data: dict[str, Any] | None) -> dict[str, Any]:
    """Return the provenance of prototypes, as `PrototypeSet.from_estimator` documents it."""
    parameters = estimator.get_params(deep=False)
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
    """Return a net that was given as an object, a file or a folder: others can be looked up."""
    if not isinstance(backbone, str):
        return backbone if isinstance(backbone, Backbone) else None
    with contextlib.suppress(OSError, ValueError):  # it may be gone since the fit
        if is_here(backbone):
            return Backbone.from_name(backbone)
    return None


def recorded_net(provenance: Mapping[str, Any], net: Backbone) -> dict[str, Any]:
    """Return what provenance has of a net with weights from a file; nothing where it has none.

    Parameters
    ----------
    provenance : mapping of str to Any
        Of prototypes; others may have written it.
    net : Backbone
        A net to look at them with. A net of the same architecture will do, where none has the same
        weights.

    Returns
    -------
    dict of str to Any
        ``name``, ``image_size``, and how images were prepared.
    """
    nets = provenance.get("preprocessing")
    found = [facts for facts in nets if isinstance(facts, dict)] if isinstance(nets, list) else []
    for kind in (str, _architecture):
        for facts in found:
            if "#" in net.name and kind(facts.get("name")) == kind(net.name):
                return facts
    return {}


def _architecture(name: Any) -> str:
    return str(name).partition("#")[0]


def difference(facts: Mapping[str, Any], net: Backbone, name: Any) -> str:
    """Return sentences on how a net differs from the one that prototypes were made on.

    Parameters
    ----------
    facts : mapping of str to Any
        Of :func:`recorded_net`.
    net : Backbone
        The net to look at the prototypes with.
    name : Any
        What the user calls it, if that is a string.

    Returns
    -------
    str
        Nothing where the two are alike, or nothing is known.
    """
    now = {"name": net.name, **preparation(net)} if facts else {}
    changed = [key for key in now if facts.get(key) != now[key]]
    if not changed:
        return ""
    then, here = (
        ", ".join(f"{key} {values.get(key)}" for key in changed) for values in (facts, now)
    )
    text = f"The prototypes were made on a net with {then}; this one has {here}."
    if "name" in changed:
        text += " What follows the # tells files of weights apart by their content."
    if changed != ["name"]:
        called = with_options(name if isinstance(name, str) else "<name>", facts)
        text += f" With the same preparation its name is {called!r}."
    return text


def preparation(net: Backbone) -> dict[str, Any]:
    """Return how the images of a net are prepared, as JSON holds it."""
    return {name: _as_json(getattr(net.spec, name)) for name in _PREPROCESSING}


def is_name(backbone: Any) -> bool:
    """Return whether what provenance says of a backbone is a name: of objects it has the repr."""
    return isinstance(backbone, str) and backbone != "" and not backbone.startswith("Backbone(")


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
