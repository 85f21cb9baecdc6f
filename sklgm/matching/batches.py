"""Batches that are added to the statistics of the real data, checked and brought to one form."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sklgm.matching.moving import to_device
from sklgm.utils.devices import device_of_doubles


def as_rows(features: Tensor | np.ndarray, labels: np.ndarray, n_features: int) -> Tensor:
    """Return features (n, d) as float32 on their device; raise unless they are finite and fit.

    ``d`` is ``n_features``, or anything where that is 0.
    """
    if not isinstance(features, Tensor):
        # A copy, since torch refuses to look at read-only memory.
        features = torch.from_numpy(np.array(features, dtype=np.float32))
    rows = features.detach().float()
    is_table = rows.ndim == 2 and labels.shape == (len(rows),)
    if not is_table or n_features not in (0, rows.shape[1]):
        raise ValueError(
            f"features must be of shape (n, {n_features or 'n_features'}) with one label "
            f"a row; got {tuple(rows.shape)} and labels of shape {labels.shape}."
        )
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("features hold NaN or infinity.")
    return rows


def as_weights(sample_weight: Any, labels: np.ndarray) -> np.ndarray:
    """Return weights as float64, 1 when none are given; raise unless finite and one a label."""
    # A copy, since torch refuses to look at read-only memory.
    return _check_sample_weight(
        sample_weight, labels, dtype=np.float64, copy=True, allow_all_zero_weights=True
    )


def class_membership(labels: np.ndarray, n_classes: int, device: torch.device) -> Tensor:
    """Return which of n rows are of which class, float64 of shape (n_classes, n).

    A product with it adds up the rows of each class, always in the same order.
    """
    return to_device(torch.from_numpy(labels == np.arange(n_classes)[:, None]), device).double()


def shrink(images: Any, n_labels: int, side: int) -> Tensor:
    """Return images (n, 3, side, side) as float64; raise unless they are pixels, one a label.

    Pixels on a GPU are not looked at, so as not to wait for it.
    """
    shape = np.shape(images)
    if not isinstance(images, Tensor) or len(shape) != 4 or shape[:2] != (n_labels, 3):
        raise ValueError(
            f"images must be a tensor of shape (n, 3, height, width) with one label each; got "
            f"{type(images).__name__} of shape {tuple(shape)} and {n_labels} labels."
        )
    # MPS has no float64, and does not pool sides that 8 does not divide.
    pixels = images.detach().to(device_of_doubles(images.device)).float()
    small = adaptive_avg_pool2d(pixels, side).double()
    if small.device.type == "cpu":
        check_pixels(small.numpy())
    return small


def check_pixels(images: np.ndarray) -> np.ndarray:
    """Return images, if their pixels are in [0, 1]."""
    if not ((images >= 0) & (images <= 1)).all():
        raise ValueError("images must hold pixels in [0, 1], as floats; divide bytes by 255.")
    return images
