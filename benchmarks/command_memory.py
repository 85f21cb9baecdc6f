"""Peak memory of each step of the command over 5,000 and over 50,000 small JPEG files.

The files, 48 x 48 pixels in 10 classes, are copies of 500 pictures of OpenMoji; the test files are
as many. Each step runs in a process of its own, EfficientNet-lite0 at 32 pixels. Two peaks are
written: the memory of the process itself, and all that is resident, mapped files included, of which
the system takes back what others need. A probe on all images trains for two epochs.

A line is written as soon as a step has run, and what is there is not run again.

Run: ``python benchmarks/command_memory.py --work FOLDER``.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from _results import memory, read, run_missing, save_tables
from PIL import Image

from sklgm.datasets import load_openmoji

SIZES = (5_000, 50_000)
N_CLASSES, N_DISTINCT, SIDE = 10, 500, 48
NET = ("--backbone", "efficientnet_lite0", "--image-size", "32", "--device", "cpu", "--jobs", "2")
BOTH = ("--test", "{test}", "--train", "{train}")
PROBES = (*NET, "--seeds", "1", "--set", "max_epochs=2")
STEPS = {
    "check": ("check", "{train}"),
    "distill": ("distill", "{train}", *NET, "--max-iter", "10", "--out", "{out}", "--overwrite"),
    "evaluate": ("evaluate", "{out}", *BOTH, *PROBES),
    "report": ("report", "{out}", *BOTH, *PROBES, "--out", "{out}.html", "--overwrite"),
}


def make_files(folder, n):
    """Write files in a folder for each class, unless they are there."""
    if folder.exists():
        return
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    pictures = load_openmoji(size=SIDE).images[:N_DISTINCT]
    for i in range(n):
        target = half / f"class {i % N_CLASSES}" / f"{i:06}.jpg"
        if i < len(pictures):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[i]).save(target, quality=90)
        else:
            k = i % N_DISTINCT
            shutil.copy(half / f"class {k % N_CLASSES}" / f"{k:06}.jpg", target)
    half.rename(folder)


def run(step, n, work):
    """Run a step, and return its seconds and peaks in MiB."""
    names = {"train": work / f"train-{n}", "test": work / f"test-{n}", "out": work / f"made-{n}"}
    make_files(names["train"], n)
    make_files(names["test"], n)
    words = [word.format(**names) for word in STEPS[step]]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sklgm", *words], stdout=subprocess.DEVNULL)
    own = resident = 0
    while process.poll() is None:
        anonymous, peak = _memory(process.pid)
        own, resident = max(own, anonymous), max(resident, peak)
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{words} ended with {process.returncode}.")
    return {"seconds": time.perf_counter() - start, "own": own, "resident": resident}


def _memory(pid):
    """Return the memory of a process without mapped files, and the peak of all of it, in MiB."""
    try:
        sizes = memory(pid)
        return sizes["RssAnon"], sizes["VmHWM"]
    except (OSError, KeyError):  # it has ended
        return 0, 0


def table(records):
    """Return a Markdown table of the steps."""
    lines = ["| step | files | own memory | ratio | with mapped files | seconds |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for step in STEPS:
        of_step = [record for record in records if record["step"] == step]
        for record in of_step:
            own, resident, seconds = (float(record[k]) for k in ("own", "resident", "seconds"))
            ratio = own / float(of_step[0]["own"])
            cells = [step, record["n_files"], f"{own:.0f}", f"{ratio:.2f}", f"{resident:.0f}"]
            lines.append(f"| {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def main():
    """Run the steps that are missing, and write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--trial", action="store_true", help="results are not written")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    todo = [(step, n) for n in arguments.sizes for step in arguments.steps]
    run_missing(
        "command_memory",
        ("step", "n_files"),
        todo,
        lambda step, n: run(step, n, arguments.work),
        trial=arguments.trial,
    )
    if not arguments.trial:
        save_tables("command_memory", {"MiB": table(read("command_memory"))})


if __name__ == "__main__":
    main()
