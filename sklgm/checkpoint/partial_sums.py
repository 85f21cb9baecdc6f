"""The sums of a pass that is under way, which the same pass, given again, goes on from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sklgm.checkpoint.memory import folder_in, hash_each
from sklgm.checkpoint.state import discard, keep_tensors, read_tensors, versions
from sklgm.matching import RealGradients
from sklgm.matching.gradients_file import restore
from sklgm.utils.files import WritingInterval


class PartialSums:
    """How far one pass over the real data has got, kept in a file from time to time.

    Parameters
    ----------
    memory : None, str, Path or joblib.Memory
        The cache that the file is a part of; None keeps nothing.
    key : callable
        Returns all that the sums depend on; called with a memory alone.
    """

    def __init__(self, memory: Any, key: Callable[[], Any]) -> None:
        folder = folder_in(memory, "interrupted")
        # To go on bit for bit takes more that is equal than to use a finished pass.
        name = None if folder is None else hash_each([*versions(), *key()])
        self._path = None if folder is None else folder / f"pass-{name}.safetensors"
        self._interval = WritingInterval()

    def restore(self, gradients: RealGradients) -> tuple[int, dict[str, Tensor]]:
        """Set empty gradients to what was kept.

        Parameters
        ----------
        gradients : RealGradients
            The sums.

        Returns
        -------
        n_done : int
            Samples that were passed.
        waiting : dict of str to Tensor
            What of them is not in the sums yet, as :meth:`keep` was given it.
        """
        what = "The pass over the real data"
        found = None if self._path is None else read_tensors(self._path, what, "it")
        if found is None:
            return 0, {}
        facts, tensors = found
        waiting = {name: tensors.pop(name) for name in facts["waiting"]}
        restore(gradients, tensors)
        return facts["n_done"], waiting

    def keep(
        self, gradients: RealGradients, n_done: int, waiting: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Write how far the pass is, if it is time; a failure is a warning.

        Parameters
        ----------
        gradients : RealGradients
            The sums.
        n_done : int
            Samples that were passed.
        waiting : callable
            Returns what of them is not in the sums yet.
        """
        if self._path is None or not self._interval.is_over():
            return
        with self._interval.writing():
            rest = waiting()
            facts = {"n_done": n_done, "waiting": list(rest)}
            keep_tensors(self._path, facts, {**gradients.tensors(), **rest})

    def remove(self) -> None:
        """Remove the file: the pass is kept as a whole."""
        discard(self._path)
