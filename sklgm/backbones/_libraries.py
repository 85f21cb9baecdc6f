"""From a name to its record, and from a record to the library that builds it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from sklgm.backbones import _moco_v3, _open_clip, _packages, _timm
from sklgm.backbones._checkpoints import file_digest
from sklgm.backbones._list import list_backbones
from sklgm.backbones._registry import ALIASES, REGISTRY
from sklgm.backbones._spec import BackboneSpec, unknown_name
from sklgm.backbones._weights import CONFIGS, find_on_hub

# Each has build(spec, image_size, pretrained) and transform(spec, image_size).
LIBRARIES: dict[str, ModuleType] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "moco_v3": _moco_v3,
    "package": _packages,
}
# These have describe(identifier, pretrained) and describe_folder(folder, name, weights) too.
_OPEN_ENDED: dict[str, ModuleType] = {"timm": _timm, "open_clip": _open_clip}


def find_spec(name: str, pretrained: bool) -> BackboneSpec:
    """Return the record of a name, written from the library's own configuration if need be."""
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
    if spec.name not in REGISTRY and ":" in spec.name and not spec.name.startswith("local-dir:"):
        spec = replace(spec, name=f"{spec.source}:{spec.architecture}")  # the tag is of others
    return replace(
        spec,
        name=f"{spec.name}@{digest[:12]}",
        checkpoint=file,
        digest=digest,
        repository="",
        licence="",
        reference="",
    )


def _from_hub(identifier: str) -> BackboneSpec:
    name = f"hf-hub:{identifier}"
    repository = identifier.partition("@")[0]
    if repository.count("/") != 1:
        raise ValueError(
            f"{name!r} is no Hugging Face repository; write 'hf-hub:<owner>/<name>', or "
            "'hf-hub:<owner>/<name>@<revision>'."
        )
    missing: OSError | None = None
    for library, filename in CONFIGS.items():
        try:
            folder = Path(find_on_hub(name, identifier, [filename])).parent
        except OSError as error:
            missing = error
            continue
        if library == "timm" and not _is_timm(folder / filename):
            continue
        # The commit, so that a net keeps its name only as long as it keeps its weights.
        pinned = f"{repository}@{folder.name}"
        spec: BackboneSpec = _OPEN_ENDED[library].describe_folder(
            str(folder), f"hf-hub:{pinned}", f"hf-hub:{pinned}"
        )
        reference = f"https://huggingface.co/{repository}"
        return replace(spec, repository=pinned, reference=reference)
    raise missing or ValueError(
        f"{name!r} is a repository of neither timm nor open_clip: its config.json has no "
        "'architecture', and it has no open_clip_config.json."
    )


def _from_folder(path: str) -> BackboneSpec:
    folder = Path(path).expanduser().absolute()
    if _is_timm(folder / CONFIGS["timm"]):
        library = "timm"
    elif (folder / CONFIGS["open_clip"]).is_file():
        library = "open_clip"
    else:
        raise FileNotFoundError(
            f"{folder} is no folder of timm or open_clip: it has neither a config.json with an "
            "'architecture' nor an open_clip_config.json. Weights in a single file go by "
            "'<name>@<path>', for instance 'timm:vit_base_patch16_224@weights.safetensors'."
        )
    weights = f"local-dir:{folder}"
    spec: BackboneSpec = _OPEN_ENDED[library].describe_folder(str(folder), weights, weights)
    for filename in spec.files:
        if (folder / filename).is_file():
            spec = with_checkpoint(spec, str(folder / filename))
            # Known by what it holds, wherever it lies: the net's description counts too.
            content = f"{file_digest(str(folder / CONFIGS[library]))} {spec.digest}"
            digest = hashlib.sha256(content.encode()).hexdigest()
            return replace(spec, name=f"local-dir:{folder.name}@{digest[:12]}")
    raise FileNotFoundError(f"{folder} holds none of the files {', '.join(spec.files)}.")


def _is_timm(config: str | Path) -> bool:
    """Return whether a ``config.json`` is one of timm's: other libraries have that name too."""
    try:
        return "architecture" in json.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
