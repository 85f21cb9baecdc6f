"""The tables of the paper on Linear Gradient Matching, made by sklgm: one command each.

It needs the data sets, the weights of four ViT-B nets and a GPU; ``--dry-run`` needs none of them
and tries the same code on random pictures and random nets. Published figures are those of arXiv
2511.16674, in percent. The documentation's page "Reproducing the paper" has the folders and what
differs from the published procedure.

Run: ``python benchmarks/reproduce_paper.py 1 --data FOLDER``
"""

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    Pixels,
    Pyramid,
    RandomHeads,
    RandomImages,
    StandardAugmentation,
)
from sklgm.alignment import alignment_matrix
from sklgm.backbones import Backbone
from sklgm.datasets import load_folder, load_spawrious, load_waterbirds
from sklgm.evaluation import compare_selections, cross_model_transfer
from sklgm.utils.tables import markdown

DATA = {
    "1": ("imagenet-100", "imagenet-1k"),
    "2": ("imagenet-100", "imagenet-1k"),
    "3": ("imagenet-100",),
    "4": ("spawrious", "waterbirds"),
    "5": ("stanford-dogs", "cub-200-2011"),
    "6": ("imagenet-1k",),
    "B.1": ("flowers-102", "food-101"),
}
NETS = {"CLIP": "clip", "DINO-v2": "dinov2", "EVA-02": "eva02", "MoCo-v3": "mocov3"}
PUBLISHED = Path(__file__).parent / "published_figures.csv"
# Classes of ImageNet-100 (Tian, Krishnan, Isola, 2020), as the published code numbers them: places
# among the folders of ImageNet, sorted by name.
IMAGENET_100 = [
    *(15, 45, 54, 57, 64, 74, 90, 99, 119, 120, 122, 131, 137, 151, 155, 157, 158, 166, 167, 169),
    *(176, 180, 209, 211, 222, 228, 234, 236, 242, 246, 267, 268, 272, 275, 277, 281, 299, 305),
    *(313, 317, 331, 342, 368, 374, 407, 421, 431, 449, 452, 455, 479, 494, 498, 503, 508, 544),
    *(560, 570, 592, 593, 599, 606, 608, 619, 620, 653, 659, 662, 665, 667, 674, 682, 703, 708),
    *(717, 724, 748, 758, 765, 766, 772, 775, 796, 798, 830, 854, 857, 858, 872, 876, 882, 904),
    *(908, 936, 938, 953, 959, 960, 993, 994),
]
# Images on which neighbours are compared in table 6.
N_ALIGNED = 1024


@dataclass
class Run:
    """What all tables share: the data, the nets, and how to distil and to probe."""

    root: Path
    nets: dict
    hundred: list
    distiller: dict
    probe: dict
    common: dict
    seeds: int

    def split(self, data):
        """Return X, y, X_test, y_test of a data set: paths and labels."""
        parts = []
        for part in ("train", "test"):
            if data == "spawrious":
                X, y = load_spawrious(self.root, challenge="o2o_hard", subset=part, return_X_y=True)
            elif data == "waterbirds":
                birds = self.root / "waterbird_complete95_forest2water2"
                X, y = load_waterbirds(birds, subset=part, return_X_y=True)
            elif data.startswith("imagenet"):
                folder = self.root / "imagenet" / part.replace("test", "val")
                X, y = load_folder(folder, return_X_y=True)
                if data == "imagenet-100":
                    kept = np.isin(y, np.unique(y)[self.hundred])
                    X, y = X[kept], y[kept]
            else:
                X, y = load_folder(self.root / data / part, return_X_y=True)
            parts += [X, y]
        return parts

    def make_distiller(self, data, net=None, **other):
        """Return an unfitted distiller, with the paper's number of views for the data set."""
        settings = {**self.common, **self.distiller, "random_state": 0, **other}
        if data == "imagenet-1k" and "n_views" in self.distiller:
            # Ten views of 1000 classes were too much for the authors.
            settings["n_views"] = min(3, settings["n_views"])
        if net is not None:
            settings["backbone"] = net
        return LGMDistiller(**settings)

    def make_probe(self, y):
        """Return an unfitted probe; Adam's rate follows the batch, which few prototypes limit."""
        rate = 1e-3 * min(100, len(np.unique(y))) / 256
        return FrozenBackboneProbe(**{"learning_rate": rate, **self.common, **self.probe})


def selections(run, data):
    """Tables 1, 4, 5 and B.1: prototypes beside real images, on the net they were made for."""
    X, y, X_test, y_test = run.split(data)
    found = {}
    for name, net in run.nets.items():
        distiller = run.make_distiller(data, net)
        own = {"backbone": net, **run.common}
        rows = {
            "distilled": distiller,
            "nearest": NearestImages(distiller),
            "centroid": ClassCentroids(**own),
            "random": RandomImages(**own),
            "all": None,
        }
        for row in compare_selections(
            *(X, y, X_test, y_test),
            backbone=net,
            selections=rows,
            probe=run.make_probe(y),
            n_probe_seeds=run.seeds,
            verbose=1,
        ).summary():
            found[row["selection"], name] = _percent(row["accuracy"], row["accuracy_std"])
    return found


def transfer(run, data):
    """Table 2: distilled on one net, evaluated on all of them."""
    matrix = _transfer(run, data, run.make_distiller(data))
    return {
        (row["selection"], row["backbone"]): _percent(row["accuracy"], row["accuracy_std"])
        for row in matrix.summary()
    }


def ablations(run, data):
    """Table 3: without one part each, on the net distilled on (columns) and on the other three."""
    every = run.distiller.get("parametrization", Pyramid()).grow_every
    parts = {
        "full": {},
        "no decorrelation": {"parametrization": Pyramid(grow_every=every, decorrelate=False)},
        "no pyramid": {"parametrization": Pixels(decorrelate=True)},
        "no augmentation": {"augmentation": None},
    }
    distillers = {name: run.make_distiller(data, **other) for name, other in parts.items()}
    runs = {}
    for record in _transfer(run, data, distillers).records:
        on, _, part = record["selection"].rpartition(", ")
        if record["selection"] == "all":
            key = "all", record["backbone"]
        else:
            key = f"{'same net' if record['at_home'] else 'other nets'}, {part}", on
        runs.setdefault(key, []).append((record["seed"], record["accuracy"]))
    found = {}
    for key, pairs in runs.items():
        seeds, accuracies = np.array(pairs).T
        by_seed = [accuracies[seeds == seed].mean() for seed in np.unique(seeds)]
        spread = np.std(by_seed, ddof=1) if len(by_seed) > 1 else np.nan
        found[key] = _percent(np.mean(by_seed), spread)
    return found


def alignment(run, data):
    """Table 6: nearest prototypes on other nets, beside common neighbours of real images."""
    X, y, X_test, y_test = run.split(data)
    made = {name: run.make_distiller(data, net).fit(X, y) for name, net in run.nets.items()}
    accuracy = {}
    for column, net in run.nets.items():
        embedder = BackboneEmbedder(net, **run.common)
        features = embedder.fit_transform(X_test)
        for row, distiller in made.items():
            nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
            nearest.fit(embedder.transform(distiller.prototypes_), distiller.prototype_labels_)
            accuracy[row, column] = nearest.score(features, y_test)
    # By the net of the column with its own prototypes; that net may be right about nothing.
    found = {
        (f"1-NN, {row}", column): f"{100 * value / (accuracy[column, column] or np.nan):.1f}"
        for (row, column), value in accuracy.items()
    }
    some = np.random.default_rng(0).permutation(len(X_test))[:N_ALIGNED]
    matrix = alignment_matrix(
        run.nets,
        X_test[some],
        embedder=BackboneEmbedder(**run.common),
        n_neighbors=min(10, len(some) - 1),
        random_state=0,
    )
    for row, line in zip(matrix.rows, matrix.scores, strict=True):
        for column, value in zip(matrix.columns, line, strict=True):
            found[f"alignment, {row}", column] = f"{value:.2f}"
    return found


MAKE = dict.fromkeys(DATA, selections) | {"2": transfer, "3": ablations, "6": alignment}


def _transfer(run, data, distillers):
    X, y, X_test, y_test = run.split(data)
    return cross_model_transfer(
        *(X, y, X_test, y_test),
        backbones=run.nets,
        distillers=distillers,
        baselines={},
        probe=run.make_probe(y),
        n_seeds=run.seeds,
        verbose=1,
    )


def _percent(mean, deviation):
    return f"{100 * mean:.1f}" + ("" if np.isnan(deviation) else f" ± {100 * deviation:.1f}")


def to_markdown(table, data, found):
    """Return the published figures, and beside them what was found, or nothing."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["table"], r["data"]) == (table, data)]
    titles = [data, *(title for name in NETS for title in (f"{name}, published", "here"))]
    lines = []
    for row in rows:
        cells = [cell for name in NETS for cell in (row[name], found.get((row["row"], name), ""))]
        lines.append([row["row"], *cells])
    return markdown(titles, lines)


def published_run(arguments):
    """Return the run of the paper, or of sklgm's own settings."""
    published = {
        "max_iter": 5000,
        "learning_rate": 2e-3,
        "n_views": 10,
        "augmentation": StandardAugmentation(scale=(0.08, 1.0), noise=0.5),
        "parametrization": Pyramid(grow_every=200),
    }
    return Run(
        root=arguments.data,
        nets=NETS,
        hundred=IMAGENET_100,
        distiller=published if arguments.settings == "published" else {},
        probe={"augmentation": StandardAugmentation(scale=(0.08, 1.0))},
        common={"image_size": 224, "n_jobs": -1, "memory": arguments.memory},
        seeds=arguments.seeds,
    )


def dry_run(folder):
    """Return a run on random pictures and random nets, and write the pictures."""
    rng = np.random.default_rng(0)

    def write(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)

    for name, parts in {
        **dict.fromkeys(("stanford-dogs", "cub-200-2011", "flowers-102", "food-101"), "train test"),
        "imagenet": "train val",
    }.items():
        for part in parts.split():
            for i in range(12):
                write(folder / name / part / f"class{i % 6}" / f"{i}.png")
    for place in ("beach", "desert", "jungle", "mountain", "snow"):
        for breed in ("bulldog", "corgi", "dachshund", "labrador"):
            for environment in "01":
                write(folder / "spawrious224" / environment / place / breed / "0.png")
    # The name of the folder that the authors' tar file unpacks to.
    birds = folder / "waterbird_complete95_forest2water2"
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i in range(16):
        write(birds / f"{i}.png")
        lines.append(f"{i},{i}.png,{i % 2},{0 if i < 8 else 2},{i // 2 % 2},x")
    (birds / "metadata.csv").write_text("\n".join(lines))
    nets = {}
    for i, name in enumerate(NETS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(i)
            net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(2))
            nets[name] = Backbone.from_module(
                nn.Sequential(net, nn.Flatten()), image_size=14, name=f"random {i}"
            )
    return Run(
        root=folder,
        nets=nets,
        hundred=[0, 2, 3, 5],
        distiller={"max_iter": 3, "n_views": 1, "heads": RandomHeads(2, 4)},
        probe={"max_epochs": 3, "n_views": 1},
        common={"image_size": 14, "n_jobs": None, "memory": None},
        seeds=2,
    )


def main(arguments=None):
    """Make a table and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=DATA)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds the data sets")
    parser.add_argument("--only", metavar="DATA", help="one of the table's data sets")
    parser.add_argument("--settings", choices=("published", "sklgm"), default="published")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--memory", metavar="FOLDER", help="cache of what real images give")
    parser.add_argument("--dry-run", action="store_true", help="try it on random pictures and nets")
    arguments = parser.parse_args(arguments)
    sets = DATA[arguments.table]
    if arguments.only is not None and arguments.only not in sets:
        parser.error(f"table {arguments.table} has {' and '.join(sets)}")
    if arguments.data is None and not arguments.dry_run:
        parser.error("give --data FOLDER, or --dry-run")
    with tempfile.TemporaryDirectory() as folder:
        run = dry_run(Path(folder)) if arguments.dry_run else published_run(arguments)
        for data in sets if arguments.only is None else [arguments.only]:
            found = MAKE[arguments.table](run, data)
            # What random nets find in random pictures says nothing, and is not shown.
            shown = {} if arguments.dry_run else found
            print(f"\n{to_markdown(arguments.table, data, shown)}", flush=True)
    return found


if __name__ == "__main__":
    main()
