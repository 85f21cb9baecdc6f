"""One image of whatever kind: a picture, a file, its bytes, a tensor or an array."""

import os
import sys
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklgm.images.decoding import RGB, RGBImage, array_to_rgb, file_to_rgb, pillow_to_rgb

_SHAPE = (
    "Channels come last in arrays: move them there by np.moveaxis(X, -3, -1), drop the axis of a "
    "single one by X[..., 0] and a fourth one by X[..., :3]."
)
_DTYPE = (
    "Integers in 0..255 become uint8 by X.astype(np.uint8), and booleans floats by X.astype(float)."
)

# How far rounding may carry a float beyond [0, 1].
_SLACK = 1e-6


def item_to_rgb(item: Any, background: RGB) -> RGBImage:
    """Return one item as 8-bit RGB, or raise ValueError if it is no image.

    It may be a picture, a path, the bytes of a file, a tensor with its channels first, or what
    becomes an array with its channels last. A dict has bytes under "bytes", or else a path under
    "path", as Hugging Face's `datasets` gives images that are not decoded.
    """
    if isinstance(item, dict) and "bytes" in item:
        item = _content(item)
    if isinstance(item, Image.Image):
        return pillow_to_rgb(item, background)
    if isinstance(item, str | os.PathLike):
        return file_to_rgb(str(item), background)
    if isinstance(item, bytes):
        return file_to_rgb(BytesIO(item), background)
    if is_tensor(item):
        item = array_of_tensor(item)
    array = None if isinstance(item, tuple | dict) else np.asarray(item)
    if array is None or array.ndim == 0:
        raise ValueError(
            f"it is of kind {type(item).__name__}. Take the images and the labels of a data set "
            f"apart by X, y = sklgm.datasets.as_X_y(dataset); take rows of features with "
            f"backbone=None"
        )
    check_array(array, "an item")
    return array_to_rgb(array)


def is_undecoded(item: Any) -> bool:
    """Return whether an item is a file, its bytes, or a picture whose file may not be read yet."""
    kinds = Image.Image | str | os.PathLike | bytes
    return isinstance(item, kinds) or (isinstance(item, dict) and "bytes" in item)


def _content(item: dict[str, Any]) -> Any:
    """Return the path or the bytes of a file that Hugging Face's `datasets` describe by a dict."""
    content, path = item["bytes"], item.get("path")
    if content is None and path and "://" in path:  # in an archive, or on a server
        from datasets import Image as Feature

        return Feature().decode_example(item)
    return path if content is None else content


def check_array(array: NDArray[Any], name: str) -> None:
    """Raise ValueError unless an array is an image: (H, W, 3) or (H, W), uint8 or in [0, 1]."""
    if array.ndim == 1:
        raise ValueError(
            f"Got {name} of shape {array.shape}, which is a row and no image. Rows of features are "
            f"taken with backbone=None, flattened pixels after X.reshape(n, height, width, 3)."
        )
    if array.size == 0 or (array.ndim != 2 and array.shape[2:] != (3,)):
        raise ValueError(f"Got {name} of shape {array.shape}. {_SHAPE}")
    if array.dtype == np.uint8:
        return
    if array.dtype.kind != "f":
        raise ValueError(f"Got {name} of dtype {array.dtype}. {_DTYPE}")
    low, high = float(array.min()), float(array.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is neither
        raise ValueError(
            f"Floats must be finite and in [0, 1], but those of {name} go from {low:.8g} to "
            f"{high:.8g}. Divide values in 0..255 by 255; take Normalize out of a transform; of "
            f"any other range, subtract the value of black and divide by white less black."
        )


def is_tensor(item: Any) -> bool:
    """Return whether something is a tensor of torch, which need not be imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(item, torch.Tensor)


def array_of_tensor(tensor: Any) -> NDArray[Any]:
    """Return a tensor (..., C, H, W) with C of 1 or 3, or (H, W), as an array of images."""
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if array.ndim < 3:
        return array
    if array.shape[-3] not in (1, 3):
        raise ValueError(
            f"Got a tensor of shape {array.shape}. The channels of a tensor, 1 or 3, come before "
            f"height and width; with channels last pass X.numpy()."
        )
    return array[..., 0, :, :] if array.shape[-3] == 1 else np.moveaxis(array, -3, -1)
