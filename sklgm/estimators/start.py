"""Where prototypes start: at the mean image of their class, or at real images near to the mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sklgm.backbones._several import resolve_first
from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.selectors.centroids import ClassCentroids
from sklgm.matching import RealGradients
from sklgm.passes.real_pass import take
from sklgm.synthesis import FeatureRows, Pixels, Pyramid, Synthetic

# Samples of a class, for each prototype, among which those to start at are looked for, so that a
# large data set is not passed twice. The mean of so many is near to that of all.
CANDIDATES = 100
# What learning_rate="auto" is, by init: to serve other nets, real images change slowly.
LEARNING_RATES = {"mean": 0.06, "nearest": 0.01}


def canvas_sizes(encoders: list[Any]) -> list[int]:
    """Return the side each backbone asks for; prototypes have the largest."""
    return [encoder.backbone.canvas_size for encoder in encoders]


def resolve_parametrization(parametrization: Any) -> Any:
    """Return the object that a name stands for, and any other as it is."""
    if isinstance(parametrization, str):
        return {"pyramid": Pyramid, "pixels": Pixels}[parametrization]()
    return parametrization


def nearest_samples(
    distiller: Any,
    encoders: list[Any],
    source: Any,
    classes: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    seed: int,
) -> np.ndarray | None:
    """Return the samples nearest to the means of their classes, if a fit is to start at them.

    Parameters
    ----------
    distiller : LGMDistiller
        Its ``init`` says whether; its net, the first of several, is looked through.
    encoders : list of Encoder or RowEncoder
        Its backbones.
    source : ImageSource, or ndarray of shape (n_samples, n_features)
        Images or rows.
    classes : ndarray of shape (n_classes,)
        The classes.
    indices, weights : ndarray of shape (n_samples,)
        Class index and weight of each sample, none of which is 0.
    seed : int
        Seed of the choice.

    Returns
    -------
    ndarray of shape (n_prototypes, canvas, canvas, 3) or (n_prototypes, n_features), or None
        Ordered by class; images of the largest canvas of the backbones.

    Raises
    ------
    ValueError
        If a class has fewer samples than prototypes.
    """
    if distiller.init == "mean":
        return None
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
    sizes = canvas_sizes(encoders)
    return encoders[sizes.index(max(sizes))].canvas_array(nearest)


def start_samples(
    targets: list[RealGradients],
    encoders: list[Any],
    nearest: np.ndarray | None,
    parametrization: Any,
    *,
    max_iter: int,
    n: int,
    own: slice,
    seed: int,
    device: torch.device,
) -> Synthetic:
    """Return the samples that are optimised.

    Parameters
    ----------
    targets : list of RealGradients
        One for each backbone. They may hold mean images of the classes.
    encoders : list of Encoder or RowEncoder
        The backbones.
    nearest : ndarray of shape (n, canvas, canvas, 3) or (n, n_features), or None
        Real images or rows to start at; None is the means.
    parametrization : Pyramid, or another that `LGMDistiller` takes, or None
        What the images are made of; None for rows.
    max_iter : int
        Steps of the optimisation.
    n : int
        Number of samples, as many of each class.
    own : slice
        The samples of this process.
    seed : int
        Seed of what is random.
    device : torch.device
        Device of the samples.

    Returns
    -------
    Synthetic
        The samples ``own``.
    """
    generator = torch.Generator().manual_seed(seed)
    given = None if nearest is None else torch.from_numpy(nearest)
    if parametrization is None:
        mean, std = (torch.from_numpy(moment).to(device) for moment in targets[0].feature_moments())
        return FeatureRows(n, mean, std, generator, own, None if given is None else given.to(mean))
    sizes = canvas_sizes(encoders)
    if given is not None:
        around = given.permute(0, 3, 1, 2)
    else:
        # Of the backbone that asks for the largest, so that their order does not matter.
        means = targets[sizes.index(max(sizes))].mean_images()
        around = None
        if means is not None:
            around = torch.from_numpy(means).repeat_interleave(n // len(means), dim=0)
    return parametrization.start(n, max(sizes), max_iter, generator, device, around, own)
