"""The processes of one job of torch.distributed, among which synthetic samples are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Place of a process, ``rank``, among the ``size`` ones of its job, counted from 0.

    Every method that sends anything must be called by all of them, in the same order.
    """

    rank: int
    size: int

    @classmethod
    def of_group(cls) -> Ranks:
        """Return this process's place in the default group, which must send from the CPU."""
        there = distributed.is_available() and distributed.is_initialized()
        if not there or "cpu" not in distributed.get_backend_config():
            raise ValueError(
                "distributed=True needs a process group of torch.distributed that can send from "
                "the CPU. Start the command with `torchrun -m sklgm`, call "
                "torch.distributed.init_process_group('cpu:gloo,cuda:nccl') first, or leave "
                "distributed=False."
            )
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, n: int) -> slice:
        """Return which of ``n`` things belong to this process: consecutive ones, perhaps none."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def gather(self, own: Tensor, n: int, rows_each: int = 1) -> Tensor:
        """Return the rows of all ``n`` things, ``rows_each`` of each, in every process.

        ``own`` has the rows of this process's :meth:`share`.
        """
        if self.size == 1:
            return own
        shares = [Ranks(rank, self.size).share(n) for rank in range(self.size)]
        counts = [(share.stop - share.start) * rows_each for share in shares]
        # Collectives want tensors of one shape: shorter shares are filled up.
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def add(self, own: Tensor) -> None:
        """Add a tensor, of one shape in all processes, up over them, in place."""
        if self.size > 1:
            distributed.all_reduce(own)

    def tell(self, value: T) -> T:
        """Return the first process's value, which can be pickled, in every process."""
        if self.size == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        return told[0]

    def collect(self, own: T) -> list[T]:
        """Return the objects of all processes, which can be pickled, in the order of ranks."""
        found = [own] * self.size
        if self.size > 1:
            distributed.all_gather_object(found, own)
        return found


ALONE = Ranks(0, 1)
