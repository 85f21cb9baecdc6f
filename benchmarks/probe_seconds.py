"""Seconds that probes by the default protocol take, on prototypes and on a whole training set.

On Fashion-MNIST with ``efficientnet_lite0`` at 56 pixels: 1000 epochs on 10 images in 100 views,
and on 2,000 images in 4. Loading the net and the data is not counted; embedding the views is.

Run: ``python benchmarks/probe_seconds.py``
"""

import argparse
import time

import numpy as np
from _data import add_data_argument, load
from _results import save

from sklgm import FrozenBackboneProbe, RandomImages
from sklgm.backbones import Backbone

N_RUNS = 3


def main():
    """Time the fits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_data_argument(parser)
    X, _, y, _ = load("fashion-mnist", parser.parse_args().fashion_mnist)
    backbone = Backbone.from_name("efficientnet_lite0", image_size=56)
    few = RandomImages(backbone, random_state=0).fit(X, y).prototype_indices_
    probe = FrozenBackboneProbe(backbone, random_state=0)
    probe.fit(X[few], y[few])  # what only the first call takes
    records = []
    for rows in (few, np.arange(len(X))):
        seconds = []
        for _ in range(N_RUNS):
            start = time.perf_counter()
            probe.fit(X[rows], y[rows])
            seconds.append(time.perf_counter() - start)
        records.append(
            {
                "n_images": len(rows),
                "median_seconds": float(np.median(seconds)),
                "least": min(seconds),
                "most": max(seconds),
                "n_runs": N_RUNS,
            }
        )
        print(records[-1], flush=True)
    lines = ["| images | median seconds | least | most |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {r['n_images']} | {r['median_seconds']:.1f} | {r['least']:.1f} | {r['most']:.1f} |"
        for r in records
    ]
    save("probe_seconds", records, {f"{N_RUNS} runs of each": "\n".join(lines)})


if __name__ == "__main__":
    main()
