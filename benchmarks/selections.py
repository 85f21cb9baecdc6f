"""One image a class: distilled prototypes against real images, on trained nets and three data sets.

Every row is linear probes on one net, scored on images that neither probes nor selections have
seen: trained on one image of each class (drawn at random, nearest to the class mean, nearest to a
distilled prototype, or distilled), or on all. Everything is at its default settings, the same for
all data sets; ``--seeds`` is the number of probes, each on a distillation or a draw of its own.
The gaps between neighbouring rows are printed with their standard errors.

Run: ``python benchmarks/selections.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from _data import DATA, add_data_argument, load
from _results import save
from joblib import Parallel, delayed

from sklgm import FrozenBackboneProbe
from sklgm.evaluation import compare_selections, default_selections

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import NETS, real_backbone

ORDER = ("random", "centroid", "nearest", "distilled")


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
        probe_seeds=arguments.seeds,
        selection_seeds=arguments.seeds,
    )
    print(net, data, result, gaps(result), sep="\n", flush=True)
    return result


def gaps(result):
    """Return by how much each row is above the one before, with the standard error of that."""
    rows = {row["selection"]: row for row in result.summary()}
    lines = []
    for low, high in pairwise(ORDER):
        gap = rows[high]["accuracy"] - rows[low]["accuracy"]
        error = np.hypot(rows[high]["accuracy_sem"], rows[low]["accuracy_sem"])
        lines.append(f"{high} - {low} {gap:+.3f} ± {error:.3f}")
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
        tables[f"{data}, {net}"] = f"{result.to_markdown()}\n\n{gaps(result)}"
    if not arguments.quick:
        save("selections", records, tables)


if __name__ == "__main__":
    main()
