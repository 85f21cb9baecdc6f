"""What a fit costs: slopes of time and memory, one size changed at a time.

On ``efficientnet_lite0`` at 56 pixels with Fashion-MNIST; the part without a net on random
features. A slope is that of a straight line through the medians of a few turns, in which all sizes
take turns, so that noise hits them alike. The documentation's page on cost quotes the results.

Run: ``python benchmarks/cost.py``
"""

import argparse
import time

import numpy as np
import torch
from _data import add_data_argument, load
from _results import save

from sklgm import LGMDistiller
from sklgm.backbones import Backbone
from sklgm.matching import RealGradients, matching_loss
from sklgm.matching.heads import HeadPool
from sklgm.synthesis.batch_size import counting_graph

TURNS = 5


def slope(sizes, measure):
    """Return seconds by one more of what is counted, with the medians it comes from.

    Parameters
    ----------
    sizes : list of int
        At which to measure.
    measure : callable
        From a size to seconds.
    """
    for size in sizes:
        measure(size)  # what only the first call takes
    seconds = np.median([[measure(size) for size in sizes] for _ in range(TURNS)], axis=0)
    return float(np.polyfit(sizes, seconds, 1)[0]), seconds


def timed(function):
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def steps(backbone, X, y, n_steps=4, **params):
    """Return the seconds of a step of the synthesis."""
    distiller = LGMDistiller(backbone, max_iter=n_steps, random_state=0, **params)
    gradients = distiller.compute_gradients(X, y)
    gradients.heads.take(slice(None))  # drawn once a fit
    return timed(lambda: distiller.fit_gradients(gradients)) / n_steps


def graph_bytes(backbone):
    """Return what autograd keeps of one image that passes the net, weights left out."""
    pixels = torch.rand(8, 3, backbone.image_size, backbone.image_size, requires_grad=True)
    with counting_graph() as sizes:
        backbone.features(pixels)
    return sum(sizes.values()) / 8


def match(n, n_classes, d, n_heads=32):
    """Return the seconds of the closed-form loss on ``n`` features, of which a fifth are new."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, d, generator=generator)
    labels = torch.arange(n) % n_classes
    heads = HeadPool(n_heads, n_classes, d, 0.01, 0).take(slice(None))
    targets = torch.randn(n_heads, n_classes, d + 1, generator=generator)
    rows = slice(0, n // 5)
    return timed(lambda: matching_loss(features, labels, heads, targets, rows=rows))


def add(n, n_classes, d):
    """Return the seconds in which gradients of ``n`` real features are added, for 256 heads."""
    gradients = RealGradients(range(n_classes))
    features = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    labels = np.arange(n) % n_classes
    gradients.update(features[:2], labels[:2])  # heads are drawn
    gradients.heads.take(slice(None))
    return timed(lambda: gradients.update(features, labels))


def main():
    """Measure each slope."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    add_data_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    X, _, y, _ = load("fashion-mnist", arguments.fashion_mnist)
    backbone = Backbone.from_name("efficientnet_lite0", image_size=56)
    distiller = LGMDistiller(backbone, random_state=0)
    few = np.concatenate([np.flatnonzero(y == c)[:4] for c in range(10)])
    X_few, y_few = X[few], y[few]

    def classes(n):
        # Labels that split the ten classes further; what the images are does not matter here.
        rows = np.resize(few, 2 * n)
        return steps(backbone, X[rows], np.arange(2 * n) % n)

    def real(n):
        return timed(lambda: distiller.compute_gradients(X[:n], y[:n]))

    cases = {
        "a step, by class (4 views of one prototype)": ("ms", [5, 10, 20, 40], classes),
        "a step, by view of 10 prototypes": (
            "ms",
            [2, 4, 8, 16],
            lambda n: steps(backbone, X_few, y_few, n_views=n),
        ),
        "a step, by prototype a class, of 10 classes": (
            "ms",
            [1, 2, 4],
            lambda n: steps(backbone, X_few, y_few, prototypes_per_class=n),
        ),
        "the real pass, by image (2 views)": ("ms", [100, 200, 400], real),
        "the loss of 200 features of 10 classes, by feature size": (
            "us",
            [256, 512, 1024, 2048],
            lambda d: match(200, 10, d),
        ),
        "the loss of 768-d features, by class (20 features of each)": (
            "ms",
            [10, 20, 40, 80],
            lambda n: match(20 * n, n, 768),
        ),
        "real gradients of 2,000 features of 10 classes, by feature size": (
            "us",
            [256, 512, 1024],
            lambda d: add(2000, 10, d),
        ),
    }
    records, lines = [], ["| cost of | sizes | slope, for one more |", "| :-- | :-- | --: |"]
    for name, (unit, sizes, measure) in cases.items():
        by_one, seconds = slope(sizes, measure)
        factor = {"ms": 1e3, "us": 1e6}[unit]
        lines.append(f"| {name} | {', '.join(map(str, sizes))} | {by_one * factor:.2f} {unit} |")
        print(lines[-1], np.round(seconds, 4).tolist(), flush=True)
        records += [
            {"cost": name, "size": size, "median_seconds": float(s), "slope_seconds": by_one}
            for size, s in zip(sizes, seconds, strict=True)
        ]
    kept = graph_bytes(backbone)
    lines.append(f"| memory of a view's graph | | {kept / 2**20:.1f} MiB |")
    records.append({"cost": "memory of a view's graph", "bytes": kept})
    save("cost", records, {f"Medians of {TURNS} turns": "\n".join(lines)})
    print(lines[-1])


if __name__ == "__main__":
    main()
