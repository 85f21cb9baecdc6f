"""From a name to its record, and from a record to the library that builds it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from sklgm.backbones import _modules, _open_clip, _packages, _timm, _transformers
from sklgm.backbones._checkpoints import content_digest
from sklgm.backbones._checks import brief, check_size
from sklgm.backbones._folding import fold_batch_norms
from sklgm.backbones._list import list_backbones
from sklgm.backbones._registry import ALIASES, REGISTRY
from sklgm.backbones._spec import Arguments, BackboneSpec, unknown_name
from sklgm.backbones._weights import CONFIGS, find_on_hub, own_files
from sklgm.utils.extras import needs_extra

# Each has transform(spec, image_size), which lists what is done with a PIL image at test time, and
# all but the user's own modules have build(spec, image_size, pretrained) and adapt(spec, pooling).
# Those of `CONFIGS` also have describe_folder(folder), timm and open_clip describe(identifier,
# pretrained).
LIBRARIES: dict[str, ModuleType] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "transformers": _transformers,
    "package": _packages,
    "module": _modules,
}
# The key that tells the configuration of a library from that of another.
_DESCRIBES = {"timm": "architecture", "open_clip": "model_cfg"}


def find_spec(name: str, pretrained: bool, ending: str = "") -> BackboneSpec:
    """Return the record of a name, written from the library's own configuration if need be.

    ``ending`` is what followed in the name and names that are suggested are to have, too.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a backbone must be a string, got {brief(name)}.")
    canonical = ALIASES.get(name, name)
    if canonical in REGISTRY:
        return REGISTRY[canonical]
    kind, _, identifier = canonical.partition(":")
    if kind == "transformers":
        with needs_extra("transformers", "A model of transformers"):
            import_module("transformers")
        is_folder = Path(identifier).expanduser().is_dir()
        return (_from_folder if is_folder else _from_hub)(identifier, kind)
    if kind in ("hf-hub", "hf_hub"):  # timm takes both
        return _from_hub(identifier)
    if kind == "local-dir":
        return _from_folder(identifier)
    base, at, path = canonical.partition("@")
    if at:
        return with_checkpoint(find_spec(base, False, f"@{path}"), path)
    if kind in _DESCRIBES:
        return LIBRARIES[kind].describe(identifier, pretrained)
    ways = (
        f"Known names: {', '.join(list_backbones())}; and 'timm:<name>', "
        "'open_clip:<architecture>/<pretrained>', 'transformers:<owner>/<name>', "
        "'hf-hub:<owner>/<name>', 'local-dir:<path>', or '<name>@<path>' for weights in a file of "
        "your own."
    )
    if os.path.isdir(name):  # noqa: PTH112, Path raises for names that are too long
        ways = (
            f"The folder goes by 'local-dir:{name}' if timm or open_clip wrote it, and by "
            f"'transformers:{name}' if transformers did."
        )
    elif os.path.isfile(name):  # noqa: PTH113
        ways = f"The file goes with the name of its net, for instance 'timm:resnet50@{name}'."
    of_timm = [f"timm:{name}"] if import_module("timm").is_model(name) else []
    raise unknown_name(name, [*list_backbones(), *of_timm], ways, ending)


def with_options(
    spec: BackboneSpec, model_kwargs: Mapping[str, Any] | None, pooling: str | None
) -> BackboneSpec:
    """Return the record of a net made with other arguments or pooled otherwise, under its name."""
    if model_kwargs and spec.source not in ("timm", "package"):
        raise ValueError(
            f"model_kwargs are for nets of timm, and {spec.name!r} is one of {spec.source}. Make "
            f"the net yourself, and pass it to Backbone.from_module."
        )
    given = replace(spec, model_kwargs=Arguments(model_kwargs) if model_kwargs else None)
    adapted = LIBRARIES[spec.source].adapt(given, pooling or "")
    name = spec.name
    if adapted.model_kwargs is not None:
        name += f"#{adapted.model_kwargs.digest[:12]}"
    if adapted.global_pool != spec.global_pool:
        name += f"?pooling={adapted.global_pool}"
    return replace(adapted, name=name)


def load_net(
    spec: BackboneSpec, image_size: int, pretrained: bool, device: torch.device
) -> tuple[torch.nn.Module, torch.memory_format]:
    """Return the frozen net of a record, and how its pixels are best laid out in memory."""
    net = LIBRARIES[spec.source].build(spec, image_size, pretrained)
    net = net.eval().requires_grad_(False)
    if pretrained:
        net = fold_batch_norms(net, image_size)
    # Channels last is 1.5 times as fast for conv nets.
    n_convs = sum(isinstance(part, torch.nn.Conv2d) for part in net.modules())
    is_conv = n_convs > 1 and device.type != "mps"
    layout = torch.channels_last if is_conv else torch.contiguous_format
    return net.to(device).to(memory_format=layout), layout


def with_checkpoint(spec: BackboneSpec, path: str) -> BackboneSpec:
    """Return a record for other weights, known by their content wherever the file lies."""
    file = str(Path(path).expanduser().absolute())
    digest = content_digest(file)
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


def _from_hub(identifier: str, library: str = "") -> BackboneSpec:
    kind = library or "hf-hub"
    name = f"{kind}:{identifier}"
    repository, _, revision = identifier.partition("@")
    if repository.count("/") != 1 or identifier[0] in "./~" or Path(revision).is_file():
        raise ValueError(
            f"{name!r} is no Hugging Face repository; write '{kind}:<owner>/<name>' or "
            f"'{kind}:<owner>/<name>@<revision>'. A file goes by from_name(name, checkpoint=path)."
        )
    # timm's file or open_clip's, or the latter where the first belongs to a third library.
    filenames = [CONFIGS[library]] if library else [CONFIGS[known] for known in _DESCRIBES]
    folder = Path(find_on_hub(name, identifier, filenames)).parent
    if not library and _library_of(folder) is None:
        folder = Path(find_on_hub(name, identifier, filenames[1:])).parent
    library = library or _library_of(folder) or "open_clip"
    # The commit, so that a net keeps its name only as long as it keeps its weights.
    pinned = f"{repository}@{folder.name}"
    if library == "transformers":
        find_on_hub(name, pinned, _transformers.PROCESSORS)
    return replace(
        _describe_folder(library, folder),
        name=f"{kind}:{pinned}",
        config=CONFIGS[library],
        repository=pinned,
        reference=f"https://huggingface.co/{repository}",
    )


def _from_folder(path: str, library: str | None = None) -> BackboneSpec:
    kind, folder = library or "local-dir", Path(path).expanduser().absolute()
    library = library or _library_of(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    if library is None:
        raise FileNotFoundError(
            f"{folder} is no folder of timm or open_clip: it has neither a config.json with an "
            "'architecture' nor an open_clip_config.json. One of transformers goes by "
            "'transformers:<path>', and weights in a single file by '<name>@<path>', for instance "
            "'timm:vit_base_patch16_224@weights.safetensors'."
        )
    spec = _describe_folder(library, folder)
    weights = [folder / name for name in spec.files if (folder / name).is_file()]
    if not weights:
        raise FileNotFoundError(f"{folder} holds none of the files {', '.join(spec.files)}.")
    spec = replace(with_checkpoint(spec, str(weights[0])), config=CONFIGS[library])
    # The same weights under another configuration are another net.
    digest = content_digest(*own_files(spec))
    return replace(spec, name=f"{kind}:{spec.architecture}#{digest[:12]}", digest=digest)


def _library_of(folder: Path) -> str | None:
    """Return which library describes a net in a folder; others have a ``config.json`` too."""
    for library, word in _DESCRIBES.items():
        file = folder / CONFIGS[library]
        with suppress(OSError, ValueError, TypeError, RecursionError):  # of what is no such file
            if file.is_file() and word in dict(json.loads(file.read_text(encoding="utf-8"))):
                return library
    return None


def _describe_folder(library: str, folder: Path) -> BackboneSpec:
    """Write the record of a folder that somebody else may have made."""
    path = folder / CONFIGS[library]
    try:
        spec = LIBRARIES[library].describe_folder(str(folder))
        check_size(spec.image_size)
    except Exception as error:  # the libraries raise anything
        raise ValueError(
            f"{path} describes no net that {library} can make ({type(error).__name__}: {error})."
        ) from error
    return spec


@contextmanager
def naming_size(spec: BackboneSpec, size: int) -> Iterator[None]:
    """Name the image size in the error of a net that fails at another size than its own."""
    try:
        yield
    except (AssertionError, RuntimeError, TypeError) as error:
        # A lack of memory is a RuntimeError, too, and not about the size.
        if size == spec.image_size or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"Backbone {spec.name!r} does not take image_size={size} ({error}). Its own size is "
            f"{spec.image_size}."
        ) from error
