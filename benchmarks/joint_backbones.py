"""Whether prototypes distilled on two nets at once serve a third net better than those of one.

OpenMoji pictures are distilled on net A, on net B and on both (`LGMDistiller([A, B])`) in equally
many steps; some with blur among the augmentations too. Probes on every net are trained on these
prototypes and scored on the third of the pictures that was held back. A seed is one distillation
and one probe on it; mean and standard deviation are over seeds. The baselines are real images, one
of each class: drawn at random, or nearest to the class mean by one of the nets, where the seeds are
of the probe alone.

A step on two nets costs what a step on each of them costs together.

Run: ``python benchmarks/joint_backbones.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from real_backbones import RESULTS, Rows, load, print_table, score, spread

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    RandomImages,
    StandardAugmentation,
)
from tests.real_backbones import real_backbone

SPLITS = [
    ("efficientnet_lite0", "focus_vit"),
    ("efficientnet_lite0", "nsfw_resnet"),
    ("nsfw_resnet", "focus_vit"),
]
NETS = ["efficientnet_lite0", "efficientnet_lite2", "focus_vit", "nsfw_resnet"]
AUGMENTATION = {"plain": StandardAugmentation(), "blur": StandardAugmentation(blur=0.5)}
# With blur, these alone: the ViT is slow, and blur is expected to help nets like these.
BLURRED = [("efficientnet_lite0",), ("nsfw_resnet",), ("efficientnet_lite0", "nsfw_resnet")]
N_SEEDS = 3
N_SEEDS_OF_IMAGES = 5
MAX_ITER = 150
N_VIEWS = 20


def main():
    """Distil on every set of nets, probe on every net."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--max-iter", type=int, default=MAX_ITER)
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "joint_backbones.csv")
    arguments = parser.parse_args()
    max_iter, n_seeds = arguments.max_iter, arguments.seeds
    if arguments.quick:
        max_iter, n_seeds = 10, 1
    rows = Rows(None if arguments.quick else arguments.out)
    split = X_train, _, y_train, _ = load("openmoji", arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        nets = {name: real_backbone(name, folder) for name in NETS}
        probes = {
            name: FrozenBackboneProbe(backbone, n_views=N_VIEWS, memory=folder)
            for name, backbone in nets.items()
        }

        def add(prototypes, augmentation, selections, steps=0, seconds=0.0):
            for name, probe in probes.items():
                scores = score(probe, selections, split, max(len(selections), n_seeds))
                rows.add(
                    prototypes=prototypes,
                    augmentation=augmentation,
                    probe=name,
                    held_out=name not in prototypes.split(" + "),
                    mean=round(float(np.mean(scores)), 4),
                    std=round(float(np.std(scores)), 4),
                    n_seeds=len(scores),
                    max_iter=steps,
                    seconds_to_distil=round(seconds),
                )

        n_draws = 2 if arguments.quick else N_SEEDS_OF_IMAGES
        drawn = [RandomImages(nets[NETS[0]], random_state=seed) for seed in range(n_draws)]
        add("random images", "", [each.fit(X_train, y_train) for each in drawn])
        # Which image is nearest to the mean of its class is for each net to say.
        for name in NETS:
            chosen = ClassCentroids(nets[name], memory=folder).fit(X_train, y_train)
            add(f"centroids by {name}", "", [chosen])

        singles = sorted({(name,) for pair in SPLITS for name in pair})
        for augmentation, views in AUGMENTATION.items():
            for sources in [*singles, *SPLITS] if augmentation == "plain" else BLURRED:
                start = time.perf_counter()
                distilled = [
                    LGMDistiller(
                        [nets[name] for name in sources],
                        augmentation=views,
                        max_iter=max_iter,
                        memory=folder,
                        random_state=seed,
                    ).fit(X_train, y_train)
                    for seed in range(n_seeds)
                ]
                seconds = (time.perf_counter() - start) / n_seeds
                add(" + ".join(sources), augmentation, distilled, max_iter, seconds)
    print_table(rows.rows, ["prototypes", "augmentation"], ["probe"], mark)
    print("\n(In brackets: the prototypes were distilled on that net.)")


def mark(row):
    """Return a row's figures, in brackets where the net is no held-out one."""
    return spread(row) if row["held_out"] else f"({spread(row)})"


if __name__ == "__main__":
    main()
