"""Tables of the documentation, made of the files that the benchmarks write."""

import sys
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _results import mean_and_error, read

NETS = ("CLIP", "lite0", "lite2", "MobileNetV2")
KINDS = ("hard", "soft")
SELECTIONS = {"nearest to class mean": "photographs", "nearest, rate .01": "prototypes"}
ON_DRAWINGS = {
    "nearest to class mean": "drawings",
    "nothing": "default",
    "nearest, rate .02": "nearest, rate .02",
}

# Of the tables of what was tried for the sake of other nets: the settings in their order.
FOR_OTHERS = (
    "nothing; nearest, rate .01; nearest, rate .02; nearest; nearest, rate .02, colour; "
    "nearest, rate .02, stronger blur; damped; to 56 pixels; mean of steps; large crops; "
    "small crops; large crops first; noise; stages; stages and squares; whitened; whitened less; "
    "orthogonalised; soft loss; two nets; two nets, one drawn a step; "
    "two a class, one random view"
)

# Of tables of what was tried: nets and data, and the changes of `tried.csv` in their order.
TRIED = {
    "clip": (
        {"Imagewoof": ("imagewoof", "CLIP"), "flowers": ("flowers5", "CLIP")},
        "nothing; learning rate .03; learning rate .12; 50 steps; 200 steps; Adam's first beta .9; "
        "head scale .03; no blur; all views blurred; weight of crops .1; "
        "crops matched with real crops alone, weight .25",
    ),
    "small": (
        {"Fashion-MNIST": ("fashion-mnist", "lite0")},
        "nothing; 150 steps; 200 steps; learning rate .12; a crop and 2 random views; "
        "a crop and 1 random view, 200 steps; one distance, 4 random views, 200 steps",
    ),
    "shift": (
        {"PACS": ("pacs", "MobileNetV2")},
        "nothing; penalty .03; penalty .3; centred features; centred features, penalty .1; "
        "zero heads; zero heads, penalty .1",
    ),
}


def tried(group):
    """Return a table of what changes of settings did to the probe and to logistic regression."""
    columns, changes = TRIED[group]
    runs, scores, lines = read("tried"), ("probe", "logistic"), []
    for changed in changes.split("; "):
        cells = []
        for data, net in columns.values():
            key = {"data": data, "net": net, "changed": changed}
            own = [run for run in runs if key.items() <= run.items()]
            cells += [_mean(own, score) for score in scores]
        lines.append([changed, *cells])
    titles = [f"{title}, {score}" for title in columns for score in scores]
    return tabulate(lines, ["changed", *titles], "rst", disable_numparse=True)


def travel(data, kind):
    """Return a table of what images of each net are worth on each net, by kind of label."""
    runs = [run for run in read("travel") if run["data"] == data]
    lines = []
    for home in NETS:
        for changed, name in SELECTIONS.items():
            own = [run for run in runs if (run["home"], run["changed"]) == (home, changed)]
            if own:
                cells = [_cell(float(run[f"{net} {kind}"]) for run in own) for net in NETS]
                lines.append([f"{home}, {name} ({len(own)})", *cells])
    full = {run["home"]: run[f"{run['home']} hard"] for run in runs if run["changed"] == "all"}
    lines.append(["all images", *(_cell([float(full[net])]) for net in NETS)])
    return tabulate(lines, ["images of", *NETS], "rst", disable_numparse=True)


def tried_for_others(home):
    """Return a table of what changed prototypes of flowers by a net are worth on each net."""
    runs = [run for run in read("travel") if (run["data"], run["home"]) == ("flowers5", home)]
    lines = []
    for changed in FOR_OTHERS.split("; "):
        own = [run for run in runs if run["changed"] == changed]
        if own:
            cells = [_cell(float(run[f"{net} hard"]) for run in own) for net in NETS]
            lines.append([f"{changed} ({len(own)})", *cells])
    return tabulate(lines, ["changed", *NETS], "rst", disable_numparse=True)


def drawings():
    """Return a table of what images of OpenMoji are worth on nets, with hard and soft labels."""
    nets = ("lite0", "lite2", "MobileNetV2", "ViT", "ResNet")
    runs = [run for run in read("travel") if run["data"] == "openmoji"]
    lines = []
    for home in ("lite0", "lite2"):
        for changed, name in ON_DRAWINGS.items():
            own = [run for run in runs if (run["home"], run["changed"]) == (home, changed)]
            cells = [", ".join(_mean(own, f"{net} {kind}") for kind in KINDS) for net in nets]
            lines.append([f"{home}, {name} ({len(own)})", *cells])
    return tabulate(lines, ["images of", *nets], "rst", disable_numparse=True)


def _mean(runs, column):
    """Return the mean of a column over some runs, as text."""
    return f"{sum(float(run[column]) for run in runs) / len(runs):.3f}".lstrip("0")


def _cell(values):
    # A number and its error stay in one line.
    return mean_and_error(list(values)).replace("0.", ".").replace(" ", "\N{NO-BREAK SPACE}")


def tables():
    """Return all tables by the names of their files."""
    made = {f"tried_{group}": tried(group) for group in TRIED} | {"travel_openmoji": drawings()}
    made |= {f"travel_tried_{home}": tried_for_others(home) for home in ("lite0", "MobileNetV2")}
    for data in ("flowers5", "imagewoof"):
        for kind in KINDS:
            made[f"travel_{data}_{kind}"] = travel(data, kind)
    return made


def write_figures(app):
    """Write each table to a file that a page includes."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name, table in tables().items():
        (folder / f"{name}.inc").write_text(f"{table}\n", encoding="utf-8")
