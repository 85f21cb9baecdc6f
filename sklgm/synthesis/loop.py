"""The method: synthetic samples change until their gradient points where the real one does."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sklgm.matching import matching_loss
from sklgm.matching.gradients import Matching
from sklgm.matching.moving import to_device
from sklgm.synthesis.augmentation import Augmentation
from sklgm.synthesis.state import LoopState
from sklgm.synthesis.two_phase import Objective, StepViews, ViewPasses

# Features of the views of this many earlier steps count in the synthetic gradient too: they cost
# no pass, and make it less noisy. None at first, when images change fast, and all from a fifth
# of the steps on.
_REMEMBERED = 4
# Weight of the centre crops' distance; that of the random views has the rest. Crops are the same in
# every step but for mirroring, so that little weight brings their gradient where it should be.
_CROP_WEIGHT = 0.2


@dataclass(frozen=True)
class MatchingSettings:
    """How gradients are matched.

    Attributes
    ----------
    max_iter : int
        Number of steps.
    learning_rate : float
        Learning rate of the first step. It falls to 0 along a cosine.
    n_heads : int
        Heads compared in a step.
    n_views : int
        Random views of each sample in a step, beside its centre crop; 0 without augmentation.
    matching : {"global", "row"}
        See :func:`sklgm.matching.angular_distance`.
    augmentation : Augmentation or None
        It makes the random views, and says whether centre crops are mirrored. With None the plain
        centre crop of images is embedded, and rows are as they are.
    """

    max_iter: int
    learning_rate: float
    n_heads: int
    n_views: int
    matching: Matching
    augmentation: Augmentation | None


@dataclass(frozen=True)
class Step:
    """What one step of the loop reports.

    Attributes
    ----------
    index : int
        Number of the step, counted from 0.
    loss : Tensor of shape ()
        Loss before the step. It includes the random views of earlier steps that still count, and
        stays on the device until it is read.
    state : callable
        Returns what the loop needs to go on after this step, as a dict of tensors. All processes
        must call it, before the next step.
    """

    index: int
    loss: Tensor
    state: Callable[[], dict[str, Tensor]]


@torch.enable_grad()
def match_gradients(
    state: LoopState, labels: Tensor, objectives: Sequence[Objective], settings: MatchingSettings
) -> Iterator[Step]:
    """Optimise synthetic samples until their gradient points where the real one does.

    Each step draws heads from the pools and views of the samples, the same for every objective,
    and takes one step of Adam against the gradient of the distances, summed over the objectives. A
    caller that stops iterating ends the optimisation early.

    Parameters
    ----------
    state : LoopState
        Samples, optimiser and generator, at the start or where another loop was stopped. They
        are changed in place. Of several processes each embeds the views of its own samples, and
        all features are gathered.
    labels : Tensor of shape (n,)
        Class index of each sample of all processes, int64, on the samples' device.
    objectives : sequence of Objective
        One for each backbone. Their gradients are of the same classes and pool size. The
        backbones are passed one after the other, so that their graphs never take memory at once.
    settings : MatchingSettings
        Steps, rate, heads and views.

    Yields
    ------
    Step
        A step, after it was taken.
    """
    synthetic, optimizer, ranks = state.synthetic, state.optimizer, state.ranks
    pool_size = objectives[0].gradients.head_pool_size
    for index in range(state.next_step, settings.max_iter):
        if synthetic.grow(index):
            # Levels that exist keep their moments. One group is one kernel on a GPU.
            optimizer.param_groups[0]["params"].append(synthetic.parameters[-1])
        cosine = math.cos(math.pi * index / settings.max_iter)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * 0.5 * (1 + cosine)
        optimizer.zero_grad()
        chosen = torch.randperm(pool_size, generator=state.generator)[: settings.n_heads]
        samples = synthetic.decode()
        chosen = to_device(chosen, samples.device)
        views = StepViews.draw(settings.augmentation, settings.n_views, samples.shape[-1], state)
        losses = []
        # The derivative of the loss by the samples. The nets only add to it; one backward pass
        # takes it from the samples to the parameters.
        slope = torch.zeros_like(samples)
        for objective, past in zip(objectives, state.recent, strict=True):
            passes = ViewPasses(samples.detach(), objective, views)
            features = ranks.gather(passes.embed(), state.n, views.n_each)
            features = features.view(state.n, views.n_each, -1)
            loss, by_features = distance_of_views(
                features, labels, objective, chosen, settings.matching, past, state.own
            )
            passes.pull_back(by_features, slope)
            losses.append(loss)
            # All that are remembered count from a fifth of the steps on.
            remember(past, features[:, 1:], 5 * _REMEMBERED * index // settings.max_iter)
        if len(samples):
            samples.backward(slope)
        optimizer.step()
        state.next_step = index + 1
        yield Step(index, torch.stack(losses).sum(), state.collect)


def remember(past: deque[Tensor], views: Tensor, most: int) -> None:
    """Append the features of a step's random views; drop the oldest while there are too many."""
    if views.shape[1]:
        past.append(views.flatten(0, 1))
        while len(past) > min(_REMEMBERED, most):
            past.popleft()


def distance_of_views(
    features: Tensor,
    labels: Tensor,
    objective: Objective,
    chosen: Tensor,
    matching: Matching,
    recent: Sequence[Tensor],
    own: slice,
) -> tuple[Tensor, Tensor]:
    """Return the weighted mean of two angular distances to the real gradient, and its derivative.

    Centre crops and random views make a gradient each. A classifier that trains on one picture
    of each prototype sees the centre crop alone; in a common gradient it would be one view among
    many, and its features could be anywhere.

    Features (n, n_each, d) of the views of all samples have the centre crop of each first. Those of
    earlier steps' random views, ``recent``, each (n * n_views, d), count in their gradient too.
    ``chosen`` are the heads of the pool that are compared. The derivative (n_own * n_each, d) is by
    the features of the views of the ``own`` samples.
    """
    heads, targets = objective.heads_and_targets(chosen)
    crops, views = features[:, 0], features[:, 1:]
    n_views = views.shape[1]
    loss, by_crops = matching_loss(crops, labels, heads, targets, matching, rows=own)
    if n_views == 0:
        return loss, by_crops
    loss_of_views, by_views = matching_loss(
        torch.cat([views.flatten(0, 1), *recent]),
        labels.repeat_interleave(n_views).repeat(1 + len(recent)),
        heads,
        targets,
        matching,
        rows=slice(own.start * n_views, own.stop * n_views),
    )
    by_crops = _CROP_WEIGHT * by_crops[:, None]
    by_views = (1 - _CROP_WEIGHT) * by_views.view(len(by_crops), n_views, features.shape[-1])
    loss = _CROP_WEIGHT * loss + (1 - _CROP_WEIGHT) * loss_of_views
    return loss, torch.cat([by_crops, by_views], dim=1).flatten(0, 1)
