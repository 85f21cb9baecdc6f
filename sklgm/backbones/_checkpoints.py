"""Weights in a file of one's own: read without running code, loaded in full or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor


def content_digest(*paths: str) -> str:
    """Return the SHA-256 of the content of one file, or one of several files together.

    Raises
    ------
    FileNotFoundError
        If one of them is not there.
    """
    digests = []
    for path in paths:
        if not Path(path).is_file():  # a pipe would be waited for
            raise FileNotFoundError(
                f"There is no file {path} to take weights from. A folder that timm or open_clip "
                f"saved goes by the name 'local-dir:<path>'."
            )
        status = Path(path).stat()
        digests.append(_digest(path, status.st_mtime_ns, status.st_size))
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


@functools.lru_cache(maxsize=64)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    """Return the SHA-256 of a file, computed once for each state of it."""
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
        state: dict[str, Tensor] = load_state_dict(path, weights_only=True)
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError
    except Exception as error:  # a damaged pickle raises anything
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if isinstance(error, AttributeError | KeyError | TypeError):
            reason = "it holds no state dict, neither at its top nor under 'state_dict' or 'model'"
        elif "weights_only" in str(error):
            reason = "it holds code or Python objects, not tensors alone, and those are not loaded"
        raise ValueError(
            f"The checkpoint {path} cannot be read: {reason}. What can be: a .safetensors file, or "
            f"what torch.save(net.state_dict(), path) writes."
        ) from error
    return state


@contextlib.contextmanager
def loading(path: str, architecture: str) -> Iterator[None]:
    """Turn torch's long error about keys that do not match into a short one."""
    try:
        yield
    except (RuntimeError, KeyError, AttributeError, IndexError, TypeError) as error:
        # torch lists all keys that are missing, too much or of another shape, a line each.
        kinds = [textwrap.shorten(line, 300) for line in str(error).splitlines()[:5]]
        raise ValueError(
            f"The weights in {path} do not fit architecture {architecture!r}, and nothing was "
            f"loaded: {' '.join(kinds)} Take the architecture they were trained with."
        ) from error
