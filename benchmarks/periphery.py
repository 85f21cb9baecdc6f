"""Do distilled prototypes lie further out than real images? OpenMoji, EfficientNet-lite0.

One prototype a class is distilled from a half of the pictures, or chosen among them: at random, or
nearest to the class mean. The other half is where they are looked up: how far each lies from the
mean of its class, over the spread of the class in that direction; how many pictures lie nearer; and
the margin of a linear probe trained on that half. So no row has had a part in what it is measured
by. Random images and distillations are repeated, with seeds 0, 1, ...; centroids are not random.

With ``--photos FOLDER --work FOLDER`` the prototypes are those that ``benchmarks/photographs.py``
kept there, and they are looked up among the test photographs. ``--pictures FOLDER`` draws those of
the first seed among these, in the plane of their two principal components.

Run: ``python benchmarks/periphery.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import tempfile
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from _results import save
from photographs import NETS, SETS, Bench
from sklearn.model_selection import train_test_split

from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, RandomImages
from sklgm.datasets import load_openmoji
from sklgm.evaluation import prototype_statistics
from sklgm.plotting import EmbeddingDisplay

NET = {"backbone": "efficientnet_lite0", "image_size": 56}
FIGURES = ("distance", "z_score", "percentile", "margin")


def selections(seed, arguments, folder):
    """Return the rows of a seed, unfitted."""
    rows = {
        "random": RandomImages(**NET, random_state=seed),
        "distilled": LGMDistiller(**NET, memory=folder, random_state=seed),
    }
    if arguments.quick:
        rows["distilled"].set_params(max_iter=10)
    if seed == 0:
        rows["centroid"] = ClassCentroids(**NET)
    return rows


def table(records):
    """Return mean and standard deviation over the seeds, each the mean over the classes."""
    lines = [
        f"| prototypes | seeds | {' | '.join(FIGURES).replace('_', '-')} |",
        "| --- |" + " ---: |" * (len(FIGURES) + 1),
    ]
    for row in ("random", "centroid", "distilled"):
        mine = [record for record in records if record["selection"] == row]
        seeds = sorted({record["seed"] for record in mine})
        cells = []
        for name in FIGURES:
            means = [np.mean([r[name] for r in mine if r["seed"] == seed]) for seed in seeds]
            text = f"{np.mean(means):.3g}"
            cells.append(text + (f" ± {np.std(means, ddof=1):.2g}" if len(seeds) > 1 else ""))
        lines.append(f"| {row} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_class(records):
    """Return the mean z-score of each class and row over the seeds."""
    classes = list(dict.fromkeys(record["class"] for record in records))
    rows = ("random", "centroid", "distilled")
    lines = ["| class | " + " | ".join(rows) + " |", "| --- |" + " ---: |" * len(rows)]
    for label in classes:
        cells = [
            np.mean([r["z_score"] for r in records if (r["class"], r["selection"]) == (label, row)])
            for row in rows
        ]
        lines.append(f"| {label} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    return "\n".join(lines)


def on_photographs(arguments):
    """Look up what was distilled of photographs, on its own net, beside real photographs."""
    records, tables = [], {}
    for data, net in product(arguments.sets, arguments.nets):
        bench = Bench(data, arguments.photos, arguments.work)
        backbone = bench.backbone(net)
        probe = FrozenBackboneProbe(n_views=8, random_state=0, **bench.kept)
        for seed in range(arguments.seeds):
            random = RandomImages(backbone, random_state=seed, **bench.kept)
            rows = {"random": random.fit(*bench.train), "distilled": bench.distilled(net, seed)[0]}
            if seed == 0:
                rows["centroid"] = ClassCentroids(backbone, **bench.kept).fit(*bench.train)
            for name, fitted in rows.items():
                found = prototype_statistics(fitted, *bench.test, probe=probe)
                facts = {"data": data, "net": net, "selection": name, "seed": seed}
                records += [{**facts, **record} for record in found.records]
        if arguments.pictures and not arguments.quick:
            draw(bench, net, arguments.pictures)
        mine = [r for r in records if (r["data"], r["net"]) == (data, net)]
        tables[f"{data}, {net}: means over the classes"] = table(mine)
    print(*tables.values(), sep="\n\n")
    if not arguments.quick:
        save("periphery_photographs", records, tables, script="periphery")


def draw(bench, net, folder):
    """Save a picture of test photographs as dots and the first seed's prototypes as stars."""
    distiller, _ = bench.distilled(net, 0)
    names = [label.replace("_", " ") for label in distiller.classes_]
    display = EmbeddingDisplay.from_estimator(distiller, *bench.test, class_names=names)
    folder.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(folder / f"{bench.data}_{net.lower()}_stars.png", dpi=100)


def main():
    """Choose, distil and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps and seeds")
    parser.add_argument("--seeds", type=int, help="5 by default, of photographs 3")
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["imagewoof"])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["CLIP"])
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    if arguments.quick:
        arguments.seeds = 2
    elif arguments.seeds is None:
        arguments.seeds = 3 if arguments.photos else 5
    if arguments.photos:
        if arguments.work is None:
            parser.error("--photos needs --work, the folder of benchmarks/photographs.py.")
        on_photographs(arguments)
        return
    if arguments.pictures:
        parser.error("--pictures needs --photos.")
    data = load_openmoji()
    names = data.target_names[data.target]
    X, X_rest, y, y_rest = train_test_split(
        data.images, names, test_size=1 / 2, stratify=names, random_state=0
    )
    records = []
    with tempfile.TemporaryDirectory() as folder:
        probe = FrozenBackboneProbe(memory=folder, n_views=8, random_state=0)
        for seed in range(arguments.seeds):
            for name, selection in selections(seed, arguments, folder).items():
                fitted = selection.set_params(memory=folder).fit(X, y)
                found = prototype_statistics(fitted, X_rest, y_rest, probe=probe)
                records += [{"selection": name, "seed": seed, **record} for record in found.records]
                print(name, seed, found.summary(), flush=True)
    tables = {
        "Means over the 8 classes, ± standard deviation over the seeds": table(records),
        "z-score of each class, mean over the seeds": by_class(records),
    }
    print(*tables.values(), sep="\n\n")
    if not arguments.quick:
        save("periphery", records, tables)


if __name__ == "__main__":
    main()
