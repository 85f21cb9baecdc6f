"""The processes of one job of torch.distributed, among which synthetic samples are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Place of a process among those of its job.

    Every method that sends anything must be called by all of them, in the same order.

    Parameters
    ----------
    rank : int
        Number of this process, counted from 0.
    size : int
        Number of processes.
    """

    rank: int
    size: int

    @classmethod
    def of_group(cls) -> Ranks:
        """Return this process's place in the default process group.

        Raises
        ------
        ValueError
            If there is no group, or it cannot send from the CPU.
        """
        there = distributed.is_available() and distributed.is_initialized()
        if not there or "cpu" not in distributed.get_backend_config():
            raise ValueError(
                "distributed=True needs a process group of torch.distributed that can send from "
                "the CPU. Start the command with `torchrun -m sklgm`, call "
                "torch.distributed.init_process_group('cpu:gloo,cuda:nccl') first, or leave "
                "distributed=False."
            )
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, n: int, rank: int | None = None) -> slice:
        """Return which of ``n`` things belong to a process: consecutive ones, about n / size.

        Parameters
        ----------
        n : int
            Things to share out.
        rank : int, optional
            The process; this one when not given.

        Returns
        -------
        slice
            It holds at most ``ceil(n / size)`` things, and may be empty.
        """
        rank = self.rank if rank is None else rank
        return slice(n * rank // self.size, n * (rank + 1) // self.size)

    def gather(self, own: Tensor, n: int, rows_each: int = 1) -> Tensor:
        """Return the rows of all things, of which each process has its share.

        Parameters
        ----------
        own : Tensor of shape (n_own * rows_each, ...)
            Rows of this process's things, as :meth:`share` has them.
        n : int
            Things altogether.
        rows_each : int, default=1
            Rows of each.

        Returns
        -------
        Tensor of shape (n * rows_each, ...)
            The same in every process.
        """
        if self.size == 1:
            return own
        shares = [self.share(n, rank) for rank in range(self.size)]
        counts = [(share.stop - share.start) * rows_each for share in shares]
        # Collectives want tensors of one shape: shorter shares are filled up.
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def add(self, own: Tensor) -> None:
        """Add a tensor up over all processes, in place.

        Parameters
        ----------
        own : Tensor
            It has the same shape in every process, and is on a device the group can send from.
        """
        if self.size > 1:
            distributed.all_reduce(own)

    def tell(self, value: T) -> T:
        """Return the first process's value, in every process.

        Parameters
        ----------
        value : object
            An object that can be pickled. Those of the other processes are ignored.

        Returns
        -------
        object
            Tensors in it are on the CPU.
        """
        if self.size == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        return told[0]

    def collect(self, own: T) -> list[T]:
        """Return the objects of all processes, in the order of their ranks.

        Parameters
        ----------
        own : object
            An object that can be pickled.

        Returns
        -------
        list
            The same in every process.
        """
        found = [own] * self.size
        if self.size > 1:
            distributed.all_gather_object(found, own)
        return found


ALONE = Ranks(0, 1)
