"""Batches go from arrays that threads fill to tensors on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Upload:
    """Copies batches to a device.

    A CUDA device receives a batch while it still works on the one before. Such a copy needs
    pinned memory, which :meth:`empty` gives, and a stream of its own. On other devices both the
    memory and the copy are ordinary ones.

    Parameters
    ----------
    device : torch.device
        The device that batches are copied to.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Make an array for a batch. Any thread may ask for it."""
        if self._stream is None:
            return np.empty(shape, dtype)
        n_bytes = math.prod(shape) * dtype.itemsize
        # torch hands such memory on to a later batch, once the copy of this one is through.
        pinned = torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True)
        return pinned.numpy().view(dtype).reshape(shape)

    def __call__(self, batch: np.ndarray) -> Tensor:
        """Return a batch on the device, as a tensor of its own dtype; on the CPU without a copy."""
        host = torch.from_numpy(batch)
        if self._stream is None:
            return host.to(self._device)
        with torch.cuda.stream(self._stream):
            there = host.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        there.record_stream(current)
        return there
