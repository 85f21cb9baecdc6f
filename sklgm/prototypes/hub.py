"""Prototypes on the Hugging Face Hub: a dataset repository that holds a saved folder."""

import re
from pathlib import Path
from typing import Any

from sklgm.prototypes.folder import CARD, OF_LOADING, PICTURES

# One slash is what is left of the two where a path was made of the name.
_ADDRESS = re.compile(r"hf:/{1,2}(?:datasets/)?((?!datasets/)[^/@]+/[^/@]+)(?:@(.+))?")


def push_folder(
    folder: str,
    repo_id: str,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str | None,
) -> Any:
    """Upload a saved folder; see `PrototypeSet.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    where: dict[str, Any] = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    if revision is not None:
        api.create_branch(**where, branch=revision, exist_ok=True)
    there = set(api.list_repo_files(**where, revision=revision))
    if CARD not in there and there - {".gitattributes", "README.md"}:
        raise ValueError(
            f"{repo.repo_id!r} holds something else than prototypes: it has no {CARD}. Choose "
            f"another name."
        )
    return api.upload_folder(
        **where,
        folder_path=folder,
        revision=revision,
        commit_message=commit_message or "Upload prototypes with sklgm",
        delete_patterns=f"{PICTURES}/*",  # those of a set that was there
    )


def local_folder(directory: str | Path) -> Path:
    """Return a folder to read prototypes of, as `PrototypeSet.load` takes it.

    That is the folder itself, or where it is named as one of the Hub, a folder in the cache with
    what is needed to load the prototypes.
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
    folder = snapshot_download(
        repo_id, repo_type="dataset", revision=revision, allow_patterns=list(OF_LOADING)
    )
    return Path(folder)
