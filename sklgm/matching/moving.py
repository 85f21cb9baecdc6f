"""Moving tensors to a device without waiting for it."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device, without waiting until a GPU has it."""
    if tensor.device.type != "cpu" or torch.device(device).type != "cuda":
        return tensor.to(device)
    # From ordinary memory CUDA copies only when it has done all that it was asked for before.
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)
