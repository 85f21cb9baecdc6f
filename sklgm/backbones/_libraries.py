"""From a name to its record, and from a record to the library that builds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sklgm.backbones import _moco_v3, _open_clip, _packages, _timm
from sklgm.backbones._checkpoints import content_digest, file_digest
from sklgm.backbones._checks import check_size
from sklgm.backbones._list import list_backbones
from sklgm.backbones._registry import ALIASES, REGISTRY
from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import (
    CONFIGS,
    NotInRepositoryError,
    find_in_cache,
    find_on_hub,
    own_files,
)

# Each has build(spec, image_size, pretrained) and transform(spec, image_size).
LIBRARIES: dict[str, ModuleType] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "moco_v3": _moco_v3,
    "package": _packages,
}
# These have describe(identifier, pretrained) and describe_folder(folder) too.
_OPEN_ENDED: dict[str, ModuleType] = {"timm": _timm, "open_clip": _open_clip}
# What is in the configuration of each, and not in that of others.
_DESCRIBES = {"timm": "architecture", "open_clip": "model_cfg"}
# In a configuration: pixels a side, and words, channels or layers.
_LARGEST_IMAGE = 2**13
_LARGEST_NUMBER = 2**20


def find_spec(name: str, pretrained: bool) -> BackboneSpec:
    """Return the record of a name, written from the library's own configuration if need be."""
    if not isinstance(name, str):
        raise ValueError(f"the name of a backbone must be a string, got {name!r}.")
    canonical = ALIASES.get(name, name)
    if canonical in REGISTRY:
        return REGISTRY[canonical]
    kind, colon, identifier = canonical.partition(":")
    if colon and kind == "hf-hub":
        return _from_hub(identifier)
    if colon and kind == "local-dir":
        return _from_folder(identifier)
    base, at, path = canonical.partition("@")
    if at:
        return with_checkpoint(find_spec(base, pretrained=False), path)
    if colon and kind in _OPEN_ENDED:
        spec: BackboneSpec = _OPEN_ENDED[kind].describe(identifier, pretrained)
        return spec
    ways = (
        f"Known names: {', '.join(list_backbones())}; any net of timm as 'timm:<name>'; any of "
        "open_clip as 'open_clip:<architecture>/<pretrained>'; a Hugging Face repository of "
        "either as 'hf-hub:<owner>/<name>', a folder as 'local-dir:<path>'; weights in a file of "
        "your own as '<name>@<path>'."
    )
    raise unknown_name(name, list_backbones(), ways)


def with_checkpoint(spec: BackboneSpec, path: str) -> BackboneSpec:
    """Return a record for other weights, known by their content wherever the file lies."""
    file = str(Path(path).expanduser().absolute())
    digest = file_digest(file)
    base = spec.name if spec.name in REGISTRY else f"{spec.source}:{spec.architecture}"
    return replace(
        spec,
        name=f"{base}#{digest[:12]}",
        # A package is weights alone; the nets are timm's.
        source="timm" if spec.source == "package" else spec.source,
        weights="",
        # A repository may describe the net all the same.
        repository=spec.repository if spec.config else "",
        checkpoint=file,
        digest=digest,
        license="",
        reference="",
    )


def _from_hub(identifier: str) -> BackboneSpec:
    name = f"hf-hub:{identifier}"
    repository, _, revision = identifier.partition("@")
    if repository.count("/") != 1 or Path(revision).is_file():
        raise ValueError(
            f"{name!r} is no Hugging Face repository; write 'hf-hub:<owner>/<name>', or "
            "'hf-hub:<owner>/<name>@<revision>'. Weights in a file go by "
            "Backbone.from_name(name, checkpoint=path)."
        )
    library, folder = _describing(name, identifier)
    spec = _describe_folder(library, folder)
    # The commit, so that a net keeps its name only as long as it keeps its weights.
    pinned = f"{repository}@{folder.name}"
    return replace(
        spec,
        name=f"hf-hub:{pinned}",
        config=CONFIGS[library],
        repository=pinned,
        reference=f"https://huggingface.co/{repository}",
    )


def _describing(name: str, identifier: str) -> tuple[str, Path]:
    """Return which library a hub repository is of, and the folder with its configuration."""
    for library, filename in CONFIGS.items():
        path = find_in_cache(identifier, [filename])
        if path is not None and _is_of(library, path):
            return library, Path(path).parent
    missing: OSError | None = None
    for library, filename in CONFIGS.items():
        try:
            path = find_on_hub(name, identifier, [filename])
        except NotInRepositoryError as error:
            missing = error
            continue
        if _is_of(library, path):
            return library, Path(path).parent
    raise missing or ValueError(f"{name!r} is a repository of neither timm nor open_clip.")


def _from_folder(path: str) -> BackboneSpec:
    folder = Path(path).expanduser().absolute()
    for library, filename in CONFIGS.items():
        if _is_of(library, folder / filename):
            break
    else:
        raise FileNotFoundError(
            f"{folder} is no folder of timm or open_clip: it has neither a config.json with an "
            "'architecture' nor an open_clip_config.json. Weights in a single file go by "
            "'<name>@<path>', for instance 'timm:vit_base_patch16_224@weights.safetensors'."
        )
    spec = _describe_folder(library, folder)
    for weights in spec.files:
        if (folder / weights).is_file():
            spec = replace(with_checkpoint(spec, str(folder / weights)), config=filename)
            # The same weights under another configuration are another net.
            digest = content_digest(own_files(spec))
            name = f"local-dir:{spec.architecture}#{digest[:12]}"
            return replace(spec, name=name, digest=digest)
    raise FileNotFoundError(f"{folder} holds none of the files {', '.join(spec.files)}.")


def _is_of(library: str, config: str | Path) -> bool:
    """Return whether a file describes a net of a library.

    Others than timm have a ``config.json`` too.
    """
    if not Path(config).is_file():  # a pipe would be waited for
        return False
    try:
        content = json.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and _DESCRIBES[library] in content


def _describe_folder(library: str, folder: Path) -> BackboneSpec:
    """Write the record of a folder that somebody else may have made."""
    path = folder / CONFIGS[library]
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        _check_numbers(content.get("model_args"), content.get("model_cfg"))
        spec: BackboneSpec = _OPEN_ENDED[library].describe_folder(str(folder))
        if check_size(spec.image_size) > _LARGEST_IMAGE:
            raise ValueError(f"images of {spec.image_size} pixels, at most {_LARGEST_IMAGE} go")
    except Exception as error:  # the libraries raise anything
        reason = str(error).rstrip(".") or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it lacks {error}"
        raise ValueError(
            f"{path} describes no net that can be made: {reason}. Take a folder that {library} "
            f"saved."
        ) from error
    return spec


def _check_numbers(*values: Any) -> None:
    """Raise for numbers of layers, channels and the like that no net has."""
    for value in values:
        if isinstance(value, dict):
            _check_numbers(*value.values())
        elif isinstance(value, list):
            _check_numbers(*value)
        elif isinstance(value, int | float) and abs(value) > _LARGEST_NUMBER:
            raise ValueError(f"a number in it is {value}, and none may exceed {_LARGEST_NUMBER}")
