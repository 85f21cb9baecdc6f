"""What makes prototypes of one net serve other nets: photographs at 224 pixels, drawings at 56.

A run is a set of images, a net at home, an entry of ``SETTINGS`` and a seed. Prototypes are
made by the net at home, or real images are chosen by it. On every net probes are trained on them,
by their labels and by the soft labels of the net at home, and scored on test images. The line of a
run has an accuracy for each net and kind of label. Probes on all training images, "all", make the
line that others are divided by.

A run is written to the results as soon as it is there, and what is there is not run again: so the
work can be done in parts, and options choose a part. Prototypes are kept below ``--work``.

Run: ``python benchmarks/travel.py --photos FOLDER --work FOLDER``, with ``SKLGM_WEIGHTS`` set as
``benchmarks/weights.py`` says. On a processor that multiplies matrices in bfloat16, CLIP is three
times as fast with ``--clip bfloat16``. ``--max-iter 2`` is a trial that saves nothing.
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from _data import DATA, load
from _results import keep, mean_and_error, read, run_missing, save_tables
from _travel_settings import REAL, SETTINGS
from photographs import N_VIEWS, N_VIEWS_OF_ALL, NETS, SETS, SIZE, real_backbone

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet
from sklgm.datasets import load_folder

KINDS = ("hard", "soft")
OF_DRAWINGS = ("lite0", "lite2", "MobileNetV2", "ViT", "ResNet")
# CLIP is blind at the size of drawings.
ALL_NETS = {**NETS, "ViT": "focus_vit", "ResNet": "nsfw_resnet"}


class Bench:
    """A set of images, the nets that see it, and where things are kept.

    Parameters
    ----------
    data : str
        Name of the set.
    arguments : argparse.Namespace
        The options.
    """

    def __init__(self, data, arguments):
        if data in DATA:
            X, X_test, y, y_test = load(data)
            self.train, self.test = (X, y), (X_test, y_test)
        else:
            self.train, self.test = (
                load_folder(arguments.photos / data / part, return_X_y=True)
                for part in ("train", "test")
            )
        self.nets = nets_of(data)
        self.size = 56 if data in DATA else SIZE
        self.data, self.arguments = data, arguments
        self.memory = str(arguments.work / "memory")

    def net(self, name):
        """Return the parameters of a net."""
        precision = self.arguments.clip if name == "CLIP" else "float32"
        backbone = real_backbone(ALL_NETS[name], self.arguments.work, self.size)
        return {"backbone": backbone, "precision": precision, "memory": self.memory}

    def prototypes(self, home, name, seed):
        """Return prototypes with soft labels, kept ones if there are, and the seconds of both."""
        trial = f"-{self.arguments.max_iter}-steps" if self.arguments.max_iter else ""
        folder = self.arguments.work / "travel" / self.data / home

        def make():
            settings = {**self.net(home), "soft_labels": True, "random_state": seed}
            within = nullcontext()
            if name in REAL:
                made = REAL[name](**settings)
            else:
                settings |= SETTINGS[name](self, home)
                if "within" in settings:
                    # What is kept would be mistaken for that of the plain loss, and the other way.
                    within = settings.pop("within")
                    settings["memory"] = None
                made = LGMDistiller(**settings)
                if self.arguments.max_iter:
                    made.set_params(max_iter=self.arguments.max_iter)
            start = time.perf_counter()
            with within:
                made.fit(*self.train)
            return PrototypeSet.from_estimator(made), time.perf_counter() - start

        return keep(folder / f"{name}-{seed}{trial}.joblib", make)

    def run(self, home, name, seed):
        """Return the line of a run."""
        if name == "all":
            probes = {home: self._probe(home, seed, N_VIEWS_OF_ALL).fit(*self.train)}
            return self._line(probes, probes, None)
        prototypes, seconds = self.prototypes(home, name, seed)
        plain = PrototypeSet(prototypes.images, prototypes.labels)
        hard, soft = (
            {net: self._probe(net, seed, N_VIEWS).fit(given) for net in self.nets}
            for given in (plain, prototypes)
        )
        return self._line(hard, soft, seconds)

    def _probe(self, net, seed, n_views):
        return FrozenBackboneProbe(**self.net(net), n_views=n_views, random_state=seed)

    def _line(self, hard, soft, seconds):
        line = {}
        for net in ALL_NETS:
            for kind, probes in zip(KINDS, (hard, soft), strict=True):
                known = net in probes
                line[f"{net} {kind}"] = probes[net].score(*self.test) if known else None
        return {**line, "seconds": seconds}


def nets_of(data):
    """Return the names of the nets that see a set."""
    return OF_DRAWINGS if data in DATA else tuple(NETS)


def runs_to_do(arguments):
    """Yield data, home, setting and seed of what the options ask for."""
    for data in arguments.sets:
        for seed in range(arguments.seeds):
            for name in ("all", *arguments.settings):
                for home in nets_of(data):
                    if name != "all" and home not in arguments.homes:
                        continue
                    if seed == 0 or name != "all":
                        yield data, home, name, seed


def cell(runs, column, full):
    """Return mean and standard error of some runs as text, and the mean over that of all images."""
    values = [float(run[column]) for run in runs]
    return f"{mean_and_error(values)} ({np.mean(values) / full:.2f})"


def table(records, data, home, kind):
    """Return a Markdown table of the settings tried on a net by the net they are probed on."""
    runs = [run for run in records if (run["data"], run["home"]) == (data, home)]
    nets = nets_of(data)
    full = {
        net: np.mean(
            [
                float(r[f"{net} hard"])
                for r in records
                if (r["data"], r["home"], r["changed"]) == (data, net, "all")
            ]
        )
        for net in nets
    }
    lines = [f"| | {' | '.join(nets)} | seconds | seeds |", "| --- |" + " ---: |" * (len(nets) + 2)]
    for name in [name for name in (*REAL, *SETTINGS) if any(r["changed"] == name for r in runs)]:
        own = [run for run in runs if run["changed"] == name]
        cells = [cell(own, f"{net} {kind}", full[net]) for net in nets]
        seconds = np.mean([float(run["seconds"]) for run in own])
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.0f} | {len(own)} |")
    return "\n".join(lines)


def main():
    """Do the runs that are not done, and write the tables of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    sets = (*SETS, *DATA)
    parser.add_argument("--sets", nargs="+", choices=sets, default=["flowers5", "imagewoof"])
    parser.add_argument("--homes", nargs="+", choices=ALL_NETS, default=list(ALL_NETS))
    names = [*REAL, *SETTINGS]
    parser.add_argument("--settings", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--clip", default="auto", help="precision of CLIP")
    parser.add_argument("--max-iter", type=int, help="for a trial; results are not written")
    arguments = parser.parse_args()
    benches = {data: Bench(data, arguments) for data in arguments.sets}
    keys = ("data", "home", "changed", "seed")
    todo = runs_to_do(arguments)
    trial = bool(arguments.max_iter)
    run_missing("travel", keys, todo, lambda data, *rest: benches[data].run(*rest), trial=trial)
    records = read("travel")
    tables = {
        f"{data}, prototypes of {home}, {kind} labels": table(records, data, home, kind)
        for data in dict.fromkeys(run["data"] for run in records)
        for home in nets_of(data)
        for kind in KINDS
        if any(
            (run["data"], run["home"]) == (data, home) and run["changed"] != "all"
            for run in records
        )
    }
    if tables:
        save_tables("travel", tables)


if __name__ == "__main__":
    main()
