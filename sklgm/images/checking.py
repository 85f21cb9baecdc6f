"""Tell what kind of X was given, and say what is allowed where it is none that can be read.

A further kind of item needs a branch in ``items.py``, which decodes one; a further kind of X needs
one here, which recognises and checks it.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from sklgm.images.columns import columns_of_kind, field_of, has_items
from sklgm.images.decoding import RGB
from sklgm.images.items import array_of_tensor, check_array, is_tensor, is_undecoded
from sklgm.images.source import FileSource, ImageSource, SequenceSource

_ALLOWED = (
    "X may be an array of shape (n_samples, height, width, 3) or (n_samples, height, width), or a "
    "tensor of shape (n_samples, 3, height, width), of uint8 or of floats in [0, 1]; a list of "
    "such images, or of PIL images; a list, array or Series of paths of image files; or another "
    "sequence of any of these. Put a single image or path in a list, read a folder by "
    "sklgm.datasets.load_folder, take a data set of images and labels apart by "
    "sklgm.datasets.as_X_y, pass over a stream by distiller.compute_gradients, and for rows of "
    "features use backbone=None."
)


def check_images(X: Any, *, background: str | RGB = "white") -> ImageSource:
    """Recognise what X is and return it as a sequence of RGB images.

    Arrays are checked at once, without a copy of the whole; files are looked up, and opened when
    they are asked for. X is never modified.

    Parameters
    ----------
    X : array-like, or sequence of arrays, tensors, PIL images or paths, or ImageSource
        An array of shape (n_samples, height, width, 3) or (n_samples, height, width); a list of
        arrays of shape (height, width, 3) or (height, width), of any sizes; tensors of torch,
        which have their channels before height and width; a list or object array of PIL images;
        a list, array or Series of paths. Arrays and tensors hold uint8, or floats from 0, black,
        to 1, white, which are rounded to 8 bits. Any other sequence, such as a column of Hugging
        Face's `datasets` or a `torch.utils.data.Dataset`, may hold these too, and the bytes of
        files; of it, one item is asked for at a time, and must be the same each time. An
        ImageSource is returned as it is.
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
    if is_tensor(X):
        X = _of_tensor(X)
    elif getattr(X, "ndim", 0) > 0:  # scalars have no dimension
        X = np.asarray(X)
    elif not isinstance(X, list | tuple):
        return _from_sequence(X, background)
    if len(X) == 0:
        raise _refusal("an empty X", "Pass at least one image.")
    if isinstance(X, np.ndarray) and X.ndim > 1:
        if X.ndim == 2 and X.dtype.kind in "OUSTV":
            raise _refusal(f"a table of shape {X.shape}", "Pass its column of images or paths.")
        return _from_arrays(X, background)
    return _from_list(list(X), background)


def _of_tensor(X: Any) -> NDArray[Any]:
    if X.ndim == 3 and len(X) in (1, 3):
        raise _refusal(
            f"a tensor of shape {tuple(X.shape)}, a single image or {len(X)} grey ones",
            "Add the axis of samples by X[None], or that of channels by X[:, None].",
        )
    return array_of_tensor(X[:, None] if X.ndim == 3 else X)


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
        return ImageSource(items, positions, background)
    if all(map(is_tensor, items)):
        items = [array_of_tensor(item) for item in items]
    if are(np.ndarray):
        return _from_arrays(items, background)
    if are(list):
        return _from_arrays(np.asarray(items), background)
    kinds = {type(item).__name__ for item in items}
    if len(kinds) > 1:
        raise _refusal(f"a list of {' and '.join(sorted(kinds))}")
    return _from_sequence(items, background)


def _from_sequence(X: Any, background: RGB) -> ImageSource:
    """Take a sequence whose items are made when they are asked for, and look at the first."""
    if not has_items(X) or isinstance(X, str | bytes | Mapping | np.ndarray):
        is_loader = hasattr(X, "batch_sampler")
        advice = ["Of a DataLoader pass X, y = as_X_y(loader.dataset)."] if is_loader else []
        raise _refusal(f"X of kind {type(X).__name__}", *advice)
    images = columns_of_kind(X, "Image")
    if len(images) == 1:
        X = field_of(X, images[0])
    elif hasattr(X, "column_name") and hasattr(getattr(X, "source", None), "select_columns"):
        X = field_of(X.source, X.column_name)
    if len(X) == 0:
        raise _refusal("an empty X", "Pass at least one image.")
    source = SequenceSource(X, np.arange(len(X)), background)
    with contextlib.suppress(OSError, SyntaxError):  # a damaged image, as any other may be
        if not is_undecoded(X[0]):
            _ = source[0]
    return source


def _refusal(got: str, *advice: str) -> ValueError:
    return ValueError(" ".join([f"Got {got}.", *advice, _ALLOWED]))


def _from_arrays(arrays: NDArray[Any] | list[NDArray[Any]], background: RGB) -> ImageSource:
    if isinstance(arrays, np.ndarray) and arrays.ndim == 3:
        _, height, width = arrays.shape
        if width in (1, 3, 4) and height != width:
            raise _refusal(
                f"an array of shape {arrays.shape}, a single image",
                "Add the axis of samples: X[None].",
            )
    for i, array in enumerate(arrays):
        check_array(array, f"X[{i}]")
    return ImageSource(arrays, np.arange(len(arrays)), background)


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
        how = (
            "A folder is read by sklgm.datasets.load_folder."
            if Path(missing[0]).is_dir()
            else "Correct their paths or leave them out; of a table, "
            'sklgm.datasets.load_csv(TABLE, on_error="skip") does, in the command --skip-damaged.'
        )
        raise ValueError(
            f"{len(missing)} of {len(paths)} files cannot be found, the first is {missing[0]!r}. "
            f"{how}"
        )
    return paths
