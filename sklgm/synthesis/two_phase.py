"""Views of a step pass a frozen net, and their derivative comes back, in one phase or in two.

Two phases need less memory: a pass without a graph, and a second one in micro-batches with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from sklearn.utils import gen_batches
from torch import Tensor

from sklgm.matching import RealGradients
from sklgm.synthesis.augmentation import Augmentation, centre_views, mirror, mirrors
from sklgm.synthesis.batch_size import BatchSize
from sklgm.synthesis.state import LoopState


@dataclass(frozen=True)
class Objective:
    """The gradients to match on one backbone, and how samples become its features.

    Attributes
    ----------
    gradients : RealGradients
        The gradients to match.
    features : callable
        Differentiable map of pixels (n, 3, s, s) in [0, 1], or of rows, to features (n, d).
        It must treat its samples independently.
    image_size : int or None
        Side ``s`` of the pixels that the map takes; None for rows.
    batch_size : BatchSize
        Views that pass the net at once, on which the peak memory depends.
    centre_share : float
        Side of the centre crop as a share of the image's; 1 for rows.
    """

    gradients: RealGradients
    features: Callable[[Tensor], Tensor]
    image_size: int | None
    batch_size: BatchSize
    centre_share: float

    def heads_and_targets(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return heads of the pool (H, C, d) and the real gradient of each (H, C, d + 1)."""
        heads = self.gradients.heads.take(chosen, chosen.device)
        return heads, self.gradients.sums.to(chosen.device)[chosen]


@dataclass(frozen=True)
class StepViews:
    """The views that a step shows of each sample: its centre crop, then random ones.

    Attributes
    ----------
    augmentation : Augmentation or None
        It makes the random views. With None the plain centre crop is shown alone.
    drawn : sequence or None
        The draws of this process's samples, ``n_each`` of each. The first one of a sample only
        says whether its centre crop is mirrored.
    n_each : int
        Views of a sample, the centre crop included.
    """

    augmentation: Augmentation | None
    drawn: Any
    n_each: int

    @classmethod
    def draw(
        cls, augmentation: Augmentation | None, n_views: int, size: int, state: LoopState
    ) -> StepViews:
        """Draw views of all processes' samples, and keep those of this process's own.

        ``n_views`` are the random ones of a sample, and ``size`` is its side in pixels.
        """
        n_each = 1 + n_views
        if augmentation is None:
            return cls(None, None, n_each)
        drawn = augmentation.draw(state.n * n_each, size, state.generator)
        own = slice(state.own.start * n_each, state.own.stop * n_each)
        return cls(augmentation, drawn[own], n_each)

    def cut(self, images: Tensor, rows: slice, size: int, centre_share: float) -> Tensor:
        """Return the views numbered ``rows``, one of each of images (n, 3, canvas, canvas)."""
        centre = centre_views(images, size, centre_share)
        if self.augmentation is None:
            return centre
        crops = mirror(centre, self.drawn[rows]) if mirrors(self.augmentation) else centre
        is_crop = torch.arange(rows.start, rows.stop, device=images.device) % self.n_each == 0
        random = self.augmentation.apply(images, self.drawn[rows], size)
        return torch.where(is_crop[:, None, None, None], crops, random)


class _Embedded(NamedTuple):
    """Features of some views, with the graph back to the samples they are views of."""

    rows: slice
    features: Tensor
    leaf: Tensor
    owned: slice


class ViewPasses:
    """The passes of one step's views through one net, and of the derivative back.

    Where memory holds the graphs of all views, each passes once. Otherwise there are two phases:
    all are embedded without a graph, and each micro-batch is embedded once more, with a graph, to
    take its share of the derivative back to the samples. Both phases see the same views.

    ``samples`` (n, 3, canvas, canvas) or (n, d) are those of this process, without a graph.
    """

    def __init__(self, samples: Tensor, objective: Objective, views: StepViews) -> None:
        self.samples = samples
        self.objective = objective
        self.views = views
        self.n_rows = len(samples) * views.n_each
        self._graphs: deque[_Embedded] = deque()

    def embed(self) -> Tensor:
        """Return the features of all views, shape (n * n_each, d), without a graph."""
        return self.objective.batch_size.run(self._embed_all)

    def pull_back(self, by_features: Tensor, by_samples: Tensor) -> None:
        """Add to ``by_samples`` the derivative by the samples, given that by their features."""
        done = 0
        while done < self.n_rows:
            embedded = self.objective.batch_size.run(partial(self._go_back, done, by_features))
            if embedded.leaf.grad is not None:
                by_samples[embedded.owned] += embedded.leaf.grad
            done = embedded.rows.stop

    def _embed_all(self) -> Tensor:
        size = self.objective.batch_size
        self._graphs.clear()  # of a try that ran out of memory
        one_phase = self.n_rows <= max(size.images, size.graphs)
        features = self.samples.new_zeros(self.n_rows, self.objective.gradients.n_features)
        with torch.set_grad_enabled(one_phase):
            for rows in gen_batches(self.n_rows, size.images):
                embedded = self._embed(rows)
                features[rows] = embedded.features.detach()
                if one_phase:
                    self._graphs.append(embedded)
        return features

    def _go_back(self, start: int, by_features: Tensor) -> _Embedded:
        size = self.objective.batch_size
        try:
            if self._graphs:
                embedded = self._graphs.popleft()
            else:
                rows = slice(start, min(start + size.images, self.n_rows))
                with size.learning(rows.stop - rows.start, self.samples.device):
                    embedded = self._embed(rows)
            embedded.features.backward(by_features[embedded.rows])
        except RuntimeError:
            self._graphs.clear()  # what is left will be embedded again, in smaller parts
            raise
        return embedded

    def _embed(self, rows: slice) -> _Embedded:
        net, n_each = self.objective, self.views.n_each
        # A leaf for just the samples these views are of: its gradient is no larger than they are.
        owned = slice(rows.start // n_each, -(-rows.stop // n_each))
        leaf = self.samples[owned].requires_grad_()
        if net.image_size is None:
            return _Embedded(rows, net.features(leaf), leaf, owned)
        # Repeated by expansion, whose gradient is a sum; that of indexing is not deterministic.
        images = leaf[:, None].expand(-1, n_each, -1, -1, -1).flatten(0, 1)
        first = owned.start * n_each
        images = images[rows.start - first : rows.stop - first]
        shown = self.views.cut(images, rows, net.image_size, net.centre_share)
        return _Embedded(rows, net.features(shown), leaf, owned)
