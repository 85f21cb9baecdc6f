"""The sums of a pass that is under way, which the same pass, given again, goes on from."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

from safetensors import SafetensorError

from sklgm.checkpoint.memory import folder_in, hash_each
from sklgm.checkpoint.state import Interval, versions
from sklgm.matching import RealGradients


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
        # Bit for bit, sums depend on more than those that are whole are named by.
        name = None if folder is None else hash_each([*versions(), *key()])
        self._path = None if folder is None else folder / f"pass-{name}.safetensors"
        self._interval = Interval()

    def restore(self, empty: RealGradients) -> tuple[RealGradients, int]:
        """Return the sums that were kept, or else the empty ones, and how many samples they hold.

        No sample of weight 0 may be among those of the pass.
        """
        if self._path is None or not self._path.exists():
            return empty, 0
        try:
            found = RealGradients.load(self._path)
        except ValueError as error:
            warnings.warn(
                f"The sums of an interrupted pass cannot be read, and it starts anew: {error}",
                stacklevel=2,
            )
            return empty, 0
        # Rows of features are no images; an image has several rows.
        of_images = found.images_seen.sum()
        return found, int(of_images or found.rows_seen.sum())

    def keep(self, sums: RealGradients) -> None:
        """Write sums, if it is time; a failure is a warning."""
        if self._path is None or not self._interval.is_over():
            return
        try:
            with self._interval.writing():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                sums.save(self._path)
        except (OSError, SafetensorError) as error:
            where = f"in {str(self._path)!r}: {error}"
            warnings.warn(
                f"The sums so far cannot be kept {where}. The pass goes on.", stacklevel=2
            )

    def remove(self) -> None:
        """Remove the file: the pass is kept as a whole."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
