"""Where tensors live and in which precision nets run: the one module that decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def resolve_device(device: str | int | torch.device = "auto") -> torch.device:
    """Turn a ``device=`` parameter into a device that is there.

    Parameters
    ----------
    device : str, int or torch.device, default="auto"
        ``"auto"`` takes the first of ``"cuda"``, ``"mps"`` and ``"cpu"`` that is available, and
        ``"cuda"`` is the current CUDA device. An integer is the index of one.

    Returns
    -------
    torch.device
        CUDA devices always carry their index, so that equal devices compare equal.

    Raises
    ------
    ValueError
        If the device is not there, or `device` does not describe one.
    """
    there = _available_devices()
    if isinstance(device, str) and device == "auto":
        # "cpu" comes first in the list, the preferred accelerator right after it.
        device = there[min(1, len(there) - 1)].partition(":")[0]
    advice = f'Devices available here: {", ".join(there)}. Use one of them, or device="auto".'
    try:
        if isinstance(device, bool):
            raise TypeError("a boolean is no device")
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device={device!r} is not a device. {advice}") from error
    if found.type == "cuda" and found.index is None and torch.cuda.is_available():
        found = torch.device("cuda", torch.cuda.current_device())
    name = str(found) if found.type == "cuda" else found.type
    if name not in there or (found.type != "cuda" and found.index not in (None, 0)):
        raise ValueError(f"device={str(device)!r} is not available. {advice}")
    return found if found.type == "cuda" else torch.device(found.type)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Turn a ``precision=`` parameter into the dtype of autocast.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` is bfloat16 on a GPU with bfloat16 units and float32 everywhere else.
    device : torch.device
        The device that the net runs on.

    Returns
    -------
    torch.dtype or None
        The dtype for `torch.autocast`; None means plain float32 without autocast.

    Raises
    ------
    ValueError
        If `precision` is unknown, or the device cannot run in it.
    """
    if precision not in _PRECISIONS:
        allowed = ", ".join(repr(value) for value in _PRECISIONS)
        raise ValueError(f"precision={precision!r} is unknown; it must be one of {allowed}.")
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device, emulated=False) else None
    if precision == "float32":
        return None
    if precision == "float16":
        return torch.float16
    if device.type == "cuda" and not _has_bfloat16(device, emulated=True):
        raise ValueError(
            f"precision='bfloat16' is not supported by {torch.cuda.get_device_name(device)}; "
            "use precision='float16' or 'float32'."
        )
    return torch.bfloat16


@contextmanager
def plain_torch(device: torch.device) -> Iterator[None]:
    """Compute as if the caller were in neither autocast nor inference mode."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        yield


def _has_bfloat16(device: torch.device, *, emulated: bool) -> bool:
    """Return whether a GPU runs bfloat16, in units of its own or perhaps emulated."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):  # torch asks the current device
        return torch.cuda.is_bf16_supported(including_emulation=emulated)


def _available_devices() -> list[str]:
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names
