"""Soft labels of prototypes: the probabilities that a teacher of the real data gives them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sklgm.checkpoint.memory import cached
from sklgm.estimators.bank import embed_views
from sklgm.matching import RealGradients
from sklgm.matching.discriminant import discriminant_head, discriminant_probabilities
from sklgm.passes.real_pass import RealPass
from sklgm.passes.shards import leave_out_zeros
from sklgm.synthesis import Augmentation, StandardAugmentation

# Share of the teacher in a soft label; the class itself has the rest. By the teacher alone a probe
# would favour the classes of those images that the teacher is surest of.
_TEACHER = 0.5
# Seed of the views. Any will do, and one for all lets selections of the same data share a cache.
_SEED = 0


def real_moments(
    encoder: Any,
    device: torch.device,
    source: Any,
    indices: np.ndarray,
    weights: np.ndarray,
    memory: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a teacher knows of real data that no distiller has passed over.

    That is means and covariance, as :func:`teach` takes them, of the centre crop and a random view
    of each sample: of crops alone the teacher would not know the views that it is asked about. It
    is kept in ``memory``, for other selections of the same images. Classes count alike.
    """

    def compute() -> tuple[np.ndarray, np.ndarray]:
        counts = np.bincount(indices, weights)
        sums = RealGradients(
            range(len(counts)), class_counts=counts, head_pool_size=1, store_covariance=True
        )
        real_pass = RealPass(encoder, device, StandardAugmentation(), 1, seed=_SEED)
        real_pass.add(sums, *leave_out_zeros(source, indices, weights))
        return sums.class_moments()

    if isinstance(source, np.ndarray):
        return compute()
    of_data = indices, weights
    return cached(
        memory, lambda: ("class-moments", source.fingerprint(), encoder.key, *of_data), compute
    )


def teach(
    moments: Sequence[tuple[np.ndarray, np.ndarray]],
    encoders: Sequence[Any],
    prototypes: np.ndarray,
    labels: np.ndarray,
    augmentation: Augmentation | None,
) -> np.ndarray:
    """Return soft labels (n, n_classes), float32 of sum 1: half of each is what teachers say.

    The other half is the class of each prototype, as in distillation of knowledge [1]_.

    ``moments`` are what the teacher of each backbone knows of the real data: the class means and
    the covariance within classes. ``prototypes`` are images (n, canvas, canvas, 3), float32 in
    [0, 1], or rows, and ``labels`` the indices of their classes. ``augmentation`` makes the random
    views, as many as a probe trains on by default; None takes the centre crop alone.

    References
    ----------
    .. [1] G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    means = []
    for encoder, known in zip(encoders, moments, strict=True):
        head = discriminant_head(*known)
        bank = embed_views(prototypes, encoder, augmentation, "auto", _SEED, None)
        means.append([discriminant_probabilities(views, *head).mean(axis=0) for views in bank])
    taught = np.mean(means, axis=0)
    return (_TEACHER * taught + (1 - _TEACHER) * np.eye(taught.shape[1])[labels]).astype(np.float32)
