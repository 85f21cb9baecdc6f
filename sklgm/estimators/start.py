"""Where prototypes start: at the mean image of their class, or at real images near to the mean."""

from typing import Any

import numpy as np
import torch

from sklgm.backbones._several import resolve_first
from sklgm.estimators.base import FrozenBackboneEstimator, LabelledSamples
from sklgm.estimators.selectors.centroids import ClassCentroids
from sklgm.matching import RealGradients
from sklgm.passes.real_pass import take
from sklgm.synthesis import FeatureRows, Pixels, Pyramid, Synthetic

# Samples of a class, for each prototype, among which those to start at are looked for, so that a
# large data set is not passed twice. The mean of so many is near to that of all.
CANDIDATES = 100
# What learning_rate="auto" is, by init: to serve other nets, real images change slowly.
LEARNING_RATES = {"mean": 0.06, "nearest": 0.01}


def largest(encoders: list[Any]) -> Any:
    """Return the encoder of the backbone that asks for the largest images, as prototypes are."""
    return max(encoders, key=lambda encoder: encoder.backbone.canvas_size)


def resolve_parametrization(parametrization: Any) -> Any:
    """Return the object that a name stands for, and any other as it is."""
    if isinstance(parametrization, str):
        return {"pyramid": Pyramid, "pixels": Pixels}[parametrization]()
    return parametrization


def nearest_samples(
    distiller: Any, encoders: list[Any], samples: LabelledSamples, seed: int
) -> np.ndarray | None:
    """Return the samples nearest to the means of their classes, if a fit is to start at them.

    They are looked for by the first backbone of the distiller, among samples of which none has the
    weight 0, and are ordered by class: float32 images of the largest canvas, or rows. A ValueError
    says if a class has fewer samples than prototypes.
    """
    if distiller.init == "mean":
        return None
    source, classes, indices, weights = samples
    shared = (*FrozenBackboneEstimator._parameter_constraints, "prototypes_per_class")
    selector = ClassCentroids(**{name: getattr(distiller, name) for name in shared})
    selector.random_state = seed
    if distiller.backbone is not None:
        selector.backbone = resolve_first(distiller.backbone, distiller.image_size)
    if distiller.random_state is None:  # another fit would not find them again
        selector.memory = None
    state, most = np.random.RandomState(seed), CANDIDATES * distiller.prototypes_per_class
    counts = weights.copy()
    for own in (np.flatnonzero(indices == c) for c in range(len(classes))):
        if len(own) > most:
            # With replacement, so that one that is drawn more often counts more: it has the weight.
            times = state.multinomial(most, weights[own] / weights[own].sum())
            if np.count_nonzero(times) >= distiller.prototypes_per_class:
                counts[own] = times
    rows = np.flatnonzero(counts)
    selector.fit(take(source, rows), classes[indices[rows]], counts[rows])
    nearest = take(source, rows[selector.prototype_indices_])
    if distiller.backbone is None:
        return np.asarray(nearest)
    return largest(encoders).canvas_array(nearest)


def start_samples(
    distiller: Any,
    targets: list[RealGradients],
    encoders: list[Any],
    nearest: np.ndarray | None,
    n: int,
    own: slice,
    seed: int,
) -> Synthetic:
    """Return the samples that are optimised, those of this process alone: ``own`` of ``n``.

    They start at ``nearest``, or at the means of their classes that the targets hold.
    """
    device, generator = distiller._device(), torch.Generator().manual_seed(seed)
    given = None if nearest is None else torch.from_numpy(nearest)
    if distiller.backbone is None:
        mean, std = (torch.from_numpy(moment).to(device) for moment in targets[0].feature_moments())
        return FeatureRows(n, mean, std, generator, own, None if given is None else given.to(mean))
    around = None if given is None else given.permute(0, 3, 1, 2)
    size = largest(encoders).backbone.canvas_size
    if given is None:
        # Of the backbone that asks for the largest, so that their order does not matter.
        means = targets[encoders.index(largest(encoders))].mean_images()
        if means is not None:
            around = torch.from_numpy(means).repeat_interleave(n // len(means), dim=0)
    parametrization = resolve_parametrization(distiller.parametrization)
    return parametrization.start(n, size, distiller.max_iter, generator, device, around, own)
