"""The pass over the real data in shards, one for each worker of the joblib backend in use."""

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import joblib
import numpy as np
import torch
from joblib.parallel import LokyBackend, MultiprocessingBackend, get_active_backend

from sklgm.images import ImageSource
from sklgm.images.batches import with_others
from sklgm.images.source import DamagedImageError
from sklgm.matching import RealGradients
from sklgm.passes.real_pass import RealPass, take
from sklgm.synthesis import Ranks


def add_in_shards(
    real_pass: RealPass,
    gradients: RealGradients,
    source: ImageSource | np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray,
    start: int,
    devices: Sequence[torch.device],
    *,
    on_batch: Callable[[int], None] | None = None,
    kept: Any = None,
) -> RealGradients:
    """Return data added to empty gradients, in the processes that joblib was told to use.

    Where this process is the only worker, ``gradients`` are updated in place, and the pass is kept
    in ``kept``; sums that workers made are on the CPU. Loky's workers take the devices in turn.
    Workers of other backends may be on other computers, and all take the first. ``on_batch`` is
    called after each batch, or after each shard, with its number of samples. The other parameters
    are those of :meth:`RealPass.add`.
    """
    if len(y) == 0:  # a share of few images, or one whose weights are all 0
        return gradients
    n_shards = min(_n_workers(), len(y))
    if n_shards <= 1:
        real_pass.add(gradients, source, y, sample_weight, start, on_batch=on_batch, kept=kept)
        return gradients
    backend, _ = get_active_backend()
    if not isinstance(backend, LokyBackend):
        devices = devices[:1]
    tasks = []
    shares = [Ranks(i, n_shards).share(len(y)) for i in range(n_shards)]
    for i, rows in enumerate(shares):
        shard = (take(source, rows), y[rows], sample_weight[rows], start + rows.start)
        placed = replace(real_pass, device=devices[i % len(devices)])
        # Without arguments, since dask keeps a single copy of large ones, lost with its worker.
        tasks.append(joblib.delayed(partial(_add_shard, placed, gradients, *shard))())
    # One by one if possible, as results take memory.
    in_turn = getattr(backend, "supports_return_generator", False)
    total: Any = 0
    try:
        parts = joblib.Parallel(batch_size=1, return_as="generator" if in_turn else "list")(tasks)
        for part, rows in zip(parts, shares, strict=True):
            total = total + part
            if on_batch is not None:
                on_batch(rows.stop - rows.start)
    except DamagedImageError as error:  # a worker knows its own shard only
        raise with_others(error, cast(ImageSource, source)) from error
    return total


def leave_out_zeros(
    source: ImageSource | np.ndarray, y: np.ndarray, sample_weight: np.ndarray
) -> tuple[ImageSource | np.ndarray, np.ndarray, np.ndarray]:
    """Return data, labels and weights without the samples of weight 0."""
    if sample_weight.all():
        return source, y, sample_weight
    rows = np.flatnonzero(sample_weight)
    return take(source, rows), y[rows], sample_weight[rows]


def _n_workers() -> int:
    """Return how many processes joblib is to use; 1 is this one, without any help."""
    backend, _ = get_active_backend()
    shares_memory = any(getattr(backend, f, False) for f in ("uses_threads", "supports_sharedmem"))
    # Workers that "multiprocessing" forks would wait for ever for OpenMP's threads, which do not
    # survive a fork. Ray's backend is a subclass of that one, and forks nothing.
    forks = type(backend) is MultiprocessingBackend
    if shares_memory or forks or _is_in_dask_worker():
        return 1
    return joblib.effective_n_jobs(None)


def _is_in_dask_worker() -> bool:
    # joblib lets parallel calls of a dask worker go back to dask; of other workers it does not.
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _add_shard(real_pass: RealPass, empty: RealGradients, *shard: Any) -> RealGradients:
    """Return the gradients of a part of the data. This runs in a worker."""
    gradients = copy.deepcopy(empty)
    # Threads are counted anew: n_jobs=None is one in each worker.
    with joblib.parallel_config(backend="threading", n_jobs=1):
        real_pass.add(gradients, *shard)
    return gradients.to("cpu")
