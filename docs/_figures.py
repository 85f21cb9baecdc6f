"""Tables of the documentation, made of the files that the benchmarks write."""

import csv
from pathlib import Path
from statistics import mean, stdev

from tabulate import tabulate

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
NETS = ("CLIP", "lite0", "lite2", "MobileNetV2")
SELECTIONS = {"nearest to class mean": "photographs", "nearest, rate .01": "prototypes"}


def read(name):
    """Return the lines of a results file as dicts."""
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def spread(values):
    """Return the mean of several runs and its standard error, as text."""
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{error}".replace("0.", ".")


def travel(data, kind):
    """Return a table of what images of each net are worth on each net, by kind of label."""
    runs = [run for run in read("travel") if run["data"] == data]
    lines = []
    for home in NETS:
        for changed, name in SELECTIONS.items():
            own = [run for run in runs if (run["home"], run["changed"]) == (home, changed)]
            cells = [spread([float(run[f"{net} {kind}"]) for run in own]) for net in NETS if own]
            lines.append([f"{home}, {name} ({len(own)})", *cells])
    full = {run["home"]: run[f"{run['home']} hard"] for run in runs if run["changed"] == "all"}
    lines.append(["all images", *(spread([float(full[net])]) for net in NETS)])
    return tabulate(lines, ["images of", *NETS], "rst", disable_numparse=True)


def write_figures(app):
    """Write each table to a file that a page includes."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for data in ("flowers5", "imagewoof"):
        for kind in ("hard", "soft"):
            target = folder / f"travel_{data}_{kind}.inc"
            target.write_text(travel(data, kind) + "\n", encoding="utf-8")
