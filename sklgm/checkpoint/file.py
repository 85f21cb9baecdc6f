"""Files of tensors and JSON that are written whole or not at all, and show when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_FORMAT = 1
_HEADER = "sklgm.checkpoint"
_DIGEST = "sha256"


def write_checkpoint(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Write a file in place of the one that is there, or leave that as it is.

    Parameters
    ----------
    path : Path
        The file. A folder beside it, with ``.partial`` at the end, is there for a moment.
    header : mapping of str to object
        What JSON can hold.
    tensors : mapping of str to Tensor
        On the CPU, contiguous.

    Returns
    -------
    str
        Digest of all that was written.

    Raises
    ------
    OSError
        If it cannot be written. Nothing has changed then.
    """
    text = json.dumps({"format": _FORMAT, **header})
    digest = _digest(text, tensors)
    # A folder, since the library has temporary files of its own, which a kill would leave.
    folder = partial_path(path)
    partial = folder / path.name
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_file(dict(tensors), partial, metadata={_HEADER: text, _DIGEST: digest})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        kept = " The one before is still there." if path.exists() else ""
        raise OSError(f"The checkpoint {str(path)!r} cannot be written: {error}.{kept}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _sync_folder(path.parent)
    return digest


def read_checkpoint(
    path: Path, digest: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_checkpoint` wrote.

    Parameters
    ----------
    path : Path
        The file.
    digest : str, optional
        What must be in it.

    Returns
    -------
    header : dict
        As given then.
    tensors : dict of str to Tensor
        In memory, on the CPU.

    Raises
    ------
    ValueError
        If the file is missing, something else, damaged, or of a newer format.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is not there" if not path.exists() else "it is not a file")
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            header = json.loads(metadata[_HEADER])
            version = header.pop("format")
            known = version == _FORMAT
            # Copies: what is mapped into memory would change, or end, with the file.
            names = file.keys() if known else ()
            tensors = {name: file.get_tensor(name).clone() for name in names}
        intact = not known or metadata[_DIGEST] == _digest(metadata[_HEADER], tensors)
    # What a flipped bit leads to: other text, other types, other numbers.
    except (
        *(SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError),
        *(RuntimeError, OverflowError, RecursionError),
    ) as error:
        raise ValueError(
            f"{str(path)!r} is no checkpoint of sklgm, or it is damaged: {_reason(error)}."
        ) from error
    if not known:
        raise ValueError(
            f"{str(path)!r} has format {version!r}, but this version of sklgm reads format "
            f"{_FORMAT}. Update sklgm to go on from it."
        )
    if not intact or digest not in (None, metadata[_DIGEST]):
        raise ValueError(f"{str(path)!r} is damaged: its checksum differs.")
    return header, tensors


def partial_path(path: Path) -> Path:
    """Return the folder that a file is written in before it takes its place."""
    return path.with_name(f"{path.name}.partial")


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since numpy does not have all of torch's types.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power, where a folder can be asked for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
