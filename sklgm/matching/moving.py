"""Moving tensors to a device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device, without waiting until a GPU has it.

    Parameters
    ----------
    tensor : Tensor
        A tensor on any device.
    device : torch.device or str
        The device that it is needed on.

    Returns
    -------
    Tensor
        A tensor of the same values.
    """
    # Only CUDA copies ordinary memory aside before it returns; elsewhere it could change too soon.
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")
