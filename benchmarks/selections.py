"""One image a class: distilled prototypes against real images, on trained nets and three data sets.

Every row is linear probes on one net, scored on images that neither probes nor selections have
seen: trained on one image of each class (drawn at random, nearest to the class mean, nearest to a
distilled prototype, or distilled), or on all. Everything is at its default settings, the same for
all data sets; ``--seeds`` is the number of probes, each on a distillation or a draw of its own.
How far rows are apart is printed with the standard error of that.

Run: ``python benchmarks/selections.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _data import DATA, add_data_argument, load
from _results import save
from joblib import Parallel, delayed

from sklgm import FrozenBackboneProbe
from sklgm.evaluation import compare_selections, default_selections

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import NETS, real_backbone

GAPS = [
    ("distilled", "nearest"),
    ("distilled", "centroid"),
    ("nearest", "random"),
    ("centroid", "random"),
]


def compare(net, data, arguments, folder):
    """Return the comparison on one net and data set."""
    X, X_test, y, y_test = load(data, arguments.fashion_mnist, arguments.quick)
    backbone = real_backbone(net, folder)
    probe = FrozenBackboneProbe(backbone, memory=folder)
    selections = default_selections(backbone, probe=probe)
    if arguments.quick:
        probe.set_params(max_epochs=100)
        selections["distilled"].set_params(max_iter=20)
    result = compare_selections(
        X,
        y,
        X_test,
        y_test,
        backbone=backbone,
        selections=selections,
        probe=probe,
        n_probe_seeds=arguments.seeds,
        n_selection_seeds=arguments.seeds,
    )
    print(net, data, result, gaps(result), sep="\n", flush=True)
    return result


def gaps(result):
    """Return how far rows are apart that should be in this order, with standard errors."""
    rows = {}
    for run in result.records:
        rows.setdefault(run["selection"], []).append(run["accuracy"])
    lines = []
    for high, low in GAPS:
        # By seed: the probes of two rows share their seeds, and prototypes what is near to them.
        gaps = np.subtract(rows[high], rows[low])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps))
        lines.append(f"{high} - {low} {gaps.mean():+.3f} ± {error:.3f}")
    return "Gaps and their standard errors: " + ", ".join(lines) + "."


def main():
    """Compare on each net and data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["efficientnet_lite0"])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="comparisons at a time")
    add_data_argument(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 2
    with tempfile.TemporaryDirectory() as folder:
        cases = [(net, data) for data in arguments.data for net in arguments.nets]
        results = Parallel(n_jobs=arguments.jobs)(
            delayed(compare)(*case, arguments, folder) for case in cases
        )
    records, tables = [], {}
    for (net, data), result in zip(cases, results, strict=True):
        records += [{"data": data, "net": net, **record} for record in result.records]
        heading = f"{data}, {net}: mean ± standard deviation over {arguments.seeds} seeds"
        tables[heading] = f"{result.to_markdown()}\n\n{gaps(result)}"
    if not arguments.quick:
        save("selections", records, tables, arguments.jobs)


if __name__ == "__main__":
    main()
