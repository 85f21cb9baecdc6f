"""Streams of random views, and what an ``augmentation=`` parameter means."""

from dataclasses import fields
from typing import Any

import joblib
import torch
from torch import Tensor

from sklgm.matching.heads import numbered_generator
from sklgm.synthesis import Augmentation, StandardAugmentation

# Views drawn at once, from a generator of their own, whatever number is asked for.
_VIEW_BLOCK = 1024


class ViewStream:
    """A stream of random views, which are the same however many are taken at once.

    The first ``start`` of them are skipped, most of which are never drawn.
    """

    def __init__(
        self, augmentation: Augmentation, canvas_size: int, seed: int, start: int = 0
    ) -> None:
        self._augmentation, self._canvas_size, self._seed = augmentation, canvas_size, seed
        self._block, skipped = divmod(start, _VIEW_BLOCK)
        self._ahead = self._draw_block()[skipped:]

    def take(self, n: int) -> Any:
        """Return the next ``n`` views."""
        while len(self._ahead) < n:
            self._ahead = _joined(self._ahead, self._draw_block())
        taken, self._ahead = self._ahead[:n], self._ahead[n:]
        return taken

    def _draw_block(self) -> Any:
        generator = numbered_generator(self._seed, self._block)
        self._block += 1
        return self._augmentation.draw(_VIEW_BLOCK, self._canvas_size, generator)


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return first + second
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    parts = (torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(first))
    return type(first)(*parts)


def resolve_augmentation(augmentation: str | Augmentation | None) -> Augmentation | None:
    """Turn an ``augmentation=`` parameter into a checked object, or None."""
    if isinstance(augmentation, str):
        augmentation = StandardAugmentation(blur={"standard": 0.0, "blurred": 0.5}[augmentation])
    if isinstance(augmentation, StandardAugmentation):
        augmentation.check()
    return augmentation


def describe_augmentation(augmentation: Augmentation | None) -> dict[str, Any] | None:
    """Return what the views of an augmentation depend on, its class included."""
    if augmentation is None:
        return None
    kind = type(augmentation)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if hasattr(augmentation, "get_params"):
        return {"class": name, **augmentation.get_params()}
    return {"class": name, "hash": joblib.hash(augmentation.__getstate__())}
