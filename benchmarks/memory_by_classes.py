"""Peak memory of a fit against the number of classes, at a fixed ``batch_size``.

Each case runs in a process of its own, since a peak never falls again. The tiny backbone keeps
weights and features small, so what is seen is the views that pass through it. Two figures: what
is in use at the peak (glibc told to return every block of 128 KiB or more at once), and what the
process holds under glibc's own settings, where freed blocks are kept and fragment.

Run: ``python benchmarks/memory_by_classes.py``
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

N_CLASSES = (10, 200)
BATCH_SIZE = 40
SETTINGS = {"in use": {"MALLOC_MMAP_THRESHOLD_": "131072"}, "held": {}}


def fit(n_classes: int) -> None:
    """Fit once and print the peak resident memory of this process in MiB."""
    import torch

    from sklgm import LGMDistiller

    sys.path.insert(0, str(Path(__file__).parents[1]))
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
    for name, setting in SETTINGS.items():
        peaks = []
        for n_classes in N_CLASSES:
            command = [sys.executable, __file__, str(n_classes)]
            environment = {**os.environ, **setting}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            peaks.append(float(done.stdout))
            print(f"{name}, {n_classes} classes: peak {peaks[-1]:.0f} MiB")
        print(f"{name}: ratio {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fit(int(sys.argv[1]))
    else:
        main()
