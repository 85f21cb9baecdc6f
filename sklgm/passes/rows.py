"""What stands in an encoder's place where rows of X are features already."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.utils import gen_batches

from sklgm.matching import RealGradients
from sklgm.synthesis import BatchSize, Objective
from sklgm.utils.arrays import gather

# Rows that meet the heads at once, for the sake of large products.
ROWS_AT_ONCE = 4096


class RowEncoder:
    """The identity on rows of features, under the names of an `Encoder`."""

    name = None
    n_features = None
    fingerprint = None
    key = None

    def to(self, device: torch.device) -> RowEncoder:
        """Return this encoder, which is on no device."""
        return self

    def still_features(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows as they are."""
        return rows

    def canvases(self, rows: np.ndarray, start: int = 0) -> Iterator[torch.Tensor]:
        """Yield rows from ``start`` on as float32, a few thousand at a time."""
        for part in gen_batches(len(rows) - start, ROWS_AT_ONCE):
            yield torch.from_numpy(rows[start:][part].astype(np.float32))

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (n, n_features) as float32."""
        if rows.dtype == np.float32:
            return rows
        return gather(lambda start: map(np.asarray, self.canvases(rows, start)), rows.shape)

    canvas_array = embed_canvases = embed

    def objective(self, gradients: RealGradients) -> Objective:
        """Return what rows are optimised for."""
        return Objective(gradients, lambda rows: rows, None, BatchSize(np.iinfo(np.int64).max), 1)
