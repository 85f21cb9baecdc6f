"""Peak memory of a fit against the number of classes, at a fixed ``batch_size``.

Each case runs in a process of its own, since a peak never falls again. From each peak is taken
what has to grow with the classes, by the formula of the documentation ("Memory" in cost.rst):
prototypes with what their optimisation keeps of them, heads, gradients and features. What is left
is the interpreter, the net, and the views that pass through it. Two figures: what is in use at
the peak (glibc told to return every block of 128 KiB or more at once), and what the process holds
under glibc's own settings, where freed blocks are kept and fragment.

Run: ``python benchmarks/memory_by_classes.py``
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from _results import save

N_CLASSES = (10, 1000)
BATCH_SIZE = 40
CANVAS, N_FEATURES, N_VIEWS, POOL, N_HEADS = 64, 64, 3, 16, 4
# Canvases of each prototype that live at once: the levels with their gradients and Adam's two
# moments are 4/3 each; decoding and its way back keep the others.
CANVASES = 12
SETTINGS = {"in use": {"MALLOC_MMAP_THRESHOLD_": "131072"}, "held": {}}


def fit(n_classes: int) -> None:
    """Fit once and print the peak resident memory of this process in MiB."""
    import torch

    from sklgm import LGMDistiller, RandomHeads

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.tiny_backbones import tiny_backbone

    torch.set_num_threads(2)
    rng = np.random.default_rng(0)
    # Two images a class, all of them views of one block: X itself takes no memory to speak of.
    X = np.broadcast_to(
        rng.integers(0, 256, (1, CANVAS, CANVAS, 3), dtype=np.uint8),
        (2 * n_classes, CANVAS, CANVAS, 3),
    )
    y = np.arange(n_classes).repeat(2)
    net = tiny_backbone(image_size=56, n_features=N_FEATURES)
    params = {"n_views": N_VIEWS, "heads": RandomHeads(N_HEADS, POOL), "max_iter": 12}
    LGMDistiller(net, batch_size=BATCH_SIZE, random_state=0, **params).fit(X, y)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def growing(n_classes: int) -> float:
    """Return what has to grow with the classes, in MiB, with one prototype a class."""
    canvas = 4 * 3 * CANVAS**2
    pool = 4 * POOL * n_classes * (2 * N_FEATURES + 1)
    drawn = 4 * N_HEADS * n_classes * (2 * N_FEATURES + 1)
    # Random views of this step and of four before it, twice: once in one block. And the crops.
    features = 4 * n_classes * (10 * N_VIEWS + 2) * N_FEATURES
    return (CANVASES * n_classes * canvas + pool + drawn + features) / 2**20


def main() -> None:
    """Compare the cases."""
    records = []
    for name, setting in SETTINGS.items():
        peaks, rests = [], []
        for n_classes in N_CLASSES:
            command = [sys.executable, __file__, str(n_classes)]
            environment = {**os.environ, **setting}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            peaks.append(float(done.stdout))
            rests.append(peaks[-1] - growing(n_classes))
            records.append(
                {"memory": name, "n_classes": n_classes, "peak": peaks[-1], "rest": rests[-1]}
            )
            print(f"{name}, {n_classes} classes: peak {peaks[-1]:.0f} MiB, rest {rests[-1]:.0f}")
        print(f"{name}: ratio {peaks[-1] / peaks[0]:.2f}, of the rest {rests[-1] / rests[0]:.2f}")
    lines = [
        "| memory | classes | peak | without what has to grow |",
        "| :-- | --: | --: | --: |",
    ]
    lines += [
        f"| {r['memory']} | {r['n_classes']} | {r['peak']:.0f} | {r['rest']:.0f} |" for r in records
    ]
    save("memory_by_classes", records, {"MiB": "\n".join(lines)})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fit(int(sys.argv[1]))
    else:
        main()
