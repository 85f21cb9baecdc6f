"""Prototypes on the Hugging Face Hub: a dataset repository that holds a saved folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sklgm.prototypes.folder import OF_LOADING, PICTURES

# One slash is what is left of the two where a path was made of the name.
_ADDRESS = re.compile(r"hf:/{1,2}(?:datasets/)?((?!datasets/)[^/@]+/[^/@]+)(?:@(.+))?")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str | None,
) -> Any:
    """Upload a saved folder; see `PrototypeSet.push_to_hub`."""
    from huggingface_hub import HfApi

    with _in_words(f"{repo_id!r} could not be written"):
        api = HfApi(token=token)
        repo = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        where: dict[str, Any] = {"repo_id": repo.repo_id, "repo_type": "dataset"}
        if revision is not None:
            api.create_branch(**where, branch=revision, exist_ok=True)
        there = set(api.list_repo_files(**where, revision=revision))
        if OF_LOADING[0] not in there and there - {".gitattributes", "README.md"}:
            raise ValueError(
                f"{repo.repo_id!r} holds something else than prototypes: it has no "
                f"{OF_LOADING[0]}. Choose another name."
            )
        return api.upload_folder(
            **where,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or "Upload prototypes with sklgm",
            delete_patterns=f"{PICTURES}/*",  # those of a set that was there
        )


def local_folder(directory: str | Path) -> Path:
    """Return a folder to read prototypes of, downloaded if its name is one of the Hub.

    Parameters
    ----------
    directory : str or Path
        A folder, or "hf://datasets/OWNER/NAME", perhaps with "@REVISION" behind it.

    Returns
    -------
    Path
        The folder itself, or one in the cache with what is needed to load the prototypes.

    Raises
    ------
    ValueError
        If the name has another form, or there are no prototypes under it.
    OSError
        If there is no such repository, or it is neither in the cache nor can be reached.
    """
    name = Path(directory).as_posix()
    if not name.startswith("hf:/"):
        return Path(directory)
    found = _ADDRESS.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{str(directory)!r} is no name of the Hugging Face Hub. Names are "
            f"'hf://datasets/OWNER/NAME' and 'hf://datasets/OWNER/NAME@REVISION'."
        )
    from huggingface_hub import snapshot_download

    repo_id, revision = found.groups()
    with _in_words(f"The prototypes {repo_id!r} could not be loaded"):
        folder = snapshot_download(
            repo_id, repo_type="dataset", revision=revision, allow_patterns=list(OF_LOADING)
        )
    if not Path(folder, OF_LOADING[0]).is_file():
        raise ValueError(
            f"The dataset repository {repo_id!r} holds no saved prototypes: it has no "
            f"{OF_LOADING[0]}."
        )
    return Path(folder)


@contextmanager
def _in_words(failure: str) -> Iterator[None]:
    """Raise what the clients of the hub raise as an OSError of one sentence."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

    try:
        yield
    except (OSError, HTTPError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # of the file system, and not of the hub
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403) or isinstance(error, LocalTokenNotFoundError):
            reason = "you are not logged in, or may not. Run huggingface_hub.login() once"
        elif status == 404:
            reason = "there is no such repository or revision. Look at its name on the hub"
        elif status is None:
            reason = f"{constants.ENDPOINT} cannot be reached. Look at the network and HF_ENDPOINT"
        else:
            reason = str(error).strip().splitlines()[0]
        raise OSError(f"{failure}: {reason}.") from error
