"""Tables of the documentation, made of the files that the benchmarks write."""

import sys
from pathlib import Path

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from _results import mean_and_error, read

NETS = ("CLIP", "lite0", "lite2", "MobileNetV2")
SELECTIONS = {"nearest to class mean": "photographs", "nearest, rate .01": "prototypes"}


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


def _cell(values):
    return mean_and_error(list(values)).replace("0.", ".")


def write_figures(app):
    """Write each table to a file that a page includes."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for data in ("flowers5", "imagewoof"):
        for kind in ("hard", "soft"):
            target = folder / f"travel_{data}_{kind}.inc"
            target.write_text(travel(data, kind) + "\n", encoding="utf-8")
