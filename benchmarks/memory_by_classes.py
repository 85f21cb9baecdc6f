"""Peak memory of a fit against the number of classes, at a fixed ``batch_size``.

Each case runs in a process of its own, since a peak never falls again. The tiny backbone keeps
weights and features small, so what is seen is the views that pass through it.

Run: ``python benchmarks/memory_by_classes.py``
"""

import resource
import subprocess
import sys

import numpy as np

N_CLASSES = (10, 200)
BATCH_SIZE = 40


def fit(n_classes: int) -> None:
    """Fit once and print the peak resident memory of this process in MiB."""
    import torch

    from sklgm import LGMDistiller
    from tests.tiny_backbones import tiny_backbone

    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (2 * n_classes, 64, 64, 3), dtype=np.uint8)
    y = np.arange(n_classes).repeat(2)
    LGMDistiller(
        tiny_backbone(image_size=56), max_iter=20, batch_size=BATCH_SIZE, random_state=0
    ).fit(X, y)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Compare the cases."""
    peaks = []
    for n_classes in N_CLASSES:
        command = [sys.executable, __file__, str(n_classes)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout))
        print(f"{n_classes:4d} classes: peak {peaks[-1]:.0f} MiB")
    print(f"ratio {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fit(int(sys.argv[1]))
    else:
        main()
