"""Distilled prototypes against real images, on five trained nets and two data sets.

Every row is a linear probe on one net, scored on the third of the images that neither the probe nor
the distiller has seen: trained on all other images, on one of each class (drawn at random, nearest
to the class mean, or distilled with the default settings). Mean and standard deviation are over
seeds of the probe, and of the choice where it is random.

Run: ``python benchmarks/real_backbones.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import csv
import datetime
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    RandomImages,
    StandardAugmentation,
)
from sklgm.datasets import load_digits, load_openmoji

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import NETS, real_backbone

RESULTS = Path(__file__).parent / "results"
# A mirrored digit is no digit, and a part of one may be another.
AUGMENTATION = {
    "openmoji": StandardAugmentation(),
    "digits": StandardAugmentation(scale=(0.6, 1), flip=0),
}
N_SEEDS = 5
# Views of each training image in a probe's bank: of prototypes, and of all images.
N_VIEWS, N_VIEWS_ALL = 20, 4


def load(data, quick=False):
    """Return training and test images and labels."""
    X, y = (load_openmoji if data == "openmoji" else load_digits)(return_X_y=True)
    split = train_test_split(X, y, test_size=1 / 3, stratify=y, random_state=0)
    if quick:
        rows = [
            np.concatenate([np.flatnonzero(labels == label)[:12] for label in np.unique(y)])
            for labels in split[2:]
        ]
        split = [part[rows[i % 2]] for i, part in enumerate(split)]
    return split


def score(probe, chosen, split, n_seeds):
    """Return the accuracies of probes trained on fitted selections, one seed each in turn."""
    X_train, X_test, y_train, y_test = split
    scores = []
    for seed in range(n_seeds):
        # A frozen selection goes into the probe as it is.
        distiller = FrozenEstimator(chosen[seed % len(chosen)])
        trained = clone(probe).set_params(distiller=distiller, random_state=seed)
        scores.append(trained.fit(X_train, y_train).score(X_test, y_test))
    return scores


def machine():
    """Return what the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


class Rows:
    """Rows of a result, saved as they come."""

    def __init__(self, path):
        self.path = path
        self.rows = []

    def add(self, **row):
        """Add one, print it and save all."""
        self.rows.append(row | machine())
        print(*row.values(), sep="  ", flush=True)
        if self.path is None:
            return
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0])
            writer.writeheader()
            writer.writerows(self.rows)


def print_table(rows, index, columns, cell):
    """Print a markdown table: a line for each value of `index`, a column for each of `columns`."""
    heads = list(dict.fromkeys(tuple(row[key] for key in columns) for row in rows))
    lines = {}
    for row in rows:
        line = lines.setdefault(tuple(row[key] for key in index), {})
        line[tuple(row[key] for key in columns)] = cell(row)
    titles = [*index, *(" ".join(str(part) for part in head) for head in heads)]
    print("\n|", " | ".join(titles), "|")
    print("|", " | ".join(["---"] * len(index) + ["---:"] * len(heads)), "|")
    for key, line in lines.items():
        print("|", " | ".join([*map(str, key), *(line.get(head, "") for head in heads)]), "|")


def spread(row):
    """Return mean ± standard deviation of a row."""
    return f"{row['mean']:.2f}" + (f" ± {row['std']:.2f}" if row["n_seeds"] > 1 else "")


def compare(name, backbone, data, rows, options, quick):
    """Fill in the rows of one net on one data set."""
    split = X_train, X_test, y_train, y_test = load(data, quick)
    n_seeds = 2 if quick else N_SEEDS
    augmentation = AUGMENTATION[data]
    probe = FrozenBackboneProbe(
        backbone, augmentation=augmentation, n_views=N_VIEWS, random_state=0, **options
    )
    if quick:
        probe.set_params(max_epochs=100)

    def add(trained_on, n_images, scores, seconds=0.0):
        rows.add(
            data=data,
            net=name,
            pixels=backbone.image_size,
            trained_on=trained_on,
            n_images=n_images,
            mean=round(float(np.mean(scores)), 4),
            std=round(float(np.std(scores)), 4),
            n_seeds=len(scores),
            seconds_to_choose=round(seconds),
        )

    full = clone(probe).set_params(n_views=N_VIEWS_ALL).fit(X_train, y_train)
    add("all", len(y_train), [full.score(X_test, y_test)])
    distiller = LGMDistiller(backbone, augmentation=augmentation, random_state=0, **options)
    if quick:
        distiller.set_params(max_iter=20)
    choices = {
        "random": [RandomImages(backbone, random_state=seed, **options) for seed in range(n_seeds)],
        "centroid": [ClassCentroids(backbone, **options)],
        "distilled": [distiller],
    }
    for trained_on, selections in choices.items():
        start = time.perf_counter()
        chosen = [selection.fit(X_train, y_train) for selection in selections]
        seconds = (time.perf_counter() - start) / len(chosen)
        scores = score(probe, chosen, split, n_seeds)
        add(trained_on, len(np.unique(y_train)), scores, seconds)


def main():
    """Compare on each net and data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--data", nargs="+", choices=AUGMENTATION, default=list(AUGMENTATION))
    parser.add_argument("--out", type=Path, default=RESULTS / "real_backbones.csv")
    arguments = parser.parse_args()
    rows = Rows(None if arguments.quick else arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.nets:
            backbone = real_backbone(name, folder)
            for data in arguments.data:
                compare(name, backbone, data, rows, {"memory": folder}, arguments.quick)
    print_table(rows.rows, ["data", "net", "pixels"], ["trained_on"], spread)


if __name__ == "__main__":
    main()
