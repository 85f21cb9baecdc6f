"""Time and peak memory of ``LGMDistiller(backbone=None)`` on 100,000 x 512 rows in 100 classes.

Run: ``python benchmarks/feature_rows.py``
"""

import resource
import time

import numpy as np
import torch

from sklgm import LGMDistiller

N, D, N_CLASSES = 100_000, 512, 100


def main() -> None:
    """Fit once and print the figures."""
    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, N)
    X = rng.standard_normal((N, D), dtype=np.float32)
    X += rng.standard_normal((N_CLASSES, D), dtype=np.float32)[y]
    start = time.perf_counter()
    distiller = LGMDistiller(backbone=None, random_state=0, verbose=1).fit(X, y)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    loss = distiller.loss_curve_
    print(f"fit {seconds:.0f} s, peak {peak:.2f} GiB, loss {loss[0]:.3f} -> {loss[-1]:.3f}")


if __name__ == "__main__":
    main()
