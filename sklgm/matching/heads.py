"""The pool of random linear heads on which gradients are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sklgm.matching.moving import to_device

# A pool smaller than this is kept once drawn; a larger one is drawn again, chunk by chunk.
_KEEP_BYTES = 2**28


def numbered_generator(seed: int, number: int) -> torch.Generator:
    """Return one of a seed's many generators, on the CPU: any can be had without the others.

    Parameters
    ----------
    seed, number : int
        Non-negative.

    Returns
    -------
    torch.Generator
        At its start.
    """
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class RandomHeads(BaseEstimator):
    """Which random linear heads gradients are compared on.

    Parameters
    ----------
    n_heads : int, default=32
        Heads compared in a step, drawn from the pool.
    pool_size : int, default=256
        Heads altogether. Gradients of the real data are summed for each of them.
    scale : float, default=0.01
        Standard deviation of the heads' weights.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "pool_size": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_heads: int = 32, pool_size: int = 256, scale: float = 0.01) -> None:
        self.n_heads = n_heads
        self.pool_size = pool_size
        self.scale = scale


# A head of zeros gives all classes the same probability; one of them is like the other.
ZERO_HEADS = RandomHeads(n_heads=1, pool_size=1, scale=0.0)


@dataclass(frozen=True)
class HeadPool:
    """Heads ``W ~ N(0, scale^2)`` that are a pure function of a seed.

    Each head is drawn from its own stream on the CPU, so any device or shard that knows the seed
    has the same heads, and any subset can be drawn without the rest. They are equal bit for bit
    on processors with the same vector instructions, and to rounding on others.

    Parameters
    ----------
    size : int
        Number of heads.
    n_classes, n_features : int
        Shape of a head.
    scale : float
        Standard deviation of the weights.
    seed : int
        Non-negative.
    """

    size: int
    n_classes: int
    n_features: int
    scale: float
    seed: int
    _kept: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def take(self, indices: slice | np.ndarray, device: torch.device | str = "cpu") -> Tensor:
        """Return some heads.

        Parameters
        ----------
        indices : slice or int array of shape (k,)
            Which heads, each in [0, size).
        device : torch.device or str, default="cpu"
            Where they are needed.

        Returns
        -------
        Tensor of shape (k, n_classes, n_features)
            float32.
        """
        device = torch.device(device)
        if 4 * self.size * self.n_classes * self.n_features > _KEEP_BYTES:
            return to_device(self._draw(np.arange(self.size)[indices]), device)
        if device not in self._kept:
            self._kept[device] = self._draw(np.arange(self.size)).to(device)
        if isinstance(indices, slice):
            return self._kept[device][indices]
        return self._kept[device][to_device(torch.from_numpy(indices), device)]

    def _draw(self, indices: np.ndarray) -> Tensor:
        heads = torch.empty(len(indices), self.n_classes, self.n_features)
        for head, index in zip(heads, indices, strict=True):
            head.normal_(0, self.scale, generator=numbered_generator(self.seed, int(index)))
        return heads

    def __getstate__(self) -> dict[str, object]:
        # The kept heads can be drawn again.
        return {**self.__dict__, "_kept": {}}
