"""The sums of a pass that is under way, which the same pass, given again, goes on from."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sklgm.checkpoint.kept_file import KeptFile
from sklgm.matching import RealGradients
from sklgm.matching.gradients_file import restore


class PartialSums(KeptFile):
    """How far one pass over the real data has got, kept in a file from time to time."""

    def __init__(self, memory: Any, key: Callable[[], Sequence[Any]]) -> None:
        super().__init__(memory, "pass-", key)

    def restore(self, gradients: RealGradients) -> tuple[int, dict[str, Tensor]]:
        """Set empty gradients to what was kept.

        Return how many samples were passed, and what of them is not in the sums yet, as
        :meth:`keep` was given it.
        """
        found = self.read("The pass over the real data", "it")
        if found is None:
            return 0, {}
        facts, tensors = found
        waiting = {name: tensors.pop(name) for name in facts["waiting"]}
        restore(gradients, tensors)
        return facts["n_done"], waiting

    def keep(
        self, gradients: RealGradients, n_done: int, waiting: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Write how many samples are passed and ``waiting()``, what of them is not in the sums."""
        if self.is_due():
            with self.interval.writing():
                rest = waiting()
                self.write({"n_done": n_done, "waiting": list(rest)}, gradients.tensors() | rest)
