"""Resizing and blurring as products of matrices, whose gradients are deterministic everywhere."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def sandwich(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Return ``rows @ image @ columns^T`` for every channel of every image, in no autocast.

    Images are of shape (n, c, h, w). The vertical axis is transformed by rows (n or 1, h_out, h),
    the horizontal one by columns (n or 1, w_out, w).
    """
    n, channels, height, _ = images.shape
    with torch.autocast(images.device.type, enabled=False):
        wide = images.flatten(1, 2) @ columns.mT
        return rows[:, None] @ wide.view(n, channels, height, wide.shape[-1])


def resizing(start: Tensor, length: Tensor, canvas: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return matrices (n, size, canvas) that resize ``[start, start + length)`` of one axis.

    The crops, of shape (n,), are in pixels of the canvas. The matrices, whose rows add up to 1, are
    the antialiased bilinear filter: a triangle as wide as one output pixel, at least one input
    pixel, cut off at the borders of the crop.
    """
    start, length = start.to(dtype)[:, None, None], length.to(dtype)[:, None, None]
    step = length / size
    place = torch.arange(size, dtype=dtype, device=start.device)[:, None] + 0.5
    pixel = torch.arange(canvas, dtype=dtype, device=start.device) + 0.5
    centre = start + place * step
    weight = (1 - (centre - pixel).abs() / step.clamp_min(1)).clamp_min(0)
    weight = weight * ((pixel > start) & (pixel < start + length))
    return weight / weight.sum(-1, keepdim=True)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def rescaling(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (1, size, side) that resizes a whole axis, the same one at each call."""
    start = torch.zeros(1, device=device)
    return resizing(start, start + side, side, size, dtype)


def summed(images: Sequence[Tensor], size: int) -> Tensor:
    """Return the sum of square images (n, c, side, side), each rescaled to (n, c, size, size)."""
    kind = (images[0].dtype, images[0].device)
    matrices = [rescaling(image.shape[-1], size, *kind) for image in images]
    with torch.autocast(images[0].device.type, enabled=False):
        # A X A^T + B Y B^T takes one product less as [A X, B Y] [A, B]^T.
        tall = [matrix @ image for matrix, image in zip(matrices, images, strict=True)]
        return torch.cat(tall, dim=-1) @ torch.cat(matrices, dim=-1).mT


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def blurring(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix (1, size, size) of the mean of three neighbours, the border repeated."""
    place = torch.arange(size, device=device)
    matrix = torch.zeros(size, size, dtype=dtype, device=device)
    for shift in (-1, 0, 1):
        matrix[place, (place + shift).clamp(0, size - 1)] += 1 / 3
    return matrix[None]
