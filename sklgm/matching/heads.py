"""The pool of random linear heads on which gradients are compared."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


def numbered_generator(seed: int, number: int) -> torch.Generator:
    """Return one of a seed's many generators, on the CPU: any can be had without the others."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


@dataclass(frozen=True)
class HeadPool:
    """Heads ``W ~ N(0, scale^2)`` of shape (n_classes, n_features), a pure function of a seed.

    Each head is drawn from its own stream on the CPU, so any device or shard that knows the seed
    has the same heads. They are equal bit for bit on processors with the same vector
    instructions, and to rounding on others. The pool is drawn when a device first asks for it,
    and kept there, where it takes as much memory as its gradients.
    """

    size: int
    n_classes: int
    n_features: int
    scale: float
    seed: int
    _kept: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def take(self, indices: slice | Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return the heads of some indices on a device, float32."""
        device = torch.device(device)
        if device not in self._kept:
            self._kept[device] = self._draw().to(device)
        return self._kept[device][indices]

    def _draw(self) -> Tensor:
        heads = torch.empty(self.size, self.n_classes, self.n_features)
        for number, head in enumerate(heads):
            head.normal_(0, self.scale, generator=numbered_generator(self.seed, number))
        return heads

    def __getstate__(self) -> dict[str, object]:
        # The kept heads can be drawn again.
        return {**self.__dict__, "_kept": {}}
