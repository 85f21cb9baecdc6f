"""Accuracy over the number of prototypes of each class, beside as many real images.

On ``efficientnet_lite0`` at its default settings, on OpenMoji and Fashion-MNIST. A seed is one
distillation, or one draw, and a probe on it.

Run: ``python benchmarks/prototypes_per_class.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import tempfile

import matplotlib
from _data import add_data_argument, load
from _results import RESULTS, save
from joblib import Parallel, delayed

from sklgm import FrozenBackboneProbe
from sklgm.evaluation import default_selections, prototype_curve

NET = "efficientnet_lite0"
DATA = ("fashion-mnist", "openmoji")


def curve(data, arguments, folder):
    """Return the prototype curve on one data set."""
    X, X_test, y, y_test = load(data, arguments.fashion_mnist, arguments.quick)
    probe = FrozenBackboneProbe(NET, image_size=56, memory=folder)
    selections = default_selections(NET, probe=probe)
    if arguments.quick:
        probe.set_params(max_epochs=100)
        selections["distilled"].set_params(max_iter=20)
    return prototype_curve(
        X,
        y,
        X_test,
        y_test,
        backbone=NET,
        selections=selections,
        probe=probe,
        n_probe_seeds=arguments.seeds,
        n_selection_seeds=arguments.seeds,
        verbose=1,
    )


def main():
    """Draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="data sets at a time")
    add_data_argument(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 2
    with tempfile.TemporaryDirectory() as folder:
        results = Parallel(n_jobs=arguments.jobs)(
            delayed(curve)(data, arguments, folder) for data in DATA
        )
    curves = dict(zip(DATA, results, strict=True))
    print(*curves.values(), sep="\n")
    if arguments.quick:
        return
    records = [
        {"data": data, **record} for data, result in curves.items() for record in result.records
    ]
    spread = f"mean ± standard deviation over {arguments.seeds} seeds"
    tables = {f"{data}: {spread}": result.to_markdown() for data, result in curves.items()}
    save("prototypes_per_class", records, tables, arguments.jobs)
    matplotlib.use("Agg")
    for data, result in curves.items():
        display = result.plot()
        display.ax_.set_title(data)
        display.figure_.savefig(RESULTS / f"prototypes_per_class_{data}.png", dpi=100)


if __name__ == "__main__":
    main()
