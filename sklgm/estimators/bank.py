"""The bank of features that a probe trains on: every view of every sample, embedded once."""

from __future__ import annotations

from functools import partial
from typing import Any

import joblib
import numpy as np

from sklgm.checkpoint.memory import cached_features
from sklgm.images import ImageSource
from sklgm.passes.rows import RowEncoder
from sklgm.passes.views import describe_augmentation
from sklgm.synthesis import Augmentation

# Views embedded under n_views="auto", shared by the samples; at least and at most so many each.
# Four times as many changed no score that shows (OpenMoji, 40 to 482 images).
_AUTO_VIEWS = 2000
_AUTO_FEWEST, _AUTO_MOST = 4, 100


def views_of_each(n_views: int | str, n_images: int) -> int:
    """Return how many views of each image a probe trains on."""
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
    """Return features of views of the training samples.

    Parameters
    ----------
    source : ImageSource or ndarray
        Images; prototypes, of shape (n, canvas, canvas, 3), float32 in [0, 1]; or rows.
    encoder : Encoder or RowEncoder
        What embeds them. Rows have a single view.
    augmentation : Augmentation or None
        It makes the views; None takes the centre crop alone.
    n_views : int or "auto"
        Views of each sample.
    seed : int
        Seed of the views.
    memory : None, str, Path or joblib.Memory
        Where features of images are kept. Those of prototypes are not.

    Returns
    -------
    ndarray of shape (n, n_views, n_features)
        float32.
    """
    if isinstance(encoder, RowEncoder):
        return encoder.embed(source)[:, None]
    n_views = views_of_each(n_views, len(source))
    if isinstance(source, np.ndarray):
        parts = partial(encoder.split, source)
        return encoder.bank(parts, len(source), augmentation, n_views, seed)
    # Prototypes as X: the way through 8 bits would change them.
    exact = _exact_canvases(source, encoder.backbone.canvas_size)
    canvases = partial(encoder.canvases, source) if exact is None else partial(encoder.split, exact)
    n = len(source)

    def key() -> tuple[Any, ...]:
        pixels = source.fingerprint() if exact is None else joblib.hash(exact)
        return "bank", pixels, encoder.key, describe_augmentation(augmentation), n_views, seed

    shape = n, 1 if augmentation is None else n_views, encoder.n_features
    make = partial(encoder.bank, canvases, n, augmentation, n_views, seed)
    return cached_features(memory, key, shape, make)


def _exact_canvases(source: Any, size: int) -> np.ndarray | None:
    """Return images given as floats in [0, 1] of the canvas' size; None for any others."""
    if type(source) is ImageSource and all(
        getattr(item, "dtype", np.uint8) != np.uint8 and item.shape == (size, size, 3)
        for item in source.items
    ):
        return np.ascontiguousarray(source.items, dtype=np.float32)
    return None
