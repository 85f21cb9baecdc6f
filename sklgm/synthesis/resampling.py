"""Resizing and blurring as products of matrices, whose gradients are deterministic everywhere."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def sandwich(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Return ``rows @ image @ columns^T`` for every channel of every image, in no autocast.

    Parameters
    ----------
    rows : Tensor of shape (n or 1, h_out, h)
        Acts on the vertical axis.
    images : Tensor of shape (n, c, h, w)
        Images.
    columns : Tensor of shape (n or 1, w_out, w)
        Acts on the horizontal axis.

    Returns
    -------
    Tensor of shape (n, c, h_out, w_out)
        Transformed images.
    """
    with torch.autocast(images.device.type, enabled=False):
        return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def resizing(start: Tensor, length: Tensor, canvas: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return matrices that resize ``[start, start + length)`` of one axis to ``size``.

    They are the antialiased bilinear filter: a triangle as wide as one output pixel, at least
    one input pixel, cut off at the borders of the crop.

    Parameters
    ----------
    start, length : Tensor of shape (n,)
        Crops, in pixels, on the device of the result.
    canvas : int
        Pixels of the axis before.
    size : int
        Pixels of the axis after.
    dtype : torch.dtype
        Dtype of the result.

    Returns
    -------
    Tensor of shape (n, size, canvas)
        Rows add up to 1.
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
    """Return the matrix that resizes a whole axis, the same one at each call.

    Parameters
    ----------
    side, size : int
        Pixels of the axis before and after.
    dtype : torch.dtype
        Dtype of the result.
    device : torch.device
        Device of the result.

    Returns
    -------
    Tensor of shape (1, size, side)
        Rows add up to 1.
    """
    start = torch.zeros(1, device=device)
    return resizing(start, start + side, side, size, dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def blurring(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that takes the mean of three neighbours, with the border repeated.

    Parameters
    ----------
    size : int
        Pixels of the axis.
    dtype : torch.dtype
        Dtype of the result.
    device : torch.device
        Device of the result.

    Returns
    -------
    Tensor of shape (1, size, size)
        Rows add up to 1.
    """
    place = torch.arange(size, device=device)
    matrix = torch.zeros(size, size, dtype=dtype, device=device)
    for shift in (-1, 0, 1):
        matrix[place, (place + shift).clamp(0, size - 1)] += 1 / 3
    return matrix[None]
