"""Where tensors live and in which precision nets run: the one module that decides."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def resolve_device(device: str | int | torch.device = "auto") -> torch.device:
    """Turn a ``device=`` parameter into a device that is there.

    "auto" takes the first of "cuda", "mps" and "cpu" that is available, "cuda" is the current CUDA
    device, and an integer is the index of one. CUDA devices always carry their index, so that equal
    devices compare equal. What is not there, or describes no device, is a ValueError.
    """
    there = _available_devices()
    if isinstance(device, str) and device == "auto":
        # "cpu" comes first in the list, the preferred accelerator right after it.
        device = there[min(1, len(there) - 1)].partition(":")[0]
    advice = f'Devices available here: {", ".join(there)}. Use one of them, or device="auto".'
    try:
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device={device!r} is not a device. {advice}") from error
    if found.type == "cuda" and found.index is None and torch.cuda.is_available():
        found = torch.device("cuda", torch.cuda.current_device())
    elif found.type != "cuda" and found.index == 0:
        found = torch.device(found.type)
    if str(found) not in there:
        raise ValueError(f"device={str(device)!r} is not available. {advice}")
    return found


def devices_in_turn(device: str | int | torch.device) -> list[torch.device]:
    """Return the devices that the workers of one computer take in turn.

    The first is what the ``device=`` parameter means; after "auto" or "cuda" come the other GPUs.
    """
    first = resolve_device(device)
    if first.type != "cuda" or str(device) not in ("auto", "cuda"):
        return [first]
    n = torch.cuda.device_count()
    return [torch.device("cuda", (first.index + i) % n) for i in range(n)]


def resolve_precision(
    precision: str, device: torch.device, *, in_patches: bool = False
) -> torch.dtype | None:
    """Turn a ``precision=`` parameter into the dtype of autocast; None is float32.

    "auto" is bfloat16 on a GPU with bfloat16 units. On a CPU it is for nets that see images in
    patches, whose work is products of matrices, where the CPU has units for these in bfloat16. It
    is float32 everywhere else.
    """
    if precision == "auto" and (
        (device.type == "cuda" and _has_bfloat16(device))
        or (device.type == "cpu" and in_patches and _multiplies_bfloat16())
    ):
        return torch.bfloat16
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):  # torch asks the current device
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _multiplies_bfloat16() -> bool:
    """Return whether the CPU has units for products of bfloat16 matrices, if torch can tell."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions
    return bool(capabilities.get("amx_bf16", False))


def device_of_doubles(device: str | torch.device) -> torch.device:
    """Return a device itself if it has float64, which MPS devices have not, or the CPU."""
    found = torch.device(device)
    return torch.device("cpu") if found.type == "mps" else found


@contextmanager
def plain_torch(device: torch.device) -> Iterator[None]:
    """Compute as if the caller were in neither autocast nor inference mode."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        yield


def _available_devices() -> list[str]:
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names
