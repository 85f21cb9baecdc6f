"""The state of an interrupted fit, from which the same fit, given again, goes on."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sklgm.checkpoint.kept_file import KeptFile
from sklgm.checkpoint.memory import folder_in
from sklgm.synthesis import BatchSize, Ranks

# Ctrl-C may arrive twice, from the terminal and from torchrun. One that comes later than this many
# seconds after the first is from someone who will not wait.
_SECONDS_OF_ONE = 2.0


class FitState(KeptFile):
    """How far one fit has got, kept in a file from time to time.

    Of several processes of one job the first reads and writes, and all must call the same methods
    in the same order.

    Parameters
    ----------
    memory : None, str, Path or joblib.Memory
        The cache that the file is a part of; None keeps nothing.
    key : callable
        Returns everything that the result depends on, as a list. It is called in the first process
        alone, and only with a memory.
    ranks : Ranks
        The processes of the job.
    sizes : sequence of BatchSize
        One of each backbone. What was found out about memory is set again.

    Attributes
    ----------
    loop : dict of str to Tensor, or None
        State of the loop after its last step; None at the start.
    losses : Tensor of shape (n,)
        Losses of the steps that were taken.
    stopped : bool
        Whether no step is to follow.
    """

    def __init__(
        self, memory: Any, key: Callable[[], list[Any]], ranks: Ranks, sizes: Sequence[BatchSize]
    ) -> None:
        self.ranks = ranks
        self.loop: dict[str, Tensor] | None = None
        self.losses = torch.zeros(0)
        self.stopped = False
        self._sizes = sizes
        self._interrupted = False
        self._keeps = folder_in(memory, "interrupted") is not None
        own = memory if ranks.rank == 0 else None
        super().__init__(own, "", lambda: [ranks.size, *key()])
        found = ranks.tell(self.read("The state of an interrupted fit", "the fit"))
        if found is not None:
            facts, self.loop = found
            self.losses = self.loop.pop("losses")
            self.stopped = facts["stopped"]
            for size, learnt in zip(sizes, facts["batch_sizes"], strict=True):
                vars(size).update(learnt)

    def after_step(
        self, state: Callable[[], dict[str, Tensor]], losses: Tensor, stop: bool
    ) -> bool:
        """Keep where the loop is, if it is time; return whether it is to end, in every process.

        ``state`` returns the loop's state, ``losses`` are those of the steps so far, and ``stop``
        says whether the first process would end here. A loss that is not finite ends the loop too,
        where the file would be written. A KeyboardInterrupt that was held back in any process is
        raised in all, after the step was kept.
        """
        stop = stop and self.ranks.rank == 0
        flags = torch.tensor([stop, self.is_due(), self._interrupted], dtype=torch.int64)
        self.ranks.add(flags)
        stop, due, interrupted = (bool(flag) for flag in flags.tolist())
        if not (due or interrupted):
            return stop
        is_finite = bool(losses.isfinite().all())  # or else nothing is worth keeping
        if is_finite:
            with self.interval.writing():
                tensors = {**state(), "losses": losses}  # all processes gather it
                sizes = [vars(size) for size in self._sizes]
                self.write({"stopped": stop, "batch_sizes": sizes}, tensors)
        if interrupted:
            self._interrupted = False
            raise KeyboardInterrupt(
                f"Interrupted after step {len(losses)}. The same fit with the same memory goes on "
                f"from the last step that could be kept."
            )
        return stop or not is_finite

    @contextmanager
    def holding_interrupts(self) -> Iterator[None]:
        """Hold back Ctrl-C until a step is done and kept, where it would raise KeyboardInterrupt.

        A second one is not held back, unless it comes within two seconds.
        """
        usual = signal.default_int_handler
        in_main_thread = threading.current_thread() is threading.main_thread()
        holds = self._keeps and in_main_thread and signal.getsignal(signal.SIGINT) is usual
        pressed: list[float] = []

        def hold(number: int, frame: Any) -> None:
            pressed.append(time.monotonic())
            if pressed[-1] - pressed[0] > _SECONDS_OF_ONE:
                usual(number, frame)
            self._interrupted = True

        if holds:
            signal.signal(signal.SIGINT, hold)
        try:
            yield
        finally:
            if holds:
                signal.signal(signal.SIGINT, usual)
        late = torch.tensor([int(self._interrupted)])
        self.ranks.add(late)  # all processes end here, or none does
        if bool(late):
            raise KeyboardInterrupt  # after the last step, too late to be kept
