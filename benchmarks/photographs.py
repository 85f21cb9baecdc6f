"""One image a class on photographs, through CLIP ViT-B/16 and other trained nets at 224 pixels.

A run is one choice of prototypes, real or distilled, by one net (or several) with one seed, tried
on one net. Two classifiers are trained on it and scored on test photographs: `FrozenBackboneProbe`,
on random views, and scikit-learn's ``LogisticRegression``, on what `BackboneEmbedder` gives of each
prototype. The rows "means" (features that are class means, the ceiling of one prototype a
class) and "all" (every training photograph) are for comparison.

A run is written to the results as soon as it is there, and what is there is not run again: so the
work can be done in parts, and options choose a part. Fitted distillers are kept below ``--work``.
To begin anew, delete the results and that folder.

Run: ``python benchmarks/photographs.py --photos FOLDER --work FOLDER``, with ``SKLGM_WEIGHTS`` set
as ``benchmarks/weights.py`` says. The photographs are ``FOLDER/SET/{train,test}/CLASS/.../*.jpg``.
``--transfer`` tries the distilled prototypes on every other net, too; ``--pictures FOLDER`` draws
those of the first seed.
"""

import argparse
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
from _results import keep, mean_and_error, read, run_missing, save_tables
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    LGMDistiller,
    NearestImages,
    RandomImages,
)
from sklgm.datasets import load_folder
from sklgm.plotting import PrototypesDisplay

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

SETS = ("imagewoof", "flowers5", "pacs", "imagenette")
NETS = {
    "CLIP": "clip_vitb16_8bit",
    "lite0": "efficientnet_lite0",
    "lite2": "efficientnet_lite2",
    "MobileNetV2": "mobilenetv2",
}
SIZE = 224
# Views that the probe trains on: of each prototype, and of each of all images.
N_VIEWS, N_VIEWS_OF_ALL = 24, 4
REAL = {
    "random": RandomImages,
    "nearest to class mean": ClassCentroids,
    "herding": HerdingImages,
}
SELECTIONS = (*REAL, "nearest to prototype", "distilled", "means", "all")
# What depends on no seed but the probe's.
FIXED = ("nearest to class mean", "herding", "means", "all")


class Bench:
    """A set of photographs, and where things are kept.

    Parameters
    ----------
    data : str
        Name of the set.
    photos, work : Path
        Folders of the photographs, and of what is kept.
    max_iter : int, optional
        Steps of a distillation, for a trial.
    """

    def __init__(self, data, photos, work, max_iter=None):
        self.data, self.work, self.max_iter = data, work, max_iter
        self.train = load_folder(photos / data / "train", return_X_y=True)
        self.test = load_folder(photos / data / "test", return_X_y=True)
        self.kept = {"memory": str(work / "memory")}

    def backbone(self, net):
        """Return the backbone of a net's name, or several of ``"A + B"``."""
        nets = [real_backbone(NETS[name], None, SIZE) for name in net.split(" + ")]
        return nets if len(nets) > 1 else nets[0]

    def features(self, net, X):
        """Return features of photographs on a net."""
        return BackboneEmbedder(self.backbone(net), **self.kept).fit_transform(X)

    def distilled(self, net, seed):
        """Return a fitted distiller, the one that was kept if there is one, and its seconds."""
        trial = f"-{self.max_iter}-steps" if self.max_iter else ""
        path = self.work / "distilled" / self.data / net / f"{seed}{trial}.joblib"

        def fit():
            distiller = LGMDistiller(self.backbone(net), random_state=seed)
            if self.max_iter:
                distiller.set_params(max_iter=self.max_iter)
            start = time.perf_counter()
            return distiller.fit(*self.train), time.perf_counter() - start

        distiller, seconds = keep(path, fit)
        # Not for the fit itself, whose seconds count.
        return distiller.set_params(**self.kept), seconds

    def select(self, selection, home, seed):
        """Return prototypes, their labels and the seconds of a distillation, or None."""
        seconds = None
        if selection == "distilled":
            chosen, seconds = self.distilled(home, seed)
        elif selection == "nearest to prototype":
            distiller, _ = self.distilled(home, seed)
            chosen = NearestImages(FrozenEstimator(distiller)).fit(*self.train)
        else:
            settings = {**self.kept, "random_state": seed}
            chosen = REAL[selection](self.backbone(home), **settings).fit(*self.train)
        return chosen.prototypes_, chosen.prototype_labels_, seconds

    def run(self, selection, home, net, seed):
        """Return how well classifiers do on a net that train on a selection."""
        X_test, y_test = self.test
        tests = self.features(net, X_test)
        images, labels = self.train
        seconds = None
        if selection == "means":
            features, y = self.features(net, images), labels
            labels = np.unique(y)
            rows = [features[y == c].mean(axis=0) for c in labels]
            probe = FrozenBackboneProbe(None, random_state=seed).fit(rows, labels)
            accuracy = probe.score(tests, y_test)
        else:
            n_views = N_VIEWS_OF_ALL
            if selection != "all":
                n_views = N_VIEWS
                images, labels, seconds = self.select(selection, home, seed)
            rows = self.features(net, images)
            probe = FrozenBackboneProbe(
                self.backbone(net), n_views=n_views, random_state=seed, **self.kept
            )
            accuracy = probe.fit(images, labels).score(X_test, y_test)
        logistic = LogisticRegression(max_iter=10_000).fit(rows, labels)
        return {
            "probe": accuracy,
            "logistic": logistic.score(tests, y_test),
            "seconds": seconds,
        }


def draw(bench, net, folder):
    """Save a picture of the first seed's prototypes."""
    distiller, _ = bench.distilled(net, 0)
    names = [label.replace("_", " ") for label in distiller.classes_]
    display = PrototypesDisplay.from_estimator(distiller, class_names=names, n_columns=5)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{bench.data}_{net.lower()}.jpg"
    display.figure_.savefig(path, dpi=100, pil_kwargs={"quality": 85})


def runs_to_do(arguments):
    """Yield data, selection, home, net and seed of what the options ask for."""
    for data in arguments.sets:
        for home in arguments.nets:
            for selection in arguments.selections:
                if " + " in home and selection != "distilled":
                    continue
                n_seeds = 1 if selection in FIXED else arguments.seeds
                own = home.split(" + ")
                others = [net for net in NETS if net not in own] if arguments.transfer else []
                nets = [*own, *others] if selection == "distilled" else own
                for seed in range(n_seeds):
                    for net in nets:
                        yield data, selection, home, net, seed


def cell(runs, metric):
    """Return mean, standard error and number of some runs as text."""
    return f"{mean_and_error([float(run[metric]) for run in runs])} ({len(runs)})"


def main_table(records, data):
    """Return a Markdown table of selections by the net they are tried on."""
    home = [run for run in records if run["data"] == data and run["home"] == run["net"]]
    nets = [net for net in NETS if any(run["net"] == net for run in home)]
    head = [f"{net}, {kind}" for net in nets for kind in ("probe", "logistic")]
    lines = [f"| trained on | {' | '.join(head)} |", "| --- |" + " ---: |" * len(head)]
    for selection in SELECTIONS:
        cells = []
        for net in nets:
            runs = [r for r in home if r["selection"] == selection and r["net"] == net]
            cells += [cell(runs, metric) if runs else "" for metric in ("probe", "logistic")]
        lines.append(f"| {selection} | {' | '.join(cells)} |")
    return "\n".join(lines)


def transfer_table(records, data):
    """Return a Markdown table of the nets distilled on by the net they are tried on."""
    some = [run for run in records if run["data"] == data]
    lines = [f"| prototypes | {' | '.join(NETS)} |", "| --- |" + " ---: |" * len(NETS)]

    def line(title, selection, home=None):
        cells = []
        for net in NETS:
            runs = [
                run
                for run in some
                if (run["selection"], run["home"], run["net"]) == (selection, home or net, net)
            ]
            cells.append(cell(runs, "probe") if runs else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")

    homes = {run["home"] for run in some if run["selection"] == "distilled"}
    for home in sorted(homes, key=lambda home: [list(NETS).index(n) for n in home.split(" + ")]):
        line(f"distilled on {home}", "distilled", home)
    for selection in (*REAL, "all"):
        line(f"{selection}, by the column's net" if selection in REAL else selection, selection)
    return "\n".join(lines)


def main():
    """Do the runs that are not done, and write the tables of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["imagewoof"])
    parser.add_argument(
        "--nets", nargs="+", default=list(NETS), help="also several at once, as 'CLIP + lite0'"
    )
    parser.add_argument("--selections", nargs="+", choices=SELECTIONS, default=list(SELECTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--transfer", action="store_true")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--max-iter", type=int, help="for a trial; results are not written")
    arguments = parser.parse_args()
    for name in " + ".join(arguments.nets).split(" + "):
        if name not in NETS:
            parser.error(f"--nets: {name!r} is none of {', '.join(NETS)}.")
    matplotlib.use("Agg")
    where = (arguments.photos, arguments.work, arguments.max_iter)
    benches = {data: Bench(data, *where) for data in arguments.sets}
    todo = list(runs_to_do(arguments))
    run_missing(
        "photographs",
        ("data", "selection", "home", "net", "seed"),
        todo,
        lambda data, *rest: benches[data].run(*rest),
        trial=bool(arguments.max_iter),
    )
    for data, selection, home, net, seed in todo if arguments.pictures else ():
        if (selection, net, seed) == ("distilled", home, 0):
            draw(benches[data], home, arguments.pictures)
    records = read("photographs")
    tables = {}
    for data in dict.fromkeys(run["data"] for run in records):
        tables[f"{data}: accuracy at home"] = main_table(records, data)
        tables[f"{data}: accuracy of the probe on each net"] = transfer_table(records, data)
    if tables:
        save_tables("photographs", tables)


if __name__ == "__main__":
    main()
