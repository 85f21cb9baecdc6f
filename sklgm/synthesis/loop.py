"""The optimisation, as a generator of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sklgm.matching import RealGradients, matching_loss
from sklgm.matching.gradients import Matching
from sklgm.synthesis.augmentation import StandardAugmentation, Views, centre_views
from sklgm.synthesis.parametrization import Synthetic


@dataclass(frozen=True)
class Step:
    """What one step of the loop reports.

    Attributes
    ----------
    index : int
        From 0.
    loss : Tensor of shape ()
        Angular distance before the step; it stays on the device until read.
    learning_rate : float
        Rate the step was taken with.
    """

    index: int
    loss: Tensor
    learning_rate: float


@dataclass(frozen=True)
class Embedding:
    """How synthetic samples become the features that are matched.

    Attributes
    ----------
    features : callable
        Differentiable map of pixels (n, 3, s, s) in [0, 1], or of rows, to features (n, d).
        It must treat its samples independently.
    image_size : int or None
        Side ``s`` the map takes; None for rows.
    augmentation : StandardAugmentation or None
        How views of the samples are made; None embeds the centre crop of images, and rows as
        they are.
    n_views : int
        Views of each sample in a step; 1 without augmentation.
    batch_size : int
        Views that pass the net at once. Peak memory follows it.
    """

    features: Callable[[Tensor], Tensor]
    image_size: int | None
    augmentation: StandardAugmentation | None
    n_views: int
    batch_size: int


def cosine_rate(step: int, max_iter: int, start: float) -> float:
    """Return the learning rate of a step: half a cosine from ``start`` towards 0."""
    return start * 0.5 * (1 + math.cos(math.pi * step / max_iter))


def micro_batches(n: int, batch_size: int) -> list[slice]:
    """Return slices that cover ``n`` rows, ``batch_size`` or fewer each."""
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def synthesize(
    synthetic: Synthetic,
    labels: Tensor,
    gradients: RealGradients,
    embedding: Embedding,
    *,
    max_iter: int,
    learning_rate: float,
    n_heads: int,
    matching: Matching,
    generator: torch.Generator,
) -> Iterator[Step]:
    """Optimise synthetic samples until their gradient points where the real one does.

    Each step draws heads from the pool and views of the samples, and takes one step of Adam
    along the gradient of the angular distance. To stop early is to stop iterating.

    Parameters
    ----------
    synthetic : Synthetic
        Changed in place.
    labels : Tensor of shape (n,)
        Class index of each sample, int64, on the samples' device.
    gradients : RealGradients
        What to match.
    embedding : Embedding
        From samples to features.
    max_iter : int
        Number of steps.
    learning_rate : float
        Of the first step; it falls to 0 by a cosine.
    n_heads : int
        Heads compared in a step.
    matching : {"global", "row"}
        As in :func:`sklgm.matching.angular_distance`.
    generator : torch.Generator
        On the CPU; draws heads and views.

    Yields
    ------
    Step
        After each step.
    """
    if gradients.is_empty:
        raise ValueError("gradients are empty: nothing to match.")
    optimizer = torch.optim.Adam(synthetic.parameters, lr=learning_rate)
    for index in range(max_iter):
        if synthetic.grow(index):
            # Levels that exist keep their moments.
            optimizer.add_param_group({"params": [synthetic.parameters[-1]]})
        rate = cosine_rate(index, max_iter, learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = torch.randperm(gradients.head_pool_size, generator=generator)[:n_heads].numpy()
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            samples = synthetic.decode()
            loss = backward(samples, labels, gradients, chosen, embedding, matching, generator)
        optimizer.step()
        yield Step(index, loss, rate)


def backward(
    samples: Tensor,
    labels: Tensor,
    gradients: RealGradients,
    heads: np.ndarray,
    embedding: Embedding,
    matching: Matching,
    generator: torch.Generator,
) -> Tensor:
    """Back-propagate the matching loss through ``samples`` and return it.

    In two phases, when the views do not fit into one batch: all views are embedded without
    a graph, the loss and its derivative by the features are computed in closed form, and each
    micro-batch is embedded once more, with a graph, to take its share of the derivative back to
    the samples. The second phase sees the same views as the first.

    Parameters
    ----------
    samples : Tensor of shape (n, 3, canvas, canvas) or (n, d)
        Decoded samples, with a graph to their parameters.
    labels, gradients, embedding, matching, generator
        As in :func:`synthesize`.
    heads : ndarray of shape (n_heads,)
        Indices into the pool.

    Returns
    -------
    Tensor of shape ()
        The loss, detached.
    """
    still = samples.detach()
    n_views = embedding.n_views
    views: Views | None = None
    if embedding.augmentation is not None:
        views = embedding.augmentation.draw(len(samples) * n_views, samples.shape[-1], generator)

    def embed(rows: slice) -> tuple[Tensor, Tensor, slice]:
        # A leaf for just the samples these views are of: its gradient is no larger than they are.
        owned = slice(rows.start // n_views, -(-rows.stop // n_views))
        leaf = still[owned].requires_grad_()
        if embedding.image_size is None:
            return embedding.features(leaf), leaf, owned
        if views is None or embedding.augmentation is None:
            pixels = centre_views(leaf, embedding.image_size)
        else:
            # Repeated by expansion, whose gradient is a sum; that of indexing is not deterministic.
            images = leaf[:, None].expand(-1, n_views, -1, -1, -1).flatten(0, 1)
            first = owned.start * n_views
            images = images[rows.start - first : rows.stop - first]
            pixels = embedding.augmentation.apply(images, views[rows], embedding.image_size)
        return embedding.features(pixels), leaf, owned

    parts = micro_batches(len(samples) * n_views, embedding.batch_size)
    with torch.set_grad_enabled(len(parts) == 1):
        embedded = [embed(part) for part in parts]
    features = torch.cat([part_features for part_features, _, _ in embedded])
    chosen = torch.as_tensor(heads, device=still.device)
    loss, derivative = matching_loss(
        features.detach(),
        labels.repeat_interleave(n_views),
        gradients.heads.take(heads, still.device),
        gradients.sums.to(still.device)[chosen],
        matching,
    )
    by_samples = torch.zeros_like(still)
    for part in parts:
        part_features, leaf, owned = embedded[0] if len(parts) == 1 else embed(part)
        part_features.backward(derivative[part])
        if leaf.grad is not None:
            by_samples[owned] += leaf.grad
    samples.backward(by_samples)
    return loss
