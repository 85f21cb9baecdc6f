"""One image at a time: from an array, a PIL image or a file to 8-bit RGB of a wanted size."""

import threading
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

RGB = tuple[int, int, int]

# A PIL image reads its file at the first use of its pixels, and not safely in two threads at once.
_first_use = threading.Lock()


def array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a new uint8 RGB array of an (H, W) or (H, W, 3) array, uint8 or floats in [0, 1]."""
    if array.dtype != np.uint8:
        values = array.astype(np.result_type(array, np.float32))
        array = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    if array.ndim == 2:
        array = np.broadcast_to(array[:, :, None], (*array.shape, 3))
    return np.array(array, order="C")


def pillow_to_rgb(image: Image.Image, background: RGB) -> NDArray[np.uint8]:
    """Return the uint8 RGB array of a PIL image of any mode, which is left as it was."""
    with _first_use:
        _refuse_programs(image)
        image.load()
    return _to_rgb(image, background)


def file_to_rgb(path: str | BytesIO, background: RGB) -> NDArray[np.uint8]:
    """Read an image file, or the bytes of one, as :func:`pillow_to_rgb` does a PIL image."""
    with Image.open(path) as image:
        _refuse_programs(image)
        return _to_rgb(image, background)


def _refuse_programs(image: Image.Image) -> None:
    """Raise if an image is PostScript that Pillow has yet to have Ghostscript run."""
    if image.format == "EPS" and getattr(image, "tile", None):
        raise ValueError("PostScript is a program and is not run; convert the file to PNG")


def _to_rgb(image: Image.Image, background: RGB) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _from_16_bit(image)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"pixels of mode {image.mode} from {values.min()} to {values.max()} are not 16-bit "
            "grey; pass the image as an array of floats in [0, 1]"
        )
    grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def resize_crop(
    image: NDArray[np.uint8], size: int, *, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> NDArray[np.uint8]:
    """Bring the shorter side of an image to a size and cut out the central square.

    The rounding is that of torchvision's ``Resize(size)`` and ``CenterCrop(size)``.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), dtype uint8
        The image. It is not modified.
    size : int
        Height and width of the result.
    resample : PIL.Image.Resampling, default=BICUBIC
        Pillow's filter, which is antialiased.

    Returns
    -------
    ndarray of shape (size, size, 3), dtype uint8
        The square; ``image`` itself where it already has that shape.
    """
    height, width = image.shape[:2]
    if height == width == size:
        return image
    longer = int(size * max(height, width) / min(height, width))
    height, width = (size, longer) if height <= width else (longer, size)
    top, left = round((height - size) / 2), round((width - size) / 2)
    resized = Image.fromarray(image).resize((width, height), resample)
    return np.array(resized.crop((left, top, left + size, top + size)))
