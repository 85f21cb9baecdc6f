"""Checks of what callers pass."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np


def check_size(image_size: int) -> int:
    """Return `image_size` as an int, or raise ValueError."""
    try:
        size = operator.index(image_size)
    except TypeError:
        size = 0
    if size < 1 or isinstance(image_size, bool):
        raise ValueError(f"image_size must be a positive integer, got {image_size!r}.")
    return size


def check_patches(name: str, size: int, patch: int | None) -> None:
    """Raise ValueError, naming the nearest valid sizes, if `size` is no multiple of `patch`."""
    if patch is not None and size % patch:
        below, above = size // patch * patch, (size // patch + 1) * patch
        nearest = f"{below} or {above}" if below else f"{above}"
        raise ValueError(
            f"image_size={size} is not a multiple of the patch size {patch} of backbone "
            f"{name!r}; the nearest valid size is {nearest}."
        )


def check_triple(name: str, value: float | Sequence[float]) -> tuple[float, float, float]:
    """Return one value a colour channel from a number or three of them."""
    try:
        red, green, blue = np.broadcast_to(np.asarray(value, dtype=float), 3).tolist()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number or three of them, got {value!r}.") from error
    return red, green, blue


def check_std(value: float | Sequence[float]) -> tuple[float, float, float]:
    """Return one positive standard deviation a colour channel, or raise ValueError."""
    std = check_triple("std", value)
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {value!r}.")
    return std
