"""The state of an interrupted fit: a file that the same fit, given again, goes on from."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sklgm._version import __version__
from sklgm.checkpoint.memory import folder_in, hash_each
from sklgm.matching.files import write_tensors
from sklgm.synthesis import BatchSize, Ranks
from sklgm.utils.files import WritingInterval, replacing

# Ctrl-C may arrive twice, from the terminal and from torchrun. One that comes later than this many
# seconds after the first is from someone who will not wait.
_SECONDS_OF_ONE = 2.0


def versions() -> list[Any]:
    """Return what results depend on bit for bit beside data and parameters."""
    return [__version__, torch.__version__, torch.get_num_threads()]


class FitState:
    """How far one fit has got, kept in a file from time to time.

    The file is named by everything that the result depends on, so that no other fit finds it. Two
    processes that run the same fit at the same time replace each other's file by one as good.
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
        self._path: Path | None = None
        self._interrupted = False
        folder = folder_in(memory, "interrupted")
        self._keeps = folder is not None
        found = None
        if folder is not None and ranks.rank == 0:
            self._path = folder / f"{hash_each([*versions(), ranks.size, *key()])}.safetensors"
            found = read_tensors(self._path, "The state of an interrupted fit", "the fit")
        found = ranks.tell(found)
        if found is not None:
            facts, self.loop = found
            self.losses = self.loop.pop("losses")
            self.stopped = facts["stopped"]
            for size, learnt in zip(sizes, facts["batch_sizes"], strict=True):
                vars(size).update(learnt)
        self._interval = WritingInterval()

    def after_step(
        self, state: Callable[[], dict[str, Tensor]], losses: Tensor, stop: bool
    ) -> bool:
        """Keep where the loop is, if it is time; return whether it is to end.

        Parameters
        ----------
        state : callable
            Returns the loop's state.
        losses : Tensor of shape (n,)
            Losses of the steps so far.
        stop : bool
            Whether this process would end here.

        Returns
        -------
        bool
            The same in every process. A loss that is not finite ends the loop too, where the
            file would be written.

        Raises
        ------
        KeyboardInterrupt
            If one was held back in any process. The step is kept then.
        """
        first = self.ranks.rank == 0
        due = first and self._keeps and self._interval.is_over()
        flags = torch.tensor([int(first and stop), int(due), int(self._interrupted)])
        self.ranks.add(flags)
        stop, due, interrupted = (bool(flag) for flag in flags.tolist())
        if not (due or interrupted):
            return stop
        is_finite = bool(losses.isfinite().all())  # or else nothing is worth keeping
        if is_finite:
            with self._interval.writing():
                tensors = {**state(), "losses": losses}  # all processes gather it
                if self._path is not None:
                    sizes = [vars(size) for size in self._sizes]
                    keep_tensors(self._path, {"stopped": stop, "batch_sizes": sizes}, tensors)
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

    def remove(self) -> None:
        """Remove the file: there is nothing more to go on with."""
        discard(self._path)


def read_tensors(
    path: Path, what: str, without: str
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return what was kept in a file; None if there is nothing, or nothing that can be read.

    Parameters
    ----------
    path : Path
        The file.
    what, without : str
        What it is, and what starts anew without it, for the warning.
    """
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            # Copies: what is mapped into memory would end with the file.
            return facts, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        reason = f"cannot be read, and {without} starts anew: {error}"
        warnings.warn(f"{what} in {str(path)!r} {reason}", stacklevel=2)
        return None


def keep_tensors(path: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a file in place of the one that is there, or warn and leave that."""
    on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            write_tensors(partial, on_cpu, {"facts": json.dumps(facts)})
    except OSError as error:
        warnings.warn(
            f"Work cannot be kept in {str(path)!r}: {error}. The fit goes on.", stacklevel=2
        )


def discard(path: Path | None) -> None:
    """Remove a file that work was kept in, if there is one."""
    if path is not None:
        # One that cannot be removed does no harm: from its end work comes to the same result.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
