"""Objects on backgrounds that tell their class as well as the object does, or not at all."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from sklgm.datasets._textures import TEXTURES, draw_texture
from sklgm.datasets.openmoji import draw_openmoji
from sklgm.images import ImageSource, check_images, refuse_programs, resize_crop
from sklgm.utils.random import own_random_state

_OPENMOJI_CLASSES = ("animal", "face", "food", "vehicle")
_SUBSETS = ("all", "train", "test")
# Every third picture of a class is for tests, whatever the seed.
_TEST_EVERY = 3
_LEAST_SIZE = 8

_DESCR = """\
Objects on backgrounds
----------------------
{n} images of {size} x {size} pixels: {n_classes} classes of objects ({classes}) on {n_groups}
groups of backgrounds ({groups}).
An image has the background group of its class with probability {probability:.4g} (correlation
{correlation:g}).

{credits}
"""
_OPENMOJI_CREDITS = """\
Objects: OpenMoji {version}. {credits}
The images returned here, and what is made of them, are shared under the same licence."""


def make_spurious_images(
    objects: Any = None,
    backgrounds: Any = None,
    *,
    correlation: float = 1.0,
    n_samples: int = 400,
    size: int = 64,
    object_scale: tuple[float, float] = (0.5, 0.75),
    subset: str = "all",
    random_state: Any = None,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray, NDArray]:
    """Compose objects over backgrounds that are correlated with their class.

    Class ``i`` has background group ``i % n_groups`` as its own. An image takes it with probability
    ``correlation``, and a group drawn uniformly from all of them otherwise, so that

        P(group is the class's own) = correlation + (1 - correlation) / n_groups.

    At 1 each class is always on its own group; at 0 class and group are independent.

    The same seed with another ``correlation`` gives the same objects in the same places. Where the
    group is the same too, so is the image.

    Parameters
    ----------
    objects : None, dict, or tuple of (sequence, array-like), default=None
        Cut-outs. A dict from class name to the pictures of the class, or pictures and their
        labels; a picture is a PIL image with transparency, the path of one, or a uint8 array of
        shape (height, width, 4). Margins that cannot be seen are cut off. None takes OpenMoji
        pictures of four classes: animal, face, food, vehicle (extra ``demo``).
    backgrounds : {"textures", "photographs"}, dict or None, default=None
        "textures", or None: procedural textures, one of eight kinds a class, used again after
        eight. "photographs": patches of scikit-learn's two sample photographs, two groups. A dict
        from group name to images, as :func:`sklgm.images.check_images` takes them: random squares
        of random images of the group.
    correlation : float, default=1.0
        Correlation in [0, 1]; see above.
    n_samples : int, default=400
        Images, the classes in equal numbers but for a rest.
    size : int, default=64
        Height and width in pixels, at least 8.
    object_scale : tuple of (float, float), default=(0.5, 0.75)
        Longer side of an object as a share of ``size``: between these, at random. The place is
        random too; objects are always whole.
    subset : {"all", "train", "test"}, default="all"
        Which cut-outs are used: "test" is every third picture of each class in the order given,
        "train" the others, whatever the seed. Backgrounds are drawn alike for all.
    random_state : int, RandomState instance or None, default=None
        Makes the images reproducible. The global generator is not used.
    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        images : ndarray of shape (n_samples, size, size, 3), dtype uint8
            The images.
        target : ndarray of shape (n_samples,), dtype int64
            Index of the class in ``target_names``.
        groups : ndarray of shape (n_samples,), dtype int64
            Index of the background's group in ``group_names``.
        masks : ndarray of shape (n_samples, size, size), dtype float32
            Share of each pixel that is object, in [0, 1].
        target_names : ndarray of shape (n_classes,), dtype str
            Names of the classes.
        group_names : ndarray of shape (n_groups,), dtype str
            Names of the groups.
        own_groups : ndarray of shape (n_classes,), dtype int64
            The own group of each class.
        object_names : ndarray of shape (n_samples,), dtype str
            Which cut-out each image shows: a file, or class and position.
        DESCR : str
            Description, licence and attribution.

    Raises
    ------
    ImportError
        If ``objects`` is None and the extra ``demo`` is not installed.
    ValueError
        If a parameter is out of its range, or a picture or a background cannot be used.

    Examples
    --------
    Background and class agree in training, and no longer in the test:

    >>> from sklgm.datasets import make_spurious_images
    >>> train = make_spurious_images(n_samples=8, subset="train", random_state=0)
    >>> shifted = make_spurious_images(
    ...     n_samples=8, subset="test", correlation=0.0, random_state=1
    ... )
    >>> bool((train.groups == train.own_groups[train.target]).all())
    True
    """
    _check_numbers(correlation, n_samples, size, object_scale)
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(_SUBSETS)}; got {subset!r}.")
    target_names, cutouts, object_credits = _read_objects(objects, size)
    places = [_subset_of(len(of_class), subset) for of_class in cutouts]
    for name, found in zip(target_names, places, strict=True):
        if not len(found):
            raise ValueError(
                f"Class {name!r} has no picture in subset={subset!r}, which takes every third one "
                f'for "test". Add pictures to the class, or use subset="all".'
            )
    groups = _read_backgrounds(backgrounds, len(target_names), size)

    # A generator for each purpose, and for each image's background.
    seeds = own_random_state(random_state).randint(2**31 - 1, size=3).tolist()
    objects_rng, groups_rng = (np.random.default_rng(seed) for seed in seeds[:2])
    n_classes, n_groups = len(target_names), len(groups.names)
    target = objects_rng.permutation(np.arange(n_samples) % n_classes)
    group = _draw_groups(target % n_groups, n_groups, correlation, groups_rng)

    images = np.empty((n_samples, size, size, 3), np.uint8)
    masks = np.empty((n_samples, size, size), np.float32)
    names = []
    for i, label in enumerate(target):
        chosen = cutouts[label][objects_rng.choice(places[label])]
        layer = _place(chosen.picture, size, object_scale, objects_rng)
        background = groups.draw(int(group[i]), np.random.default_rng([seeds[2], i]))
        images[i], masks[i] = _compose(background, layer)
        names.append(chosen.name)
    if return_X_y:
        return images, target
    return Bunch(
        images=images,
        target=target,
        groups=group,
        masks=masks,
        target_names=np.array(target_names),
        group_names=np.array(groups.names),
        own_groups=np.arange(n_classes) % n_groups,
        object_names=np.array(names),
        DESCR=_DESCR.format(
            n=n_samples,
            size=size,
            n_classes=n_classes,
            classes=", ".join(target_names),
            n_groups=n_groups,
            groups=", ".join(groups.names),
            probability=correlation + (1 - correlation) / n_groups,
            correlation=correlation,
            credits="\n\n".join(filter(None, [object_credits, groups.credits])),
        ),
    )


@dataclass(frozen=True)
class _Cutout:
    name: str
    picture: Image.Image


@dataclass(frozen=True)
class _Backgrounds:
    names: list[str]
    draw: Callable[[int, np.random.Generator], NDArray[np.uint8]]
    credits: str = ""


def _check_numbers(correlation: Any, n_samples: Any, size: Any, object_scale: Any) -> None:
    if not isinstance(correlation, Real) or not 0 <= float(correlation) <= 1:
        raise ValueError(f"correlation must be a number in [0, 1]; got {correlation!r}.")
    for name, value, least in (("n_samples", n_samples, 1), ("size", size, _LEAST_SIZE)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    try:
        low, high = object_scale
        fits = 0 < low <= high <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"object_scale must be two numbers with 0 < low <= high <= 1; got {object_scale!r}."
        )


def _subset_of(n: int, subset: str) -> NDArray[np.intp]:
    places = np.arange(n)
    if subset == "all":
        return places
    is_test = places % _TEST_EVERY == _TEST_EVERY - 1
    return places[is_test if subset == "test" else ~is_test]


def _draw_groups(
    own: NDArray[np.int64], n_groups: int, correlation: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return a group for each sample: its own, or with probability 1 - correlation any."""
    keeps = rng.random(len(own)) < correlation
    return np.where(keeps, own, rng.integers(n_groups, size=len(own)))


def _read_objects(objects: Any, size: int) -> tuple[list[str], list[list[_Cutout]], str]:
    """Return the names of the classes, their cut-outs, and credits."""
    if objects is None:
        drawn = draw_openmoji(size, _OPENMOJI_CLASSES)
        by_class: dict[str, list[_Cutout]] = {name: [] for name in _OPENMOJI_CLASSES}
        for picture, label, name in zip(drawn.pictures, drawn.labels, drawn.filenames, strict=True):
            by_class[label].append(_Cutout(name, _trimmed(picture, name)))
        credits = _OPENMOJI_CREDITS.format(version=drawn.version, credits=drawn.credits)
        return list(by_class), list(by_class.values()), credits
    pictures = _by_label(objects)
    cutouts = [
        [_read_cutout(item, f"{name}[{i}]") for i, item in enumerate(of_class)]
        for name, of_class in pictures.items()
    ]
    return list(pictures), cutouts, ""


def _by_label(objects: Any) -> dict[str, list[Any]]:
    """Return pictures by the name of their class, of either form that a user may give."""
    if isinstance(objects, Mapping):
        found = {str(name): list(pictures) for name, pictures in objects.items()}
        repeated = len(found) < len(objects)
    elif isinstance(objects, tuple) and len(objects) == 2:
        pictures, labels = list(objects[0]), np.asarray(objects[1])
        if labels.shape != (len(pictures),):
            raise ValueError(
                f"objects holds {len(pictures)} pictures and labels of shape {labels.shape}. Pass "
                f"one label for each picture."
            )
        classes, indices = np.unique(labels, return_inverse=True)
        found = {
            str(name): [pictures[i] for i in np.flatnonzero(indices == c)]
            for c, name in enumerate(classes)
        }
        repeated = len(found) < len(classes)
    else:
        raise ValueError(
            f"objects must be a dict from class name to pictures, a tuple (pictures, labels) or "
            f"None; got {type(objects).__name__}."
        )
    if repeated:
        raise ValueError("Two classes of objects have the same name as text. Rename one of them.")
    empty = [name for name, pictures in found.items() if not len(pictures)]
    if len(found) < 2 or empty:
        what = f"class {empty[0]!r} has none" if empty else f"there is {len(found)}"
        raise ValueError(
            f"objects must have at least two classes with a picture each; {what}. Add pictures."
        )
    return found


def _read_cutout(item: Any, name: str) -> _Cutout:
    if isinstance(item, str | os.PathLike):
        name = os.fspath(item)
        if not Path(name).is_file():
            raise ValueError(f"The object {name!r} is not a file.")
        try:
            with Image.open(name) as opened:
                refuse_programs(opened)
                opened.load()
                item = opened.copy()
        except Exception as error:  # Pillow's plugins raise nearly anything on a broken file
            raise ValueError(f"The object {name!r} cannot be read as an image: {error}") from error
    elif isinstance(item, np.ndarray):
        if item.ndim != 3 or item.shape[2] != 4 or 0 in item.shape or item.dtype != np.uint8:
            raise ValueError(
                f"The object {name} is an array of shape {item.shape} and dtype {item.dtype}; a "
                f"cut-out has shape (height, width, 4) and dtype uint8, opacity last."
            )
        item = Image.fromarray(item)
    if not isinstance(item, Image.Image):
        raise ValueError(
            f"The object {name} is of type {type(item).__name__}; pass a PIL image, a path or a "
            f"uint8 array of shape (height, width, 4)."
        )
    if not item.has_transparency_data:
        raise ValueError(
            f"The object {name} has no transparency, so that it cannot be told from its "
            f"background. Pass a cut-out, such as an RGBA image."
        )
    return _Cutout(name, _trimmed(item, name))


def _trimmed(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture as RGBA without the margins that cannot be seen."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"The object {name} is transparent everywhere. Leave it out.")
    return picture.crop(box)


def _read_backgrounds(backgrounds: Any, n_classes: int, size: int) -> _Backgrounds:
    if backgrounds is None or (isinstance(backgrounds, str) and backgrounds == "textures"):
        kinds = list(TEXTURES[:n_classes])
        return _Backgrounds(kinds, lambda group, rng: draw_texture(kinds[group], size, rng))
    if isinstance(backgrounds, str) and backgrounds == "photographs":
        photographs = sklearn.datasets.load_sample_images()
        sources = {
            Path(file).stem: check_images([image])
            for file, image in zip(photographs.filenames, photographs.images, strict=True)
        }
        credits = f"Backgrounds: photographs of scikit-learn.\n{photographs.DESCR}"
        return _Backgrounds(list(sources), _patches(sources, size, (0.25, 0.6)), credits)
    if not isinstance(backgrounds, Mapping):
        raise ValueError(
            f'backgrounds must be "textures", "photographs" or a dict from group name to images; '
            f"got {backgrounds!r}."
        )
    if not backgrounds:
        raise ValueError("backgrounds is empty. Name at least one group with its images.")
    sources = {str(name): check_images(images) for name, images in backgrounds.items()}
    if len(sources) < len(backgrounds):
        raise ValueError("Two groups of backgrounds have the same name as text. Rename one.")
    return _Backgrounds(list(sources), _patches(sources, size, (0.6, 1)))


def _patches(
    sources: Mapping[str, ImageSource], size: int, share: tuple[float, float]
) -> Callable[[int, np.random.Generator], NDArray[np.uint8]]:
    """Return a function that cuts random squares, of a share of the shorter side."""
    by_group = list(sources.values())

    def draw(group: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        image = by_group[group][int(rng.integers(len(by_group[group])))]
        height, width = image.shape[:2]
        side = max(1, round(rng.uniform(*share) * min(height, width)))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        return resize_crop(image[top : top + side, left : left + side], size)

    return draw


def _place(
    picture: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator
) -> Image.Image:
    """Return a clear layer with the picture on it, at a random size and place."""
    longer = rng.uniform(*scale) * size
    factor = longer / max(picture.size)
    width, height = (max(1, round(factor * side)) for side in picture.size)
    layer = Image.new("RGBA", (size, size))
    corner = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    # Bilinear: a bicubic filter overshoots, and edges would be less clear than they are.
    layer.paste(picture.resize((width, height), Image.Resampling.BILINEAR), corner)
    return layer


def _compose(
    background: NDArray[np.uint8], layer: Image.Image
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return an image and the mask of its object."""
    below = Image.fromarray(background).convert("RGBA")
    image = np.array(Image.alpha_composite(below, layer).convert("RGB"))
    mask = np.asarray(layer.getchannel("A"), dtype=np.float32) / np.float32(255)
    return image, mask.astype(np.float32)
