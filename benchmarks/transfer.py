"""Prototypes of one net, or of two at once, on other nets: OpenMoji pictures, four trained nets.

A row is what prototypes were distilled on, or what chose real images; a column is the net whose
probe is trained on them and scored on pictures held back. A seed is one distillation and the
probes on it; means and standard errors are over seeds. Rows "..., centroid" are the real images
nearest to their class mean in the features of the net of the row, for a fair comparison on other
nets; the row "centroid" lets the net of the column choose.

Run: ``python benchmarks/transfer.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import matplotlib
from _data import load
from _results import RESULTS, save
from joblib import Parallel, delayed

from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, RandomImages
from sklgm.evaluation import TransferMatrix, cross_model_transfer

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

NETS = {
    "lite0": "efficientnet_lite0",
    "lite2": "efficientnet_lite2",
    "ViT": "focus_vit",
    "ResNet": "nsfw_resnet",
}
# Rows, in two parts that take about as long as each other.
PARTS = [["lite0", "lite2", "ViT"], [("lite0", "lite2"), "ResNet"]]
# Fewer than by default, since views of all images pass four nets for each seed.
N_VIEWS = 16


def embed(net, seed, arguments, folder):
    """Put the views of all images that a probe trains on into the cache."""
    X, _, y, _ = load("openmoji", quick=arguments.quick)
    options = {"n_views": N_VIEWS, "memory": folder, "random_state": seed}
    FrozenBackboneProbe(real_backbone(net, folder), max_epochs=1, **options).fit(X, y)


def transfer(distilled_on, distillers, baselines, arguments, folder):
    """Return the records of some rows."""
    X, X_test, y, y_test = load("openmoji", quick=arguments.quick)
    nets = {name: real_backbone(net, folder) for name, net in NETS.items()}
    probe = FrozenBackboneProbe(n_views=N_VIEWS, memory=folder)
    if arguments.quick:
        probe.set_params(max_epochs=100)
    return cross_model_transfer(
        X,
        y,
        X_test,
        y_test,
        backbones=nets,
        distillers=distillers,
        distilled_on=distilled_on,
        baselines=baselines,
        probe=probe,
        n_seeds=arguments.seeds,
        verbose=1,
    ).records


def merge(parts, order):
    """Return the records of several parts as one matrix, with its rows in an order."""
    first, *others = parts
    # Probes on all images come with every part.
    rest = [run for part in others for run in part if run["selection"] != "all"]
    runs = sorted([*first, *rest], key=lambda run: order.index(run["selection"]))
    return TransferMatrix(tuple(runs))


def main():
    """Distil on every net and some pairs, probe on every net."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="1, or 2 for two processes")
    parser.add_argument(
        "--memory",
        metavar="FOLDER",
        help="keep features of real images here for the next run (a folder deleted at the end)",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.memory or temporary
        shared = {"memory": folder}
        parallel = Parallel(n_jobs=arguments.jobs)
        seeds = range(arguments.seeds)
        parallel(delayed(embed)(n, s, arguments, folder) for n in NETS.values() for s in seeds)
        real = transfer(
            list(NETS),
            {"centroid": ClassCentroids(**shared)},
            {"random": RandomImages(**shared), "centroid": ClassCentroids(**shared)},
            arguments,
            folder,
        )
        distiller = LGMDistiller(max_iter=10 if arguments.quick else 300, **shared)
        parts = parallel(delayed(transfer)(on, distiller, {}, arguments, folder) for on in PARTS)
    order = [*NETS, "lite0 + lite2", *dict.fromkeys(run["selection"] for run in real)]
    matrix = merge([real, *parts], order)
    print(matrix)
    if arguments.quick:
        return
    tables = {
        f"Accuracy, mean ± standard error over {arguments.seeds} seeds": matrix.to_markdown(),
        "Divided by that of all images": matrix.to_markdown(metric="relative_accuracy"),
    }
    save("transfer", matrix.records, tables, arguments.jobs)
    matplotlib.use("Agg")
    matrix.plot().figure_.savefig(RESULTS / "transfer.png", dpi=100)


if __name__ == "__main__":
    main()
