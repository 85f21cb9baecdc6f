"""Accuracy against wall time: LGMDistiller at its default settings beside the published recipe.

Both distil one image a class on ``efficientnet_lite0`` at 56 pixels, in one process; probes by the
default protocol are trained on what they have after a number of steps, and scored on test images.
Times count everything from the images in memory to the prototypes, the pass over the real data
included, and no probe. Loading net and data is not counted, nor is it that the recipe needs its
images resized. An accuracy counts as reached after three snapshots whose mean has it. At the end,
the same prototypes are probed on two other nets.

The recipe takes its 5000 steps once a seed, in this process, in an earlier run of
``published_recipe.py`` (``--recipe FOLDER``) or in an earlier run of this one (``--scored``).
Because machines are noisy, its seconds a step are measured here in any case, before each of the
distiller's fits and over its first steps, which are no slower than later ones, and a ratio compares
what was measured side by side. The recipe runs on the net as timm makes it; beside it stand its
seconds on the net with batch norms folded, as ``Backbone`` has it.

Run: ``python benchmarks/time_to_accuracy.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import matplotlib
import numpy as np
import published_recipe
import torch
from _data import add_data_argument, canvases, load
from _results import RESULTS, save

import sklgm.estimators.distiller
from sklgm import FrozenBackboneProbe, LGMDistiller
from sklgm.backbones import Backbone
from sklgm.backbones._libraries import LIBRARIES

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

DATA = ("fashion-mnist", "openmoji")
MARKS = (1000, 5000)
PACE = "recipe_seconds_per_step"
OTHERS = {"lite2": "efficientnet_lite2", "ResNet": "nsfw_resnet"}


class Case:
    """A data set on the net."""

    def __init__(self, data, arguments, folder):
        self.data, self.folder = data, folder
        self.X, self.X_test, self.y, self.y_test = load(
            data, arguments.fashion_mnist, arguments.quick
        )
        self.classes, indices = np.unique(self.y, return_inverse=True)
        self.labels = torch.from_numpy(indices)
        self.backbone = Backbone.from_name("efficientnet_lite0", image_size=56)
        # By its constructor: whoever asks for the same name gets the same object.
        spec, size = self.backbone.spec, self.backbone.image_size
        self.plain = Backbone(spec, size, True, torch.device("cpu"), as_made_by_timm(spec))
        assert n_norms(self.plain.module) > 0 == n_norms(self.backbone.module)
        self.nets = {name: real_backbone(net, folder) for name, net in OTHERS.items()}
        self.max_epochs = 100 if arguments.quick else 1000
        self.every = 10

    def recipe(self, seed, n_steps, every, backbone=None):
        """Return snapshots of the published recipe."""
        return published_recipe.snapshots(
            (backbone or self.plain).features,
            canvases(self.X, self.backbone.canvas_size),
            self.labels,
            len(self.classes),
            image_size=self.backbone.image_size,
            seed=seed,
            every=every,
            n_steps=n_steps,
        )

    def distiller(self, seed):
        """Return snapshots of a fit at default settings, and its seconds in all."""
        found = {"step": [], "seconds": [], "prototypes": []}
        paused = 0.0
        match_gradients = sklgm.estimators.distiller.match_gradients

        def watched(state, *args):
            nonlocal paused
            for step in match_gradients(state, *args):
                stop = time.perf_counter()
                if (step.index + 1) % self.every == 0:
                    with torch.no_grad():
                        images = state.synthetic.decode().permute(0, 2, 3, 1).contiguous().numpy()
                    found["step"].append(step.index + 1)
                    found["seconds"].append(stop - start - paused)
                    found["prototypes"].append(images)
                paused += time.perf_counter() - stop
                yield step

        with patch("sklgm.estimators.distiller.match_gradients", watched):
            start = time.perf_counter()
            LGMDistiller(self.backbone, random_state=seed).fit(self.X, self.y)
            total = time.perf_counter() - start - paused
        return {name: np.array(values) for name, values in found.items()}, total

    def accuracy(self, prototypes, seed, net=None):
        """Return the test accuracy of a probe trained on prototypes."""
        probe = FrozenBackboneProbe(
            net or self.backbone,
            max_epochs=self.max_epochs,
            memory=self.folder,
            random_state=seed,
        )
        return probe.fit(prototypes, self.classes).score(self.X_test, self.y_test)

    def records(self, method, seed, snapshots, **facts):
        """Return a record a snapshot, the last one with the accuracy on other nets."""
        if "scores" not in snapshots:
            nets = [{"accuracy": None}] * (len(snapshots["step"]) - 1)
            nets.append({"accuracy": None, **self.nets})
            snapshots["scores"] = [
                {name: self.accuracy(prototypes, seed, net) for name, net in own.items()}
                for own, prototypes in zip(nets, snapshots["prototypes"], strict=True)
            ]
        found = [
            {
                "data": self.data,
                "method": method,
                "seed": seed,
                "step": int(step),
                "seconds": float(seconds),
                **scores,
                **facts,
            }
            for step, seconds, scores in zip(
                *(snapshots[name] for name in ("step", "seconds", "scores")), strict=True
            )
        ]
        print(found[-1], flush=True)
        return found


def as_made_by_timm(spec):
    """Return the net with its batch norms."""
    net = LIBRARIES[spec.source].build(spec, spec.image_size, True).eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last)


def n_norms(net):
    """Return how many batch norms a net has."""
    return sum(isinstance(part, torch.nn.BatchNorm2d) for part in net.modules())


def run(case, arguments):
    """Return the records of a data set: runs of the recipe and fits, timed in turns."""
    n_steps = 60 if arguments.quick else published_recipe.STEPS
    recipes, fits, facts = {}, {}, {}
    for seed in arguments.recipe_seeds:
        kept = arguments.recipe and arguments.recipe / f"{case.data}-{seed}.npz"
        if kept and kept.exists():
            run = dict(np.load(kept))
        elif not (run := arguments.scored and scored(case.data, seed)):
            run = case.recipe(seed, n_steps, n_steps // 20)
        if run["step"][-1] < n_steps:
            raise SystemExit(f"{kept} ends at step {run['step'][-1]} of {n_steps}. Run it again.")
        recipes[seed] = run
    for seed in arguments.seeds:
        n_timed = arguments.timed_steps
        facts[seed] = {
            name: float(case.recipe(seed, n_timed, n_timed, net)["seconds"][-1]) / n_timed
            for name, net in ((PACE, case.plain), (f"{PACE}_folded", case.backbone))
        }
        fits[seed], facts[seed]["total_seconds"] = case.distiller(seed)
    records = []
    pace = np.median([one[PACE] for one in facts.values()])
    for seed, run in recipes.items():
        run["seconds"] = run["step"] * pace
        records += case.records("published recipe", seed, run)
    for seed, run in fits.items():
        records += case.records("LGMDistiller", seed, run, **facts[seed])
    return records


def scored(data, seed):
    """Return the steps of an earlier run of the recipe and what its prototypes scored, or None."""
    with (RESULTS / "time_to_accuracy.csv").open(newline="") as file:
        own = [
            line
            for line in csv.DictReader(file)
            if (line["data"], line["method"], line["seed"]) == (data, "published recipe", str(seed))
        ]
    if not own:
        return None
    scores = [{k: float(line[k]) for k in ("accuracy", *OTHERS) if line[k]} for line in own]
    return {"step": np.array([int(line["step"]) for line in own]), "scores": scores}


def reached(records, accuracy):
    """Return the seconds after which an accuracy is reached, by the mean of three snapshots."""
    for first, second, third in zip(records, records[1:], records[2:], strict=False):
        if np.mean([r["accuracy"] for r in (first, second, third)]) >= accuracy:
            return third["seconds"]
    return np.inf


def summary(records):
    """Return the lines of a table for one data set: each figure as median and range over runs."""
    runs = {}
    for record in records:
        runs.setdefault((record["method"], record["seed"]), []).append(record)
    recipes = [run for (method, _), run in runs.items() if method == "published recipe"]
    fits = [run for (method, _), run in runs.items() if method == "LGMDistiller"]
    pace, folded = ([fit[-1][name] for fit in fits] for name in (PACE, f"{PACE}_folded"))
    lines = [
        "| | published recipe | LGMDistiller | ratio of times |",
        "| :-- | --: | --: | --: |",
    ]
    for mark in MARKS:
        at = [next((r for r in run if r["step"] >= mark), run[-1]) for run in recipes]
        goal = float(np.mean([r["accuracy"] for r in at]))
        ours = [reached(fit, goal) for fit in fits]
        for net, seconds in (("", pace), (", the recipe's net folded too", folded)):
            theirs = [at[0]["step"] * one for one in seconds]
            ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
            lines.append(
                f"| seconds to {goal:.3f}, the recipe's mean accuracy after {mark} steps{net} | "
                f"{spread(theirs, 0)} | {spread(ours, 1)} | {spread(ratios, 0)} |"
            )
    end = [[run[-1] for run in runs] for runs in (recipes, fits)]
    for name in ("accuracy", *OTHERS):
        label = "accuracy at the end" if name == "accuracy" else f"on {name}, at the end"
        cells = [spread([r[name] for r in last], 3) for last in end]
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | |")
    seconds = [r["total_seconds"] for r in end[1]]
    early = [
        max((r for r in run if r["seconds"] <= max(seconds)), key=lambda r: r["step"])["accuracy"]
        for run in recipes
    ]
    lines.append(
        f"| accuracy when a fit is over, after {spread(seconds, 1)} s | {spread(early, 3)} | "
        f"{spread([r['accuracy'] for r in end[1]], 3)} | |"
    )
    return "\n".join(lines)


def spread(values, digits):
    """Return median and range as text."""
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def plot(records, path):
    """Draw accuracy over seconds, one panel a data set."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(r["data"] for r in records))
    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 4), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for method, color in (("LGMDistiller", "#0072B2"), ("published recipe", "#D55E00")):
            own = [r for r in records if (r["data"], r["method"]) == (name, method)]
            for i, seed in enumerate(sorted({r["seed"] for r in own})):
                line = [r for r in own if r["seed"] == seed and r["step"] > 0]
                axes.plot(
                    [r["seconds"] for r in line],
                    [r["accuracy"] for r in line],
                    color=color,
                    label=None if i else method,
                )
        axes.set(xscale="log", xlabel="seconds", ylabel="test accuracy of a probe", title=name)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    """Run on each data set and seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images and steps")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--timed-steps", type=int, default=40, help="of the recipe, for each fit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--recipe", type=Path, metavar="FOLDER", help="where published_recipe.py left its runs"
    )
    parser.add_argument(
        "--scored",
        action="store_true",
        help="take the recipe's accuracies from the results of the last run where it has the seed",
    )
    add_data_argument(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.recipe_seeds, arguments.timed_steps = [0], [0], 4
    torch.set_num_threads(arguments.threads)
    records, tables = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for data in arguments.data:
            case = Case(data, arguments, folder)
            own = run(case, arguments)
            records += own
            heading = (
                f"{data}: median (range) of {len(arguments.seeds)} fits, "
                f"{len(arguments.recipe_seeds)} runs of the recipe"
            )
            tables[heading] = summary(own)
            print(heading, tables[heading], sep="\n", flush=True)
    if not arguments.quick:
        save("time_to_accuracy", records, tables)
        plot(records, RESULTS / "time_to_accuracy.png")


if __name__ == "__main__":
    main()
