"""Where a fit has got to, kept in a file that a later fit goes on from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sklgm.checkpoint.file import partial_path, read_checkpoint, write_checkpoint
from sklgm.checkpoint.lock import FileLock
from sklgm.checkpoint.settings import describe_difference
from sklgm.matching import RealGradients
from sklgm.synthesis import BatchSize, Ranks

T = TypeVar("T")

# Between two files of a running fit.
_SECONDS = 60.0
# Where writing takes long, files are so much rarer that it takes a twentieth of the time.
_LEAST_TIMES = 20
# Ctrl-C may arrive twice, from the terminal and from torchrun; one that comes later than this
# is another one, from someone who will not wait.
_SECONDS_OF_ONE = 2.0


class Resumed(NamedTuple):
    """Where the loop goes on.

    Attributes
    ----------
    state : dict of str to Tensor, or None
        Of the loop; None at the start.
    losses : Tensor of shape (n,)
        Of the steps that were taken.
    stopped : bool
        Whether no step is to follow.
    """

    state: dict[str, Tensor] | None
    losses: Tensor
    stopped: bool


class Checkpoint:
    """The checkpoint of one fit, in every process of its job. The first one reads and writes.

    Without a path nothing is kept, and nothing was.

    Parameters
    ----------
    path : str, Path or None
        The file. Gradients of the real data are in others beside it, written once.
    ranks : Ranks
        The processes, all of which must call the same methods in the same order.
    """

    def __init__(self, path: str | os.PathLike[str] | None, ranks: Ranks) -> None:
        self.path = None if path is None else Path(path).absolute()
        self.ranks = ranks
        self._lock: FileLock | None = None
        self._header: dict[str, Any] = {"gradients": [], "seeds": None}
        self._tensors: dict[str, Tensor] = {}
        self._sizes: Sequence[BatchSize] = ()
        self._n_found = 0
        self._due = 0.0
        self._interrupted = False

    @contextmanager
    def opened(
        self, settings: Callable[[], dict[str, Any]], seeds: list[int]
    ) -> Iterator[Checkpoint]:
        """Lock the file, and take up what is in it or write a first one.

        Parameters
        ----------
        settings : callable
            Returns the settings of this fit. Called in the first process alone.
        seeds : list of int
            Those that were drawn.

        Yields
        ------
        Checkpoint
            This one. At the end the lock is gone; after an exception so is a file that holds
            nothing yet.

        Raises
        ------
        ValueError
            If the file is of another fit, damaged, or in use.
        OSError
            If it cannot be written.
        """
        if self.path is None:
            self._header["seeds"] = seeds
            yield self
            return
        try:
            self._together(lambda: self._open(settings(), seeds))
            self._header = json.loads(self.ranks.tell(json.dumps(self._header)))
            self._n_found = len(self._header["gradients"])
            try:
                yield self
            except BaseException:
                if not self._header["gradients"] and not self._has_steps():
                    self.finish()
                raise
        finally:
            if self._lock is not None:
                self._lock.release()

    @property
    def seeds(self) -> list[int]:
        """The seeds of this fit: those drawn when it was first begun."""
        return self._header["seeds"]

    def gradients(
        self, position: int, empty: RealGradients, compute: Callable[[], RealGradients]
    ) -> RealGradients:
        """Return the gradients of the real data that were kept; else compute and keep them.

        Parameters
        ----------
        position : int
            Of the backbone. They come in order.
        empty : RealGradients
            With the settings of what is computed.
        compute : callable
            Returns them.

        Returns
        -------
        RealGradients
            Of all the data.
        """
        if self.path is None:
            return compute()
        if position < self._n_found:
            return empty.filled(self._share(lambda: self._read_gradients(position)))
        result = compute()
        self._together(lambda: self._write_gradients(position, result))
        return result

    def resume(self, sizes: Sequence[BatchSize]) -> Resumed:
        """Return where the loop goes on.

        Parameters
        ----------
        sizes : sequence of BatchSize
            Of each backbone. Those that were found out then are set again.

        Returns
        -------
        Resumed
            At the start, if nothing was kept.
        """
        self._sizes = sizes
        self._due = time.monotonic() + _SECONDS
        if self.path is None or not self._has_steps():
            return Resumed(None, torch.zeros(0), False)
        tensors = self._share(lambda: self._tensors)
        self._tensors = {}
        for size, found in zip(sizes, self._header["batch_sizes"], strict=True):
            size.restore(found)
        losses = tensors.pop("losses")
        return Resumed(tensors, losses, self._header["stopped"])

    def after_step(
        self, state: Callable[[], dict[str, Tensor]], losses: Tensor, stop: bool
    ) -> bool:
        """Keep where the loop is, if it is time; return whether it is to end.

        Parameters
        ----------
        state : callable
            Returns the loop's state.
        losses : Tensor of shape (n,)
            Of the steps so far.
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
            If one was held back in any process. Everything is kept then.
        OSError
            If the file cannot be written. The one before is kept.
        """
        if self.path is None:
            return self.ranks.decide(stop)
        first = self._is_first()
        due = first and time.monotonic() >= self._due
        flags = torch.tensor([int(first and stop), int(due), int(self._interrupted)])
        self.ranks.add(flags)
        stop, due, interrupted = (bool(flag) for flag in flags.tolist())
        if due or interrupted:
            if not bool(losses.isfinite().all()):
                return True  # nothing is worth keeping
            start = time.monotonic()
            tensors = {**state(), "losses": losses}
            self._header |= {"stopped": stop}
            self._header["batch_sizes"] = [size.state for size in self._sizes]
            self._together(lambda: self._write(tensors))
            end = time.monotonic()
            self._due = end + max(_SECONDS, _LEAST_TIMES * (end - start))
        if interrupted:
            self._interrupted = False
            raise KeyboardInterrupt(
                f"Interrupted after step {len(losses)}, which is kept in {str(self.path)!r}. The "
                f"same fit goes on from there."
            )
        return stop

    @contextmanager
    def holding_interrupts(self) -> Iterator[None]:
        """Hold back Ctrl-C until a step is done and kept, where it would raise KeyboardInterrupt.

        A second one is not held back.
        """
        usual = signal.default_int_handler
        if (
            self.path is None
            or threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not usual
        ):
            yield
            return
        pressed: list[float] = []

        def hold(number: int, frame: Any) -> None:
            pressed.append(time.monotonic())
            if pressed[-1] - pressed[0] > _SECONDS_OF_ONE:
                usual(number, frame)
            self._interrupted = True

        signal.signal(signal.SIGINT, hold)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)
        if self._interrupted:
            raise KeyboardInterrupt  # after the last step, too late to be kept

    def finish(self) -> None:
        """Remove all files: there is nothing more to go on with."""
        if self.path is not None and self._is_first():
            # What cannot be removed does no harm: from its end a fit comes to the same result.
            with contextlib.suppress(OSError):
                self._remove(self.path)

    def _is_first(self) -> bool:
        return self.ranks.rank == 0

    def _has_steps(self) -> bool:
        return "batch_sizes" in self._header

    def _gradients_path(self, position: int) -> Path:
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.gradients{position}")

    def _open(self, settings: dict[str, Any], seeds: list[int]) -> None:
        assert self.path is not None
        if not self.path.parent.is_dir():
            raise ValueError(
                f"There is no folder {str(self.path.parent)!r} for the checkpoint. Make it, or "
                f"pass another path."
            )
        if self.path.is_dir():
            raise ValueError(
                f"checkpoint must be a file; {str(self.path)!r} is a folder. Pass a path in it."
            )
        try:
            self._lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        except OSError as error:
            raise OSError(
                f"The checkpoint {str(self.path)!r} cannot be written: {error}."
            ) from error
        if not self.path.exists():
            self._header |= {"settings": settings, "seeds": seeds}
            self._write({})
            return
        advice = f"Delete {str(self.path)!r}, or pass another path as checkpoint, to start anew."
        try:
            header, self._tensors = read_checkpoint(self.path)
        except ValueError as error:
            raise ValueError(f"{error} {advice}") from error
        kinds = {"settings": dict, "seeds": list, "gradients": list}
        lacking = [name for name, kind in kinds.items() if not isinstance(header.get(name), kind)]
        if lacking:
            raise ValueError(f"{str(self.path)!r} is damaged: it lacks {lacking[0]}. {advice}")
        different = describe_difference(header["settings"], settings)
        if different:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is of another fit: {different}. Give what it "
                f"was made with to go on from it. {advice}"
            )
        self._header = header

    def _write(self, tensors: dict[str, Tensor]) -> None:
        assert self.path is not None
        assert self._lock is not None
        self._lock.check()
        on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_checkpoint(self.path, self._header, on_cpu)

    def _write_gradients(self, position: int, gradients: RealGradients) -> None:
        assert self._lock is not None
        self._lock.check()
        digest = write_checkpoint(self._gradients_path(position), {}, gradients.tensors())
        self._header["gradients"].append(digest)
        self._write({})

    def _read_gradients(self, position: int) -> dict[str, Tensor]:
        path = self._gradients_path(position)
        try:
            return read_checkpoint(path, self._header["gradients"][position])[1]
        except ValueError as error:
            raise ValueError(
                f"{error} It belongs to the checkpoint {str(self.path)!r}. Delete that one, or "
                f"pass another path as checkpoint, to start anew."
            ) from error

    def _remove(self, path: Path) -> None:
        # The one that names the others first: none of them does harm without it.
        position = 0
        while path.exists() or partial_path(path).exists() or position == 0:
            path.unlink(missing_ok=True)
            shutil.rmtree(partial_path(path), ignore_errors=True)
            path = self._gradients_path(position)
            position += 1

    def _together(self, function: Callable[[], T]) -> T | None:
        """Call a function in the first process; raise what it raises in every one."""
        result, failed = None, None
        try:
            if self._is_first():
                result = function()
        except (ValueError, OSError) as error:
            failed = error
        if self.ranks.size > 1:
            told = [isinstance(failed, OSError), "" if failed is None else str(failed)]
            is_os_error, message = json.loads(self.ranks.tell(json.dumps(told)))
            if message and failed is None:
                failed = OSError(message) if is_os_error else ValueError(message)
        if failed is not None:
            raise failed
        return result

    def _share(self, read: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors that the first process reads, in every process."""
        tensors = self._together(read) or {}
        if self.ranks.size == 1:
            return tensors
        kinds = [(k, str(t.dtype).partition(".")[2], list(t.shape)) for k, t in tensors.items()]
        shared = {}
        for name, dtype, shape in json.loads(self.ranks.tell(json.dumps(kinds))):
            tensor = tensors.get(name, torch.empty(shape, dtype=getattr(torch, dtype)))
            self.ranks.agree(tensor)
            shared[name] = tensor
        return shared
