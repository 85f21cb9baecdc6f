"""Tell what kind of X was given, and say what to do where it is none that can be read."""

import math
import operator
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from sklgm.images.decoding import RGB
from sklgm.images.source import ArraySource, FileSource, ImageSource, PillowSource

_ALLOWED = (
    "X may be an array of shape (n_samples, height, width, 3) or (n_samples, height, width), "
    "of uint8 or of floats in [0, 1]; a list of PIL images; or a list, array or Series of "
    "paths of image files."
)
_TABULAR = "For rows of features rather than images, use backbone=None."

# How far rounding may carry a float beyond [0, 1].
_SLACK = 1e-6
_VALUES_AT_ONCE = 2**22


def check_images(X: Any, *, background: str | RGB = "white") -> ImageSource:
    """Recognise what X is and return it as a sequence of RGB images.

    Array pixels are checked at once, a part at a time, without a copy of the whole; files are
    looked up but not opened before they are asked for. X is never modified.

    Parameters
    ----------
    X : array-like, or sequence of arrays, PIL images or paths, or ImageSource
        An array of shape (n_samples, height, width, 3) or (n_samples, height, width); a list of
        arrays of shape (height, width, 3) or (height, width), of any sizes; a list or object array
        of PIL images; a list, array or Series of paths. Arrays hold uint8, or floats from
        0, black, to 1, white, which are rounded to 8 bits. An ImageSource is returned as it is.
    background : str or tuple of three ints, default="white"
        What transparent PIL images and files are composited over: a colour name or code that
        Pillow knows, or red, green and blue in 0..255.

    Returns
    -------
    ImageSource
        The images, decoded when asked for.

    Raises
    ------
    ValueError
        If X is anything else, holds no images, or names a file that does not exist.
    """
    if isinstance(X, ImageSource):
        return X
    background = _check_background(background)
    if isinstance(X, str | os.PathLike):
        raise _refusal(
            f"the single path {os.fspath(X)!r}",
            "Read a folder with one subfolder a class by sklgm.datasets.load_folder, and pass its "
            "paths; put the path of a single file in a list.",
        )
    if isinstance(X, Image.Image):
        raise _refusal("a single PIL image", "Put it in a list: [X].")
    if _is_torch(X):
        raise _torch_refusal("a torch tensor")
    if not isinstance(X, list | tuple):
        if not hasattr(X, "__array__"):
            raise _refusal(_a(X), "Turn it into a list or an array.")
        X = np.asarray(X)
    if isinstance(X, np.ndarray):
        if X.ndim == 0:
            raise _refusal("a 0-d array", "Pass a batch of images.")
        if X.dtype.kind in "OSTU" and len(X):
            if X.ndim > 1:
                raise _refusal(
                    f"an array of shape {X.shape} and dtype {X.dtype}",
                    "Paths and PIL images go in one dimension: pass one column or X.ravel(). "
                    "Turn an array of numbers into uint8 with X.astype(np.uint8).",
                )
            X = X.tolist()
    if len(X) == 0:
        raise _refusal("an empty X", "Pass at least one image.")
    if isinstance(X, np.ndarray):
        return _from_array(X)
    return _from_list(X, background)


def _from_array(X: NDArray[Any]) -> ImageSource:
    got = f"an array of shape {X.shape}"
    if X.ndim < 3:
        raise _refusal(got, _TABULAR)
    if X.ndim == 3 and X.shape[2] in (1, 3, 4) and X.shape[1] != X.shape[2]:
        raise _refusal(f"{got}, a single image", "Add the axis of samples: X[None].")
    if advice := _shape_advice(X.shape[1:]):
        raise _refusal(got, advice)
    _check_dtype(X.dtype, "X")
    step = max(1, _VALUES_AT_ONCE // math.prod(X.shape[1:]))
    _check_range(X[i : i + step] for i in range(0, len(X), step))
    return ArraySource(X, np.arange(len(X)))


def _from_list(items: Sequence[Any], background: RGB) -> ImageSource:
    kind = _kind(items[0])
    for i, item in enumerate(items):
        if _kind(item) != kind:
            raise _refusal(
                f"a list of mixed kinds: X[0] is {_a(items[0])}, X[{i}] is {_a(item)}",
                "Pass images of one kind.",
            )
    positions = np.arange(len(items))
    if kind == "path":
        return FileSource(_check_files(items), positions, background)
    if kind == "picture":
        for i, picture in enumerate(items):
            if 0 in picture.size:
                raise _refusal(f"X[{i}] of size {picture.size}", "Leave out empty images.")
        return PillowSource(list(items), positions, background)
    if kind == "array":
        for i, array in enumerate(items):
            if array.ndim < 2:
                raise _refusal(f"X[{i}] of shape {array.shape}", _TABULAR)
            if advice := _shape_advice(array.shape):
                raise _refusal(f"X[{i}] of shape {array.shape}", advice)
            _check_dtype(array.dtype, f"X[{i}]")
        _check_range(array[None] for array in items)
        return ArraySource(list(items), positions)
    if kind == "tensor":
        raise _torch_refusal("a list of torch tensors")
    return _from_nested(items)


def _from_nested(items: Sequence[Any]) -> ImageSource:
    try:
        array = np.asarray(items)
    except ValueError as error:
        raise _refusal(
            "nested lists of unequal lengths", "Make each image an array or a PIL image first."
        ) from error
    if array.dtype.kind not in "biufc":
        raise _refusal(f"a list whose X[0] is {_a(items[0])}", "Pass images of one of these kinds.")
    return _from_array(array)


def _kind(item: Any) -> str:
    if isinstance(item, str | os.PathLike):
        return "path"
    if isinstance(item, Image.Image):
        return "picture"
    if isinstance(item, np.ndarray):
        return "array"
    return "tensor" if _is_torch(item) else "number or list"


def _is_torch(item: Any) -> bool:
    # By name, since this package does not import torch.
    return type(item).__module__.split(".")[0] == "torch"


def _a(item: Any) -> str:
    names = {"path": "a path", "picture": "a PIL image", "array": "a numpy array"}
    return names.get(_kind(item), f"an object of type {type(item).__name__}")


def _refusal(got: str, advice: str) -> ValueError:
    return ValueError(f"Got {got}. {advice} {_ALLOWED}")


def _torch_refusal(got: str) -> ValueError:
    return _refusal(
        got,
        "Pass numpy arrays with the channels last: X.permute(0, 2, 3, 1).cpu().numpy(), or without "
        "permute where they are last already.",
    )


def _shape_advice(shape: tuple[int, ...]) -> str | None:
    """Say how to make an image of an array of this shape; None where it is one."""
    if 0 in shape:
        return "Leave out empty images."
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3):
        return None
    if len(shape) == 3 and shape[0] == 1:
        return "The channels come first: drop the axis of the one channel, X[..., 0, :, :]."
    if len(shape) == 3 and shape[0] in (3, 4):
        return "The channels come first: move them to the end with np.moveaxis(X, -3, -1)."
    if len(shape) == 3 and shape[2] == 1:
        return "Drop the axis of the one channel: X[..., 0]."
    if len(shape) == 3 and shape[2] == 4:
        return (
            "With 4 channels, drop the last one, X[..., :3], or pass PIL images, which are "
            "composited over background."
        )
    return "An image has the shape (height, width, 3) or (height, width)."


def _check_dtype(dtype: np.dtype[Any], name: str) -> None:
    if dtype == np.uint8 or dtype.kind == "f":
        return
    if dtype.kind == "b":
        advice = f"Use {name}.astype(np.uint8) * 255."
    else:
        advice = (
            f"Use {name}.astype(np.uint8) where the values are in 0..255; otherwise divide {name} "
            f"by the value of white, which makes floats in [0, 1]."
        )
    raise _refusal(f"{name} of dtype {dtype}", advice)


def _check_range(chunks: Iterable[NDArray[Any]]) -> None:
    """Raise unless all floats in chunks of images are finite and in [0, 1]."""
    start, found_low, found_high = 0, math.inf, -math.inf
    first_not_finite = first_outside = None
    for chunk in chunks:
        if chunk.dtype != np.uint8:
            axes = tuple(range(1, chunk.ndim))
            lows = chunk.min(axis=axes).astype(np.float64)
            highs = chunk.max(axis=axes).astype(np.float64)
            finite = np.isfinite(lows) & np.isfinite(highs)
            outside = finite & ((lows < -_SLACK) | (highs > 1 + _SLACK))
            if first_not_finite is None and not finite.all():
                first_not_finite = start + int(finite.argmin())
            if first_outside is None and outside.any():
                first_outside = start + int(outside.argmax())
            found_low = lows.min(initial=found_low, where=finite)
            found_high = highs.max(initial=found_high, where=finite)
        start += len(chunk)
    if first_not_finite is not None:
        raise ValueError(
            f"X holds NaN or infinite pixels, first in X[{first_not_finite}]. "
            "Replace them or leave these images out."
        )
    if first_outside is not None:
        raise ValueError(
            f"Floats must be in [0, 1], but pixels of X go from {found_low:.8g} to "
            f"{found_high:.8g}, first outside in X[{first_outside}]. Divide values in 0..255 by "
            f"255; of any other range, subtract the value of black and divide by white less black."
        )


def _check_background(background: Any) -> RGB:
    try:
        if isinstance(background, str):
            return ImageColor.getrgb(background)[:3]
        red, green, blue = (operator.index(value) for value in background)
        if all(0 <= value <= 255 for value in (red, green, blue)):
            return red, green, blue
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "background must be a colour that Pillow knows, such as 'white' or '#ffffff', or red, "
        f"green and blue in 0..255, got {background!r}."
    )


def _check_files(items: Sequence[Any]) -> list[str]:
    paths = [str(Path(item).absolute()) for item in items]
    missing = []
    first_error = None
    for path in paths:
        try:
            mode = Path(path).stat().st_mode
        except (OSError, ValueError) as error:
            missing.append(path)
            first_error = first_error or error
            continue
        if stat.S_ISDIR(mode):
            raise _refusal(
                f"the folder {path!r} in a list of paths",
                "Read folders by sklgm.datasets.load_folder, and pass its paths.",
            )
        if not stat.S_ISREG(mode):  # to open a pipe may never end
            raise _refusal(
                f"the path {path!r} of a pipe, socket or device", "Save the image to a file."
            )
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} files cannot be found, the first is {missing[0]!r} "
            f"({first_error})."
        ) from first_error
    return paths
