"""Checks of what callers pass, and of what nets return."""

import math
import textwrap
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_scalar


def brief(value: Any) -> str:
    """Describe a wrong argument in few words: a net or an array would fill the screen."""
    if isinstance(value, torch.nn.Module):
        return f"a torch.nn.Module, {type(value).__name__}"
    return textwrap.shorten(repr(value), 100)


def check_size(image_size: int) -> int:
    """Return `image_size` as an int, or raise TypeError or ValueError."""
    return int(check_scalar(image_size, "image_size", Integral, min_val=1))


def check_patches(name: str, size: int, patch: int | None) -> None:
    """Raise ValueError, naming the nearest valid size, if `size` is no multiple of `patch`."""
    if patch is not None and size % patch:
        raise ValueError(
            f"image_size={size} is not a multiple of the patch size {patch} of backbone {name!r}; "
            f"the nearest valid size is {max(1, round(size / patch)) * patch}."
        )


def check_preparation(**given: Any) -> dict[str, Any]:
    """Check mean, std, crop_pct or interpolation, and return them as a `BackboneSpec` has them."""
    return {name: PREPARATION[name](value) for name, value in given.items()}


def _check_triple(name: str, value: float | Sequence[float]) -> tuple[float, float, float]:
    try:
        red, green, blue = np.broadcast_to(np.asarray(value, dtype=float), 3).tolist()
        np.asarray_chkfinite([red, green, blue])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number or three of them, got {value!r}.") from error
    return red, green, blue


def _check_mean(value: float | Sequence[float]) -> tuple[float, float, float]:
    mean = _check_triple("mean", value)
    if not 0 <= min(mean) <= max(mean) <= 1:
        raise ValueError(
            f"mean is that of pixels from 0 to 1, got {value!r}. Divide mean and std by 255 if "
            f"they are of pixels from 0 to 255."
        )
    return mean


def _check_std(value: float | Sequence[float]) -> tuple[float, float, float]:
    std = _check_triple("std", value)
    if not 0 < min(std) <= max(std) <= 10:
        raise ValueError(
            f"std must be positive, and that of pixels from 0 to 1; got {value!r}. Divide it by "
            f"255 if it is that of pixels from 0 to 255."
        )
    return std


def _check_crop_pct(value: float) -> float:
    check_scalar(value, "crop_pct", Real, min_val=0, max_val=1, include_boundaries="right")
    if math.isnan(value):
        raise ValueError("crop_pct must be in (0, 1], got nan.")
    return float(value)


def _check_interpolation(value: str) -> str:
    if value not in ("bicubic", "bilinear"):
        raise ValueError(f"interpolation must be 'bicubic' or 'bilinear', got {value!r}.")
    return value


PREPARATION: dict[str, Callable[[Any], Any]] = {
    "mean": _check_mean,
    "std": _check_std,
    "crop_pct": _check_crop_pct,
    "interpolation": _check_interpolation,
}


def check_pixels(name: str, pixels: torch.Tensor, side: int) -> None:
    """Raise ValueError unless pixels are what a backbone takes."""
    if pixels.shape[1:] != (3, side, side) or not torch.is_floating_point(pixels):
        raise ValueError(
            f"Backbone {name!r} takes floats in [0, 1] of shape (n, 3, {side}, {side}), as prepare "
            f"makes them of images; got {pixels.dtype} of shape {tuple(pixels.shape)}."
        )


def check_features(name: str, features: Any, n_images: int) -> None:
    """Raise ValueError unless a net returned a row of features for each image."""
    is_tensor = isinstance(features, torch.Tensor)
    shape = tuple(features.shape) if is_tensor else ()
    if shape[:-1] == (n_images,) and shape[-1]:
        return
    raise ValueError(
        f"Backbone {name!r} must return a tensor of shape (n, n_features), one row an image; for "
        f"{n_images} images it returned {shape if is_tensor else type(features).__name__}. Put the "
        f"net in another module whose forward returns `net(images)[0]` of a pair, one value of a "
        f"dict, `[:, 0]` of tokens, or `.mean((2, 3))` of a map."
    )


def check_differentiable(name: str, passes_gradients: bool) -> None:
    """Raise ValueError for a net that cannot tell how pixels should change."""
    if not passes_gradients:
        raise ValueError(
            f"The features of backbone {name!r} have no gradient with respect to the pixels, which "
            f"distilling needs: its forward runs under torch.no_grad or torch.inference_mode, "
            f"detaches or rounds, or does not look at the pixels. Take that out of its forward; "
            f"embedding images and training a probe work as it is."
        )
