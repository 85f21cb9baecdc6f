"""A file that work under way is kept in; the same work, given again, goes on from it."""

import contextlib
import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sklgm._version import __version__
from sklgm.checkpoint.memory import folder_in, hash_each
from sklgm.matching.files import write_tensors
from sklgm.utils.files import WritingInterval, replacing


class KeptFile:
    """A file in a cache, named by everything that the result depends on bit for bit.

    Two processes that do the same work at the same time replace each other's file by one as good.

    Parameters
    ----------
    memory : None, str, Path or joblib.Memory
        The cache; None keeps nothing.
    prefix : str
        What the name begins with.
    key : callable
        Returns what the result depends on beside versions. It is called with a memory alone.
    """

    def __init__(self, memory: Any, prefix: str, key: Callable[[], Sequence[Any]]) -> None:
        folder, self._path = folder_in(memory, "interrupted"), None
        if folder is not None:
            versions = __version__, torch.__version__, torch.get_num_threads()
            self._path = folder / f"{prefix}{hash_each([*versions, *key()])}.safetensors"
        self.interval = WritingInterval()

    def is_due(self) -> bool:
        """Return whether it is time to write, if there is a file to write to."""
        return self._path is not None and self.interval.is_over()

    def read(self, what: str, without: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return facts and tensors; None if there is no file, or with a warning a damaged one.

        The warning says ``what`` was kept, and what starts anew ``without`` it.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            with safe_open(str(self._path), framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                # Copies: what is mapped into memory would end with the file.
                return facts, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            reason = f"cannot be read, and {without} starts anew: {error}"
            warnings.warn(f"{what} in {str(self._path)!r} {reason}", stacklevel=2)
            return None

    def write(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Write a file in place of the one that is there, or warn and leave that."""
        if self._path is None:
            return
        on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as partial:
                write_tensors(partial, on_cpu, {"facts": json.dumps(facts)})
        except OSError as error:
            warnings.warn(
                f"Work cannot be kept in {str(self._path)!r}: {error}. The fit goes on.",
                stacklevel=2,
            )

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self._path is not None:
            # One that cannot be removed does no harm: from its end work comes to the same result.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
