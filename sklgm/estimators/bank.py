"""The bank of features that a probe trains on: every view of every sample, embedded once."""

from functools import partial
from typing import Any

import numpy as np

from sklgm.checkpoint.memory import cached_features
from sklgm.images import ImageSource
from sklgm.passes.real_pass import fingerprint
from sklgm.passes.rows import RowEncoder
from sklgm.passes.views import describe_augmentation
from sklgm.synthesis import Augmentation

# Views embedded under n_views="auto", shared by the samples; at least and at most so many each.
# Four times as many changed no score that shows (OpenMoji, 40 to 482 images).
_AUTO_VIEWS = 2000
_AUTO_FEWEST, _AUTO_MOST = 4, 100


def views_of_each(augmentation: Augmentation | None, n_views: int | str, n_images: int) -> int:
    """Return how many views of each image a probe trains on; without augmentation, one crop."""
    if augmentation is None:
        return 1
    if n_views != "auto":
        return int(n_views)
    return int(np.clip(_AUTO_VIEWS // n_images, _AUTO_FEWEST, _AUTO_MOST))


def embed_views(
    source: Any,
    encoder: Any,
    augmentation: Augmentation | None,
    n_views: int | str,
    seed: int,
    memory: Any,
) -> np.ndarray:
    """Return features of views of training samples, float32 of shape (n, n_views, n_features).

    Samples are images; prototypes, float32 in [0, 1] of shape (n, side, side, 3); or rows, which
    have a single view. Without augmentation the centre crop is the only view. Features of images
    are kept in ``memory``, those of prototypes are not.
    """
    if isinstance(encoder, RowEncoder):
        return encoder.embed(source)[:, None]
    n_views = views_of_each(augmentation, n_views, len(source))
    if isinstance(source, np.ndarray):
        memory = None
    elif _are_canvases(source, encoder.backbone.canvas_size):
        # Prototypes as X: the way through 8 bits would change them.
        source = np.ascontiguousarray(source.items, dtype=np.float32)

    def key() -> tuple[Any, ...]:
        of_views = describe_augmentation(augmentation), n_views, seed
        return "bank", fingerprint(source), encoder.key, *of_views

    shape = len(source), n_views, encoder.n_features
    make = partial(encoder.bank, source, augmentation, n_views, seed)
    return cached_features(memory, key, shape, make)


def _are_canvases(source: Any, size: int) -> bool:
    """Return whether images were given as floats in [0, 1] of the canvas' size."""
    return type(source) is ImageSource and all(
        getattr(item, "dtype", np.uint8) != np.uint8 and item.shape == (size, size, 3)
        for item in source.items
    )
