"""The optimisation, as a generator of steps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklgm.matching import RealGradients, matching_loss
from sklgm.matching.gradients import Matching
from sklgm.matching.moving import to_device
from sklgm.synthesis.augmentation import StandardAugmentation, Views, centre_views, mirror
from sklgm.synthesis.batch_size import BatchSize
from sklgm.synthesis.parametrization import Synthetic
from sklgm.synthesis.ranks import ALONE, Ranks
from sklgm.synthesis.state import collect, restore

# Features of the views of this many earlier steps count in the synthetic gradient too: they cost
# no pass, and make it less noisy. None at first, when images change fast, and all from a fifth
# of the steps on.
_REMEMBERED = 4
# Weight of the centre crops' distance; that of the random views has the rest. Crops are the same in
# every step but for mirroring, so that little weight brings their gradient where it should be.
_CENTRE_SHARE = 0.2
# Adam averages over fewer steps than is usual, since gradients are averaged already.
_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class Step:
    """What one step of the loop reports.

    Attributes
    ----------
    index : int
        From 0.
    loss : Tensor of shape ()
        Loss before the step, random views of the steps before that still count included; it
        stays on the device until read.
    learning_rate : float
        Rate the step was taken with.
    state : callable
        Returns what the loop needs to go on after this step, a dict of tensors. To be called
        before the next step, and by all processes.
    """

    index: int
    loss: Tensor
    learning_rate: float
    state: Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Objective:
    """What is to be matched on one backbone, and how samples become its features.

    Attributes
    ----------
    gradients : RealGradients
        What to match.
    features : callable
        Differentiable map of pixels (n, 3, s, s) in [0, 1], or of rows, to features (n, d).
        It must treat its samples independently.
    image_size : int or None
        Side ``s`` the map takes; None for rows.
    batch_size : BatchSize
        Views that pass the net at once. Peak memory follows it.
    centre_share : float
        Side of the centre crop as a share of the image's; 1 for rows.
    """

    gradients: RealGradients
    features: Callable[[Tensor], Tensor]
    image_size: int | None
    batch_size: BatchSize
    centre_share: float


class _Embedded(NamedTuple):
    """Features of some views, with the graph back to the samples they are views of."""

    rows: slice
    features: Tensor
    leaf: Tensor
    owned: slice


def cosine_rate(step: int, max_iter: int, start: float) -> float:
    """Return the learning rate of a step: half a cosine from ``start`` towards 0."""
    return start * 0.5 * (1 + math.cos(math.pi * step / max_iter))


def micro_batches(n: int, batch_size: int) -> list[slice]:
    """Return slices that cover ``n`` rows, ``batch_size`` or fewer each."""
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def synthesize(
    synthetic: Synthetic,
    labels: Tensor,
    objectives: Sequence[Objective],
    *,
    augmentation: StandardAugmentation | None,
    n_views: int,
    max_iter: int,
    learning_rate: float,
    n_heads: int,
    matching: Matching,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
    resume: Mapping[str, Tensor] | None = None,
) -> Iterator[Step]:
    """Optimise synthetic samples until their gradient points where the real one does.

    Each step draws heads from the pools and views of the samples, the same for every objective,
    and takes one step of Adam along the gradient of the summed angular distances. To stop early
    is to stop iterating.

    Parameters
    ----------
    synthetic : Synthetic
        Changed in place. With several processes, this one's share of the samples.
    labels : Tensor of shape (n,)
        Class index of each sample, of all processes, int64, on the samples' device.
    objectives : sequence of Objective
        One for each backbone. Their gradients are of the same classes and pool size.
    augmentation : StandardAugmentation or None
        How random views of the samples are made, and whether centre crops are mirrored; None
        embeds the plain centre crop of images, and rows as they are.
    n_views : int
        Random views of each sample in a step, beside its centre crop; 0 without augmentation.
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
    ranks : Ranks, optional
        Processes that share the samples out among them: each embeds views of its own, and all
        features are gathered. They must draw the same numbers.
    resume : mapping of str to Tensor, optional
        State of a step of a loop with the same arguments, to go on after it. Everything else is
        given as at the start.

    Returns
    -------
    iterator of Step
        Each comes after its step.

    Raises
    ------
    ValueError
        If there is nothing to match.
    """
    if any(objective.gradients.is_empty for objective in objectives):
        raise ValueError("gradients are empty: nothing to match.")
    fused = labels.device.type == "cuda"
    optimizer = torch.optim.Adam(
        synthetic.parameters, lr=learning_rate, betas=_BETAS, fused=fused or None
    )
    recent: list[deque[Tensor]] = [deque() for _ in objectives]
    first = 0
    if resume is not None:
        own = ranks.share(len(labels))
        first = restore(resume, synthetic, optimizer, recent, generator, own)

    def steps() -> Iterator[Step]:
        for index in range(first, max_iter):
            if synthetic.grow(index):
                # Levels that exist keep their moments.
                optimizer.add_param_group({"params": [synthetic.parameters[-1]]})
            rate = cosine_rate(index, max_iter, learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            pool_size = objectives[0].gradients.head_pool_size
            chosen = torch.randperm(pool_size, generator=generator)[:n_heads].numpy()
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                samples = synthetic.decode()
                loss, features = backward(
                    samples,
                    labels,
                    objectives,
                    chosen,
                    recent=recent,
                    augmentation=augmentation,
                    n_views=n_views,
                    matching=matching,
                    generator=generator,
                    ranks=ranks,
                )
            optimizer.step()
            if n_views:
                for past, now in zip(recent, features, strict=True):
                    past.append(now)
                    while len(past) > min(_REMEMBERED, 5 * _REMEMBERED * index // max_iter):
                        past.popleft()
            moving = (synthetic, optimizer, recent, generator)
            state = partial(collect, index + 1, *moving, len(labels), ranks)
            yield Step(index, loss, rate, state)

    return steps()


def backward(
    samples: Tensor,
    labels: Tensor,
    objectives: Sequence[Objective],
    heads: np.ndarray,
    *,
    augmentation: StandardAugmentation | None,
    n_views: int,
    matching: Matching,
    generator: torch.Generator,
    recent: Sequence[Sequence[Tensor]] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, list[Tensor]]:
    """Back-propagate the summed matching losses through ``samples``.

    On each net, centre crops and random views make a gradient of their own, and the loss is a
    weighted mean of their two distances to the real one. A classifier that trains on one picture
    of each prototype sees the centre crop alone; in a common gradient it would be one view among
    many, and its features could be anywhere.

    One objective after the other, so that they never hold memory at once.

    Parameters
    ----------
    samples : Tensor of shape (n_own, 3, canvas, canvas) or (n_own, d)
        Decoded samples of this process, with a graph to their parameters.
    labels, objectives, augmentation, n_views, matching, generator, ranks
        As in :func:`synthesize`.
    heads : ndarray of shape (n_heads,)
        Indices into the pools.
    recent : sequence of sequences of Tensor of shape (n * n_views, d), optional
        For each objective, features of earlier steps' random views, which count in their gradient
        too.

    Returns
    -------
    loss : Tensor of shape ()
        The sum of the losses, detached.
    features : list of Tensor of shape (n * n_views, d)
        Of this step's random views, of all processes, for each objective, detached.
    """
    still = samples.detach()
    # The first draw of a sample is for its centre crop, the others are its random views.
    n_drawn = 1 + n_views
    views: Views | None = None
    if augmentation is not None:
        views = augmentation.draw(len(labels) * n_drawn, samples.shape[-1], generator)
        own = ranks.share(len(labels))
        views = views[own.start * n_drawn : own.stop * n_drawn]

    def cut(images: Tensor, rows: slice, size: int, centre_share: float) -> Tensor:
        centre = centre_views(images, size, centre_share)
        if views is None or augmentation is None:
            return centre
        crops = mirror(centre, views[rows])
        is_crop = torch.arange(rows.start, rows.stop, device=images.device) % n_drawn == 0
        random = augmentation.apply(images, views[rows], size)
        return torch.where(is_crop[:, None, None, None], crops, random)

    by_samples = torch.zeros_like(still)
    losses, features = [], []
    for objective, past in zip(objectives, recent or [()] * len(objectives), strict=True):
        loss, seen = _add_derivative(
            by_samples, still, labels, objective, heads, cut, n_drawn, matching, past, ranks
        )
        losses.append(loss)
        features.append(seen)
    if len(samples):
        samples.backward(by_samples)
    return torch.stack(losses).sum(), features


def _add_derivative(
    by_samples: Tensor,
    samples: Tensor,
    labels: Tensor,
    objective: Objective,
    heads: np.ndarray,
    cut: Callable[[Tensor, slice, int, float], Tensor],
    n_drawn: int,
    matching: Matching,
    recent: Sequence[Tensor],
    ranks: Ranks,
) -> tuple[Tensor, Tensor]:
    """Add the derivative of one objective by the samples; return its loss and the features.

    In two phases, when memory does not hold the graphs of all views: all are embedded without
    a graph, the loss and its derivative by the features are computed in closed form, and each
    micro-batch is embedded once more, with a graph, to take its share of the derivative back to
    the samples. The second phase sees the same views as the first.
    """
    size, device = objective.batch_size, samples.device
    n_own = len(samples) * n_drawn

    def embed(rows: slice) -> _Embedded:
        # A leaf for just the samples these views are of: its gradient is no larger than they are.
        owned = slice(rows.start // n_drawn, -(-rows.stop // n_drawn))
        leaf = samples[owned].requires_grad_()
        if objective.image_size is None:
            return _Embedded(rows, objective.features(leaf), leaf, owned)
        # Repeated by expansion, whose gradient is a sum; that of indexing is not deterministic.
        images = leaf[:, None].expand(-1, n_drawn, -1, -1, -1).flatten(0, 1)
        first = owned.start * n_drawn
        images = images[rows.start - first : rows.stop - first]
        views = cut(images, rows, objective.image_size, objective.centre_share)
        return _Embedded(rows, objective.features(views), leaf, owned)

    def embed_all() -> tuple[Tensor, deque[_Embedded]]:
        one_phase = n_own <= max(size.images, size.graphs)
        graphs: deque[_Embedded] = deque()
        features = samples.new_zeros(n_own, objective.gradients.n_features)
        with torch.set_grad_enabled(one_phase):
            for rows in micro_batches(n_own, size.images):
                embedded = embed(rows)
                features[rows] = embedded.features.detach()
                if one_phase:
                    graphs.append(embedded)
        return features, graphs

    def go_back(start: int) -> _Embedded:
        try:
            if graphs:
                embedded = graphs.popleft()
            else:
                rows = slice(start, min(start + size.images, n_own))
                with size.learning(rows.stop - rows.start, device):
                    embedded = embed(rows)
            embedded.features.backward(by_features[embedded.rows])
        except RuntimeError:
            graphs.clear()  # what is left will be embedded again, in smaller parts
            raise
        return embedded

    features, graphs = size.run(embed_all)
    features = ranks.gather(features, len(labels), n_drawn)
    own = ranks.share(len(labels))
    chosen = to_device(torch.from_numpy(heads), device)
    loss, by_features, random = _distance(
        features.view(len(labels), n_drawn, features.shape[-1]),
        labels,
        objective.gradients.heads.take(heads, device),
        objective.gradients.sums.to(device)[chosen],
        matching,
        recent,
        own,
    )
    done = 0
    while done < n_own:
        embedded = size.run(partial(go_back, done))
        if embedded.leaf.grad is not None:
            by_samples[embedded.owned] += embedded.leaf.grad
        done = embedded.rows.stop
    return loss, random


def _distance(
    features: Tensor,
    labels: Tensor,
    heads: Tensor,
    targets: Tensor,
    matching: Matching,
    recent: Sequence[Tensor],
    own: slice,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distance of all views (n, n_drawn, d), its derivative and the random views.

    The derivative is that of the views of ``own`` samples, shape (n_own * n_drawn, d).
    """
    crops, views = features[:, 0], features[:, 1:]
    n_views = views.shape[1]
    loss, by_crops = matching_loss(crops, labels, heads, targets, matching, rows=own)
    random = views.flatten(0, 1)
    if n_views == 0:
        return loss, by_crops, random
    loss_of_views, by_views = matching_loss(
        torch.cat([random, *recent]),
        labels.repeat_interleave(n_views).repeat(1 + len(recent)),
        heads,
        targets,
        matching,
        rows=slice(own.start * n_views, own.stop * n_views),
    )
    by_crops = _CENTRE_SHARE * by_crops[:, None]
    by_views = (1 - _CENTRE_SHARE) * by_views.view(len(by_crops), n_views, features.shape[-1])
    loss = _CENTRE_SHARE * loss + (1 - _CENTRE_SHARE) * loss_of_views
    return loss, torch.cat([by_crops, by_views], dim=1).flatten(0, 1), random
