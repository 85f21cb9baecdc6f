"""Resize and crop in one go, so that a thin strip does not become huge on the way."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklgm.images.decoding import RGBImage

# A resized picture of more pixels than this, 64 MB, is never made as a whole. Nothing that is like
# a photograph comes near.
_HUGE = 1 << 24
# No filter of Pillow reaches further, in pixels of the smaller one of the two pictures.
_REACH = 5

Box = tuple[int, int, int, int]


def resize_crop(image: RGBImage, size: int) -> NDArray[np.uint8]:
    """Bring the shorter side of an image to a size and cut out the central square.

    The result is that of torchvision's ``Resize(size)``, bicubic, and ``CenterCrop(size)``. Of
    strips so thin that the resized image would be huge, only the part that is kept is computed;
    there, a pixel may differ from torchvision's by rounding.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), dtype uint8, or PIL image of mode RGB
        The image. It is not modified.
    size : int
        Height and width of the result.

    Returns
    -------
    ndarray of shape (size, size, 3), dtype uint8
        The square, a copy where nothing is to be done.
    """
    height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
    if height == width == size:
        return np.array(image)
    longer = int(size * max(height, width) / min(height, width))
    height, width = (size, longer) if height <= width else (longer, size)
    top, left = round((height - size) / 2), round((width - size) / 2)
    resized = Picture(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(resized.crop((left, top, left + size, top + size)))


class Picture(Image.Image):
    """A PIL image whose resized copy, if huge, waits for its crop. It shares an image's pixels."""

    def __init__(self, image: RGBImage) -> None:
        super().__init__()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.load()  # one that was opened may not have been read yet
        self.im = picture.im
        self._mode, self._size = self.im.mode, self.im.size

    def resize(
        self, size: Any, resample: int | None = None, box: Any = None, reducing_gap: Any = None
    ) -> Image.Image:
        """Resize as Pillow does; what is returned for a huge size has pixels once it is cropped."""
        width, height = (max(1, side) for side in size)  # a library may round a thin side to none
        if width * height > max(_HUGE, self.width * self.height):
            return _Resized(self, (width, height), resample)
        return super().resize((width, height), resample, box, reducing_gap)


class _Resized(Image.Image):
    """A picture at another size, of which only crops are computed."""

    def __init__(self, picture: Image.Image, size: tuple[int, int], resample: int | None) -> None:
        super().__init__()
        self._mode, self._size = picture.mode, size
        self._picture, self._resample = picture, resample

    def crop(self, box: Any = None) -> Image.Image:
        """Compute a part, from the pixels that it is made of and those that its filter sees."""
        spans = zip(self._picture.size, self.size, box[:2], box[2:], strict=True)
        (left, right, x), (top, bottom, y) = (_source_of(*span) for span in spans)
        # Pillow keeps the place of a part in single precision, so count from close by. It resizes
        # what grows row by row first, then column by column.
        window = Image.Image.crop(self._picture, (left, top, right, bottom))
        width, height = box[2] - box[0], box[3] - box[1]
        rows = window.resize((width, window.height), self._resample, (x[0], 0, x[1], window.height))
        return rows.resize((width, height), self._resample, (0, y[0], width, y[1]))


def _source_of(old: int, new: int, start: int, stop: int) -> tuple[int, int, tuple[float, float]]:
    """Return what a filter sees of a side, from and to, and where a part of it lies in that."""
    scale = old / new
    margin = _REACH * max(1, scale) + 1
    first = max(0, math.floor(start * scale - margin))
    last = min(old, math.ceil(stop * scale + margin))
    return first, last, (start * scale - first, stop * scale - first)
