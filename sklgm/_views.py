"""Streams of random views, and what an ``augmentation=`` parameter means."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import torch

from sklgm.synthesis import StandardAugmentation, Views

# Views drawn at once, whatever number is asked for.
_VIEW_BLOCK = 1024


class ViewStream:
    """Random views, one after the other, that do not depend on how many are taken at once.

    Parameters
    ----------
    augmentation : StandardAugmentation
        Draws them.
    canvas_size : int
        Side of the images.
    seed : int
        Of the views.
    """

    def __init__(self, augmentation: StandardAugmentation, canvas_size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._draw = partial(augmentation.draw, canvas_size=canvas_size, generator=generator)
        self._ahead = self._draw(0)

    def take(self, n: int) -> Views:
        """Return the next ``n`` views."""
        while len(self._ahead) < n:
            self._ahead = _joined(self._ahead, self._draw(_VIEW_BLOCK))
        taken, self._ahead = self._ahead[:n], self._ahead[n:]
        return taken


def _joined(first: Views, second: Views) -> Views:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Views))
    return Views(*map(torch.cat, pairs))


def resolve_augmentation(
    augmentation: str | StandardAugmentation | None, *, blur: float = 0.0
) -> StandardAugmentation | None:
    """Turn an ``augmentation=`` parameter into a checked object, or None.

    "standard" blurs with probability ``blur``.
    """
    if isinstance(augmentation, str):
        augmentation = StandardAugmentation(blur=blur)
    if augmentation is not None:
        augmentation.check()
    return augmentation


def describe_augmentation(augmentation: StandardAugmentation | None) -> dict[str, Any] | None:
    """Return what the views of an augmentation depend on, its class included."""
    if augmentation is None:
        return None
    kind = type(augmentation)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **augmentation.get_params()}
