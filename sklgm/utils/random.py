"""Randomness that leaves the global generators of numpy and torch alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

_LOCK = threading.RLock()


def own_random_state(seed: Any) -> np.random.RandomState:
    """Return a generator for ``random_state``; None draws fresh entropy, not the global one."""
    return np.random.RandomState() if seed is None else check_random_state(seed)


@contextmanager
def own_rng() -> Iterator[None]:
    """Run with torch's CPU generator at a fixed seed, and leave it as it was."""
    import torch

    # torch.manual_seed would seed the GPU generators too.
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
