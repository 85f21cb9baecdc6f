"""Streams of random views, and what an ``augmentation=`` parameter means."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from sklgm.matching.heads import numbered_generator
from sklgm.synthesis import StandardAugmentation, Views

# Views drawn at once, from a generator of their own, whatever number is asked for.
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
        Of the views, non-negative.
    start : int, default=0
        Views to leave out at the beginning, most of which are not drawn.
    """

    def __init__(
        self, augmentation: StandardAugmentation, canvas_size: int, seed: int, start: int = 0
    ) -> None:
        self._augmentation, self._canvas_size, self._seed = augmentation, canvas_size, seed
        self._block, skipped = divmod(start, _VIEW_BLOCK)
        self._ahead = self._draw_block()[skipped:]

    def take(self, n: int) -> Views:
        """Return the next ``n`` views."""
        while len(self._ahead) < n:
            self._ahead = _joined(self._ahead, self._draw_block())
        taken, self._ahead = self._ahead[:n], self._ahead[n:]
        return taken

    def _draw_block(self) -> Views:
        generator = numbered_generator(self._seed, self._block)
        self._block += 1
        return self._augmentation.draw(_VIEW_BLOCK, self._canvas_size, generator)


def _joined(first: Views, second: Views) -> Views:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Views))
    return Views(*map(torch.cat, pairs))


def resolve_augmentation(
    augmentation: str | StandardAugmentation | None,
) -> StandardAugmentation | None:
    """Turn an ``augmentation=`` parameter into a checked object, or None."""
    if isinstance(augmentation, str):
        augmentation = StandardAugmentation(blur={"standard": 0.0, "blurred": 0.5}[augmentation])
    if augmentation is not None:
        augmentation.check()
    return augmentation


def describe_augmentation(augmentation: StandardAugmentation | None) -> dict[str, Any] | None:
    """Return what the views of an augmentation depend on, its class included."""
    if augmentation is None:
        return None
    kind = type(augmentation)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **augmentation.get_params()}
