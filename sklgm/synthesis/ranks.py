"""The processes of one job of torch.distributed, among which synthetic samples are shared out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """Place of a process among those of its job.

    Every method that sends anything must be called by all of them, in the same order.

    Parameters
    ----------
    rank : int
        Of this process, from 0.
    size : int
        Number of processes.
    """

    rank: int
    size: int

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of the default process group; alone when there is none."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, n: int, rank: int | None = None) -> slice:
        """Return which of ``n`` things are a process's own: a run of them, as long as the others'.

        Parameters
        ----------
        n : int
            Things to share out.
        rank : int, optional
            The process; this one when not given.

        Returns
        -------
        slice
            Of at most ``ceil(n / size)``; perhaps empty.
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
            Of the same shape in every process, on a device the group can send from.
        """
        if self.size > 1:
            distributed.all_reduce(own)

    def decide(self, stop: bool) -> bool:
        """Return what the first process says, so that all go on or none does."""
        if self.size == 1:
            return stop
        answer = torch.tensor([int(stop)])
        self.agree(answer)
        return bool(answer.item())

    def tell(self, text: str) -> str:
        """Return the text of the first process.

        Parameters
        ----------
        text : str
            Anything in the other processes.

        Returns
        -------
        str
            The same in every process.
        """
        if self.size == 1:
            return text
        data = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        self.agree(length)
        if self.rank > 0:
            data = torch.zeros(int(length), dtype=torch.uint8)
        self.agree(data)
        return bytes(data.tolist()).decode()

    def agree(self, values: Tensor) -> None:
        """Replace a tensor by that of the first process, in place."""
        if self.size > 1:
            distributed.broadcast(values, src=0)


ALONE = Ranks(0, 1)
