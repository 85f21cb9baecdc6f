"""Weights in a file of one's own: read without running code, loaded in full or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

# Of a list of keys, this many are named in an error.
_KEYS_NAMED = 5
# Numbers that a net may have and its file lack, beside as many as are in the file.
_MOST_INTERPOLATED = 2**26


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal; computed once a state of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise FileNotFoundError(f"The checkpoint {path} cannot be read: {error}.") from error
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"The checkpoint {path} is not a file. Give the file that holds the weights, or take "
            f"a whole folder by the name 'local-dir:{path}'."
        )
    return _digest(path, status.st_mtime_ns, status.st_size)


def content_digest(paths: Iterable[str]) -> str:
    """Return the SHA-256 of the contents of one file or several."""
    digests = [file_digest(path) for path in paths]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, whatever training script saved them.

    Parameters
    ----------
    path : str
        A ``.safetensors`` file, or one that `torch.save` wrote. The state dict may lie under
        ``"state_dict"`` or ``"model"``, and its keys may have the prefix ``"module."``. As timm
        does, an average over training is preferred where there is one (``"state_dict_ema"``).

    Returns
    -------
    dict of str to Tensor
        The tensors by name, on the CPU.

    Raises
    ------
    ValueError
        If the file holds more than tensors and plain values, since reading those could run code;
        if it is damaged; or if it holds no state dict.
    """
    from timm.models import load_state_dict

    try:
        _check_unpacked_size(path)
        state = load_state_dict(path, weights_only=True)
    except (AttributeError, KeyError, TypeError) as error:  # no dict, or not of strings
        raise _no_state_dict(path) from error
    except Exception as error:  # a damaged pickle raises anything
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        if "weights_only" in str(error):
            reason = "it holds code or Python objects, not tensors alone, and those are not loaded"
        if "TorchScript" in str(error):
            reason = "it is a TorchScript program; save torch.jit.load(path).state_dict()"
        raise ValueError(
            f"The checkpoint {path} cannot be read: {reason}. What can be: a .safetensors file, or "
            f"what torch.save(net.state_dict(), path) writes."
        ) from error
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise _no_state_dict(path, state)
    if not all(_is_held(tensor) for tensor in state.values()):
        raise ValueError(
            f"The checkpoint {path} holds tensors that claim more numbers than are in the file, or "
            f"are no plain ones. Save {{name: tensor.contiguous()}} of its state dict."
        )
    return state


def _check_unpacked_size(path: str) -> None:
    """Raise for an archive that unpacks to more than it is; torch itself packs nothing."""
    with Path(path).open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        # The code of a TorchScript program is packed, and never read.
        entries = [entry for entry in archive.infolist() if "/code/" not in entry.filename]
    unpacked, size = sum(entry.file_size for entry in entries), Path(path).stat().st_size
    if unpacked > size:
        raise ValueError(f"it has {size} bytes and would unpack to {unpacked}")


def _is_held(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are in memory, none in several places at once."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return plain and tensor.nbytes <= tensor.untyped_storage().nbytes()


def _no_state_dict(path: str, found: dict[str, object] | None = None) -> ValueError:
    keys = "" if found is None else f" Its keys: {_some(list(found))}."
    return ValueError(
        f"The checkpoint {path} holds no state dict, neither at its top nor under 'state_dict' or "
        f"'model'.{keys} Save one by torch.save(net.state_dict(), path)."
    )


def check_total(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError for a net that its file cannot fill, before it takes memory.

    Parameters
    ----------
    expected : mapping of str to Tensor
        State of the net, without memory.
    state : mapping of str to Tensor
        The tensors that the file holds.
    """
    wanted, held = (sum(t.numel() for t in tensors.values()) for tensors in (expected, state))
    # Position embeddings grow where images are to be larger than in training.
    if wanted > 2 * held + _MOST_INTERPOLATED:
        raise RuntimeError(f"the net has {wanted} numbers, and the file {held}")


@contextlib.contextmanager
def loading(path: str, architecture: str) -> Iterator[None]:
    """Turn torch's long error about keys that do not match into one that can be read."""
    try:
        yield
    except (RuntimeError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(
            f"The weights in {path} do not fit architecture {architecture!r}, and nothing was "
            f"loaded: {_summary(str(error))} Take the architecture they were trained with."
        ) from error


def _summary(message: str) -> str:
    """Shorten the message of ``load_state_dict(strict=True)``: counts and the first few keys."""
    parts = []
    for kind in ("Missing", "Unexpected"):
        listed = re.search(rf"{kind} key\(s\) in state_dict: (.*?)\. *$", message, re.MULTILINE)
        if listed:
            keys = re.findall(r'"([^"]+)"', listed[1])
            parts.append(f"{kind.lower()} keys: {len(keys)} ({_some(keys)})")
    shapes = re.findall(r"size mismatch for ([^:]+): .*?Size\((.*?)\).*?Size\((.*?)\)", message)
    if shapes:
        named = [f"{key} is {theirs}, not {ours}" for key, theirs, ours in shapes]
        parts.append(f"tensors of another shape: {len(shapes)} ({_some(named)})")
    return "; ".join(parts) + "." if parts else f"{message.strip()}."


def _some(keys: list[str]) -> str:
    more = ", ..." if len(keys) > _KEYS_NAMED else ""
    return ", ".join(str(key) for key in keys[:_KEYS_NAMED]) + more
