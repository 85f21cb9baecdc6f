"""Tell what kind of X was given, and say what is allowed where it is none that can be read.

A further kind of X takes two steps: a class in ``source.py`` that decodes one item of it, and a
branch here that recognises and checks it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from sklgm.images.decoding import RGB
from sklgm.images.source import ArraySource, FileSource, ImageSource, PillowSource

_ALLOWED = (
    "X may be an array of shape (n_samples, height, width, 3) or (n_samples, height, width), of "
    "uint8 or of floats in [0, 1]; a list of such images, or of PIL images; or a list, array or "
    "Series of paths of image files. Put a single image or path in a list, make an array of a "
    "torch tensor by X.permute(0, 2, 3, 1).cpu().numpy(), read a folder by "
    "sklgm.datasets.load_folder, and for rows of features use backbone=None."
)
_SHAPE = (
    "Channels come last: move them there by np.moveaxis(X, -3, -1), drop the axis of a single one "
    "by X[..., 0] and a fourth one by X[..., :3]."
)
_DTYPE = (
    "Integers in 0..255 become uint8 by X.astype(np.uint8), and booleans floats by X.astype(float)."
)

# How far rounding may carry a float beyond [0, 1].
_SLACK = 1e-6


def check_images(X: Any, *, background: str | RGB = "white") -> ImageSource:
    """Recognise what X is and return it as a sequence of RGB images.

    Array pixels are checked at once, an image at a time, without a copy of the whole; files are
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
    if not isinstance(X, list | tuple):
        # Scalars have no dimension, and torch tensors have their channels first as a rule.
        kind = type(X).__name__
        if getattr(X, "ndim", 0) == 0 or kind == "Tensor":
            raise _refusal(f"X of kind {kind}")
        X = np.asarray(X)
    if len(X) == 0:
        raise _refusal("an empty X", "Pass at least one image.")
    if isinstance(X, np.ndarray) and X.ndim > 1:
        return _from_arrays(X)
    return _from_list(list(X), background)


def _from_list(items: list[Any], background: RGB) -> ImageSource:
    def are(*types: type) -> bool:
        return all(isinstance(item, types) for item in items)

    positions = np.arange(len(items))
    if are(str, os.PathLike):
        return FileSource(_check_files(items), positions, background)
    if are(Image.Image):
        for i, picture in enumerate(items):
            if 0 in picture.size:
                raise _refusal(f"X[{i}] of size {picture.size}", "Leave out empty images.")
        return PillowSource(items, positions, background)
    if are(np.ndarray):
        return _from_arrays(items)
    if are(list, tuple):
        return _from_arrays(np.asarray(items))
    raise _refusal(f"a list of {' and '.join(sorted({type(item).__name__ for item in items}))}")


def _refusal(got: str, *advice: str) -> ValueError:
    return ValueError(" ".join([f"Got {got}.", *advice, _ALLOWED]))


def _from_arrays(arrays: NDArray[Any] | list[NDArray[Any]]) -> ImageSource:
    if isinstance(arrays, np.ndarray) and arrays.ndim == 3:
        _, height, width = arrays.shape
        if width in (1, 3, 4) and height != width:
            raise _refusal(
                f"an array of shape {arrays.shape}, a single image",
                "Add the axis of samples: X[None].",
            )
    for i, array in enumerate(arrays):
        if array.size == 0 or (array.ndim != 2 and array.shape[2:] != (3,)):
            raise _refusal(f"X[{i}] of shape {array.shape}", _SHAPE)
        if array.dtype == np.uint8:
            continue
        if array.dtype.kind != "f":
            raise _refusal(f"X[{i}] of dtype {array.dtype}", _DTYPE)
        low, high = float(array.min()), float(array.max())
        if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is neither
            raise ValueError(
                f"Floats must be finite and in [0, 1], but those of X[{i}] go from {low:.8g} to "
                f"{high:.8g}. Divide values in 0..255 by 255; of any other range, subtract the "
                f"value of black and divide by white less black."
            )
    return ArraySource(arrays, np.arange(len(arrays)))


def _check_background(background: Any) -> RGB:
    if isinstance(background, str):
        return ImageColor.getrgb(background)[:3]
    colour = np.asarray(background)
    is_triple = colour.shape == (3,) and colour.dtype.kind in "iu"
    if not is_triple or colour.min() < 0 or colour.max() > 255:
        raise ValueError(
            "background must be a colour that Pillow knows, such as 'white' or '#ffffff', or red, "
            f"green and blue in 0..255, got {background!r}."
        )
    return tuple(colour.tolist())


def _check_files(items: Sequence[Any]) -> list[str]:
    paths = [str(Path(item).absolute()) for item in items]
    # To open a pipe or a device may never end.
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} files cannot be found, the first is {missing[0]!r}. "
            f"A folder is read by sklgm.datasets.load_folder."
        )
    return paths
