"""Objects on backgrounds that tell their class as well as the object does, or not at all."""

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklgm.datasets._textures import TEXTURES, draw_texture
from sklgm.datasets.openmoji import draw_openmoji, openmoji_credits
from sklgm.images import ImageSource, check_images, resize_crop
from sklgm.utils.random import own_random_state

_OPENMOJI_CLASSES = ("animal", "face", "food", "vehicle")
# Sides of the squares that are cut out of background images, as shares of the shorter side.
_PATCH_SHARES = (0.6, 1.0)

Cutout = tuple[str, Image.Image]
DrawBackground = Callable[[np.random.Generator], NDArray[np.uint8]]


@validate_params(
    {
        "objects": [dict, None],
        "backgrounds": [dict, None],
        "correlation": [Interval(Real, 0, 1, closed="both")],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 8, None, closed="left")],
        "object_scale": [tuple, list],
        "subset": [StrOptions({"all", "train", "test"})],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
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
    objects : dict or None, default=None
        Cut-outs: a dict from class name to the pictures of the class. A picture is a PIL image
        with transparency, as ``PIL.Image.open`` reads it from a file, or a uint8 array of shape
        (height, width, 4). Margins that cannot be seen are cut off. None takes OpenMoji pictures
        of four classes: animal, face, food, vehicle (extra ``demo``).
    backgrounds : dict or None, default=None
        A dict from group name to images, as :func:`sklgm.images.check_images` takes them: random
        squares of random images of the group. None draws procedural textures, one of six kinds
        a class, used again after six.
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
            Which cut-out each image shows: an OpenMoji file, or class and position.
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
    if len(object_scale) != 2 or not 0 < object_scale[0] <= object_scale[1] <= 1:
        raise ValueError(
            f"object_scale must be two numbers with 0 < low <= high <= 1; got {object_scale!r}."
        )
    cutouts = _read_objects(objects, size)
    target_names = [str(name) for name in cutouts]
    of_class = [_subset_of(cutouts[name], name, subset) for name in cutouts]
    background_of = _read_backgrounds(backgrounds, len(cutouts), size)
    group_names = [str(name) for name in background_of]
    draw = list(background_of.values())
    n_classes, n_groups = len(target_names), len(group_names)
    if n_classes == 0 or n_groups == 0:
        raise ValueError("objects and backgrounds must each have a name with its pictures.")

    # A generator for each purpose, and for each image's background.
    seeds = own_random_state(random_state).randint(2**31 - 1, size=3).tolist()
    objects_rng, groups_rng = (np.random.default_rng(seed) for seed in seeds[:2])
    target = objects_rng.permutation(np.arange(n_samples) % n_classes)
    keeps_own = groups_rng.random(n_samples) < correlation
    any_group = groups_rng.integers(n_groups, size=n_samples)
    groups = np.where(keeps_own, target % n_groups, any_group)

    images = np.empty((n_samples, size, size, 3), np.uint8)
    masks = np.empty((n_samples, size, size), np.float32)
    names = []
    for i, (label, group) in enumerate(zip(target, groups, strict=True)):
        name, picture = of_class[label][objects_rng.integers(len(of_class[label]))]
        layer = _place(picture, size, object_scale, objects_rng)
        background = draw[group](np.random.default_rng([seeds[2], i]))
        below = Image.fromarray(background).convert("RGBA")
        images[i] = np.asarray(Image.alpha_composite(below, layer).convert("RGB"))
        masks[i] = np.asarray(layer.getchannel("A"), dtype=np.float32) / 255
        names.append(name)
    if return_X_y:
        return images, target
    return Bunch(
        images=images,
        target=target,
        groups=groups,
        masks=masks,
        target_names=np.array(target_names),
        group_names=np.array(group_names),
        own_groups=np.arange(n_classes) % n_groups,
        object_names=np.array(names),
        DESCR=f"Objects on backgrounds.\n\n{openmoji_credits() if objects is None else ''}",
    )


def _read_objects(objects: dict[Any, Any] | None, size: int) -> dict[Any, list[Cutout]]:
    """Return the cut-outs of each class, without margins that cannot be seen."""
    if objects is None:
        found = draw_openmoji(size, _OPENMOJI_CLASSES)
    else:
        found = {
            label: [(f"{label}[{i}]", picture) for i, picture in enumerate(pictures)]
            for label, pictures in objects.items()
        }
    return {label: [_trimmed(*named) for named in of_class] for label, of_class in found.items()}


def _trimmed(name: str, picture: Any) -> Cutout:
    """Return a picture as RGBA without the margins that cannot be seen."""
    box = None
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image) and picture.has_transparency_data:
        picture = picture.convert("RGBA")
        box = picture.getchannel("A").getbbox()
    if box is None:
        raise ValueError(
            f"The object {name} has no transparency, or nothing else. Pass a cut-out, which can be "
            f"told from its background, such as a PIL image or array in RGBA; got {picture!r}."
        )
    return name, picture.crop(box)


def _subset_of(of_class: list[Cutout], label: Any, subset: str) -> list[Cutout]:
    """Return every third picture for tests, whatever the seed, and the others for training."""
    train = [cutout for i, cutout in enumerate(of_class) if i % 3 != 2]
    found = {"all": of_class, "train": train, "test": of_class[2::3]}[subset]
    if not found:
        raise ValueError(
            f"Class {label!r} has no picture in subset={subset!r}. Add pictures to it: every third "
            f'one is for "test", the others are for "train".'
        )
    return found


def _read_backgrounds(
    backgrounds: dict[Any, Any] | None, n_classes: int, size: int
) -> dict[Any, DrawBackground]:
    """Return by the name of each group what draws a background of it."""
    if backgrounds is None:
        return {kind: partial(draw_texture, kind, size) for kind in TEXTURES[:n_classes]}
    return {
        name: partial(_cut_patch, check_images(images), size)
        for name, images in backgrounds.items()
    }


def _cut_patch(source: ImageSource, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random square of a random image."""
    image = source[int(rng.integers(len(source)))]
    height, width = image.shape[:2]
    side = max(1, round(rng.uniform(*_PATCH_SHARES) * min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return resize_crop(image[top : top + side, left : left + side], size)


def _place(
    picture: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator
) -> Image.Image:
    """Return a clear layer with the picture on it, at a random size and place."""
    factor = rng.uniform(*scale) * size / max(picture.size)
    width, height = (max(1, round(factor * side)) for side in picture.size)
    layer = Image.new("RGBA", (size, size))
    corner = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    # Bilinear: a bicubic filter overshoots, and edges would be less clear than they are.
    layer.paste(picture.resize((width, height), Image.Resampling.BILINEAR), corner)
    return layer
