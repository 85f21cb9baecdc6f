"""One image at a time: from an array, a PIL image or a file to 8-bit RGB.

Pictures stay PIL images as long as they can, since each way to an array and back is a copy or two.
"""

import contextlib
import functools
import re
import threading
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from sklgm.images.kinds import N_BYTES, name_kind

RGB = tuple[int, int, int]
# An array (H, W, 3), or a PIL image of mode RGB. It may be the caller's own: nothing changes it.
RGBImage = NDArray[np.uint8] | Image.Image
WHITE: RGB = (255, 255, 255)

# Tags of TIFF: 1 in the first marks a copy of reduced size, the second has the other pictures.
_NEW_SUBFILE_TYPE, _SUB_IFDS = 254, 330

# A PIL image reads its file and its EXIF at their first use, and not safely in two threads at once.
_first_use = threading.Lock()


def array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 RGB of an (H, W) or (H, W, 3) array, uint8 or floats in [0, 1]."""
    if array.dtype != np.uint8:
        values = array.astype(np.result_type(array, np.float32))
        array = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    if array.ndim == 2:
        array = np.broadcast_to(array[:, :, None], (*array.shape, 3))
    return array


def pillow_to_rgb(image: Image.Image, background: RGB) -> Image.Image:
    """Return a PIL image of any mode as 8-bit RGB: itself, where it is that already."""
    with _first_use:
        _refuse_programs(image)
        image.load()
        image.getexif()
    return _to_rgb(image, background)


def file_to_rgb(file: str | IO[bytes], background: RGB) -> Image.Image:
    """Read an image file, given by its path or opened, as :func:`pillow_to_rgb` a PIL image."""
    with _open(file) as image:
        _refuse_programs(image)
        _refuse_thumbnails(image)
        return _to_rgb(image, background)


@functools.cache
def register_plugins() -> None:
    """Let Pillow read HEIC and HEIF files, and know their suffixes, if pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _open(file: str | IO[bytes]) -> Image.Image:
    """Open an image, or say what the file is instead."""
    register_plugins()
    try:
        image = Image.open(file)
    except Image.DecompressionBombError as error:
        n_pixels, *_ = re.findall(r"\d+", str(error))
        raise ValueError(
            f"it has {n_pixels} pixels, and Pillow guards against decompression bombs, small files "
            f"that fill the memory. If you trust it, set PIL.Image.MAX_IMAGE_PIXELS = {n_pixels}, "
            f"in the command --max-pixels {n_pixels}"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(name_kind(_head(file))) from error
    if isinstance(image, ImageFile.StubImageFile) or image.format == "MPEG":  # known, not read
        with image:
            raise ValueError(name_kind(_head(file)))
    return image


def _head(file: str | IO[bytes]) -> bytes:
    if isinstance(file, str):
        with open(file, "rb") as opened:  # noqa: PTH123
            return opened.read(N_BYTES)
    file.seek(0)
    return file.read(N_BYTES)


def _refuse_programs(image: Image.Image) -> None:
    """Raise if an image is PostScript that Pillow has yet to have Ghostscript run."""
    if image.format == "EPS" and getattr(image, "tile", None):
        raise ValueError("PostScript is a program and is not run; convert the file to PNG")


def _refuse_thumbnails(image: Image.Image) -> None:
    """Raise if a TIFF begins with the thumbnail of a picture that Pillow cannot reach."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_NEW_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags:
        raise ValueError(
            "it is a camera's raw picture, of which Pillow reads the thumbnail only; develop it to "
            "JPEG or PNG first"
        )


def _to_rgb(image: Image.Image, background: RGB) -> Image.Image:
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _from_16_bit(image)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


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
