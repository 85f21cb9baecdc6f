"""On which random heads gradients are compared."""

from numbers import Integral, Real
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval


class RandomHeads(BaseEstimator):
    """Which random linear heads gradients are compared on.

    Parameters
    ----------
    n_heads : int, default=32
        Heads compared in a step, drawn from the pool; all of a smaller one.
    pool_size : int, default=256
        Heads altogether. Gradients of the real data are summed for each of them.
    scale : float, default=0.01
        Standard deviation of the heads' weights.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "pool_size": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_heads: int = 32, pool_size: int = 256, scale: float = 0.01) -> None:
        self.n_heads = n_heads
        self.pool_size = pool_size
        self.scale = scale


# Heads of zeros are all the same: they give each class the same probability. One is enough.
ZERO_HEADS = RandomHeads(n_heads=1, pool_size=1, scale=0.0)
