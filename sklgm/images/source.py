"""A sequence of images that are decoded one by one, when asked for."""

import hashlib
import operator
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sklgm.images.decoding import RGB, RGBImage
from sklgm.images.items import item_to_rgb

# What makes items need not be safe in several threads. It may itself read from a source.
_one_at_a_time = threading.RLock()


class DamagedImageError(ValueError):
    """An image that cannot be read, by its name, for a reason."""

    def __init__(self, name: str, reason: str, more: str = "") -> None:
        super().__init__(name, reason, more)
        self.reason = reason

    def __str__(self) -> str:
        name, reason, more = self.args
        return f"{name} cannot be read as an image: {reason}{more}"


@dataclass(frozen=True, eq=False, repr=False)
class ImageSource:
    """An immutable sequence of uint8 RGB images, as :func:`check_images` returns it.

    ``source[i]`` decodes image ``i`` into a new array of shape (H, W, 3); an array of places, a
    mask or a slice selects images without decoding them, as scikit-learn's splitters do. A pickle
    holds what decoding needs: the arrays, the PIL images, the paths or the sequence.

    Parameters
    ----------
    items : sequence
        The items that images are decoded from, one for each.
    positions : ndarray of int
        Where each item stood in the X the user gave: images are named after it.
    background : tuple of 3 ints
        What transparent images are composited over.
    """

    items: Sequence[Any] | NDArray[Any]
    positions: NDArray[np.intp]
    background: RGB

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int]:
        """The number of images. What has a shape is indexed by scikit-learn with arrays."""
        return (len(self),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} images>"

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):  # (rows, ...), as scikit-learn asks an array for rows
            index = index[0]
        if isinstance(index, slice | list | np.ndarray):
            return self.take(index)
        return np.array(self.read(operator.index(index)), order="C")

    def read(self, index: int) -> RGBImage:
        """Decode an image, and copy it no more often than must be.

        Parameters
        ----------
        index : int
            Its place in this source.

        Returns
        -------
        ndarray of shape (H, W, 3), dtype uint8, or PIL image of mode RGB
            The image, which may be the user's own: it must not be changed.

        Raises
        ------
        DamagedImageError
            If it cannot be read.
        """
        try:
            return self._decode(self._item(index))
        except Exception as error:  # Pillow's plugins raise nearly anything on a broken file
            # The system's errors have the path, which the name has already.
            system = error.strerror if isinstance(error, OSError) else ""
            reason = system or str(error) or type(error).__name__
            raise DamagedImageError(self.name(index), reason) from error

    def _item(self, index: int) -> Any:
        return self.items[index]

    def _decode(self, item: Any) -> RGBImage:
        return item_to_rgb(item, self.background)

    def __getstate__(self) -> dict[str, Any]:
        """Add how large an image this process allows, so that its workers allow it too."""
        return {**vars(self), "max_pixels": Image.MAX_IMAGE_PIXELS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        limits = [Image.MAX_IMAGE_PIXELS, state.pop("max_pixels")]
        Image.MAX_IMAGE_PIXELS = None if None in limits else max(limits)
        vars(self).update(state)

    def take(self, indices: slice | list[Any] | NDArray[Any]) -> Self:
        """Select images. Each keeps its name.

        No pixels are copied, and a slice of an array stays one array.

        Parameters
        ----------
        indices : slice or array-like
            Places in any order, a mask or a slice.

        Returns
        -------
        ImageSource
            The selected images.
        """
        if isinstance(indices, slice):
            items: Any = self.items[indices]
        else:
            items = [self.items[i] for i in np.arange(len(self))[indices]]
        return replace(self, items=items, positions=self.positions[indices])

    def name(self, index: int) -> str:
        """Name an image for messages.

        Parameters
        ----------
        index : int
            Its place in this source.

        Returns
        -------
        str
            Its path, or its place in the user's X: ``X[3]`` is the fourth image.
        """
        return f"X[{self.positions[index]}]"

    def fingerprint(self) -> str:
        """Hash the images, as a cache key.

        Returns
        -------
        str
            A hash of the decoded pixels; of files, of their paths, sizes and times of change.
        """
        digest = hashlib.blake2b(digest_size=16)
        for image in self:
            digest.update(repr(image.shape).encode())
            digest.update(image.tobytes())
        return digest.hexdigest()


class FileSource(ImageSource):
    """Images from files, given by absolute paths."""

    def _decode(self, item: str) -> RGBImage:
        if not Path(item).is_file():  # to open a pipe or a device may never end
            raise ValueError("there is no such file")
        return super()._decode(item)

    def name(self, index: int) -> str:
        """Name an image by its path."""
        return str(self.items[index])

    def fingerprint(self) -> str:
        """Hash the path, size and time of modification of every file: none is read."""
        return _state_of_files(self.items, self.background)


class SequenceSource(ImageSource):
    """Images from a sequence that makes its items when they are asked for, such as a column.

    ``items`` is the whole sequence, and ``positions`` selects from it.
    """

    def __len__(self) -> int:
        return len(self.positions)

    def _item(self, index: int) -> Any:
        with _one_at_a_time:
            return self.items[int(self.positions[index])]

    def take(self, indices: slice | list[Any] | NDArray[Any]) -> Self:
        """Select images by their place in this source."""
        return replace(self, positions=self.positions[indices])

    def fingerprint(self) -> str:
        """Hash the images, or take the fingerprint that Hugging Face's `datasets` keep."""
        kept = getattr(self.items, "fingerprint", None)
        if not isinstance(kept, str):
            return super().fingerprint()
        digest = hashlib.blake2b(repr((kept, self.background)).encode(), digest_size=16)
        digest.update(self.positions.tobytes())
        first = self._item(0)
        knows_path_alone = isinstance(first, dict) and first.get("bytes") is None
        if knows_path_alone and Path(first["path"]).is_file():
            paths = [self._item(i)["path"] for i in range(len(self))]
            digest.update(_state_of_files(paths).encode())
        return digest.hexdigest()


def _state_of_files(paths: Iterable[str], *others: Any) -> str:
    """Hash some values, and the path, size and time of modification of every file."""
    digest = hashlib.blake2b("".join(map(repr, others)).encode(), digest_size=16)
    for path in paths:
        try:
            stat = Path(path).stat()
        except OSError as error:
            raise DamagedImageError(path, error.strerror or str(error)) from error
        digest.update(repr((path, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()
