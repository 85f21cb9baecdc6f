"""A data set of ImageNet's size without a net: 1,281,167 rows of 768 features in 1000 classes.

Rows lie in a file that is mapped into memory, class after class, 732 to 1300 of each by and large,
as ImageNet has them: the mean of a class and noise around it. The first 10, 100 and 1000 classes
are distilled, for ``heads="random"`` and ``"zero"``, and a probe is trained on the prototypes, and
one on all rows. Each case runs in a process of its own. What is written of each phase: its
seconds, and the largest memory of the process beside mapped files while it went on.

A line is written as soon as a case is there, and what is there is not run again.

Run: ``python benchmarks/thousand_classes.py --work FOLDER``; the folder needs 4.1 GB. Options
choose cases. ``--parts`` passes over so many thousandths of the rows, and says so, where a
machine has no hours for all of them.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from _results import memory, read, run_missing, save_tables, watching
from sklearn.metrics import top_k_accuracy_score

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet

N, N_CLASSES, N_FEATURES, N_TEST = 1_281_167, 1000, 768, 50
SPREAD = 0.18  # of class means, beside noise of 1
STEPS, EPOCHS = 200, 2
PHASES = ("pass", "steps", "probe", "probe on all")


def class_sizes():
    """Return how many rows each class has."""
    sizes = np.random.default_rng(0).integers(732, 1301, N_CLASSES)
    while missing := N - sizes.sum():
        few = np.flatnonzero(sizes < 1300 if missing > 0 else sizes > 732)[: abs(missing)]
        sizes[few] += np.sign(missing)
    return sizes


def write_rows(path, sizes, seed):
    """Write rows of all classes, one class after the other, unless they are there."""
    if path.exists():
        return
    half = path.with_suffix(".half")
    shape = (int(sizes.sum()), N_FEATURES)
    rows = np.lib.format.open_memmap(half, "w+", np.float32, shape)
    means = SPREAD * np.random.default_rng(1).standard_normal((N_CLASSES, N_FEATURES), np.float32)
    rng, end = np.random.default_rng(seed), 0
    for mean, size in zip(means, sizes, strict=True):
        start, end = end, end + size
        rows[start:end] = mean + rng.standard_normal((size, N_FEATURES), np.float32)
    del rows
    half.rename(path)


def rows_of(folder, n_classes):
    """Return X, y, X_test, y_test of the first classes."""
    found = []
    for name, seed, sizes in (
        ("train", 2, class_sizes()),
        ("test", 3, np.full(N_CLASSES, N_TEST)),
    ):
        write_rows(folder / f"{name}.npy", sizes, seed)
        y = np.repeat(np.arange(n_classes), sizes[:n_classes])
        found += [np.load(folder / f"{name}.npy", mmap_mode="r")[: len(y)], y]
    return found


class Phases:
    """Seconds and peak memory of the phases of a run, as they go by."""

    def __init__(self):
        self.found = {}

    @contextmanager
    def __call__(self, name):
        """Measure what is done inside."""
        start = time.perf_counter()
        with watching(_beside_files) as peak:
            yield
        self.found[f"{name}, s"] = time.perf_counter() - start
        self.found[f"{name}, MiB"] = peak[0]


def _beside_files():
    """Return the memory of this process in MiB, without what is mapped from files."""
    sizes = memory()
    return sizes["RssAnon"] + sizes["RssShmem"]


def run(n_classes, heads, folder, parts, threads):
    """Run a case, and return what is written of it."""
    torch.set_num_threads(threads)
    X, y, X_test, y_test = rows_of(folder, n_classes)
    phases = Phases()
    distiller = LGMDistiller(backbone=None, heads=heads, max_iter=STEPS, random_state=0)
    passed = slice(None, None, 1000 // parts)
    with phases("pass"):
        sums = distiller.compute_gradients(X[passed], y[passed])
    with phases("steps"):
        distiller.fit_gradients(sums)
    given = PrototypeSet.from_estimator(distiller)
    probe = FrozenBackboneProbe(backbone=None, random_state=0)
    on_all = FrozenBackboneProbe(backbone=None, max_epochs=EPOCHS, random_state=0)
    scores = {}
    for name, fitted, data in (("probe", probe, (given,)), ("probe on all", on_all, (X, y))):
        with phases(name):
            fitted.fit(*data)
            found = fitted.decision_function(X_test)
        for k in (1, 5):
            scores[f"{name}, top {k}"] = top_k_accuracy_score(y_test, found, k=k)
    return {"rows": len(y), "rows passed": len(y[passed]), **scores, **phases.found}


def table(records):
    """Return a Markdown table of all cases."""
    lines = ["| classes | heads | rows passed | " + " | ".join(PHASES) + " | top 1 | top 5 |"]
    lines.append("| ---: | --- | ---: |" + " ---: |" * (len(PHASES) + 2))
    for record in records:
        cells = [record["classes"], record["heads"], record["rows passed"]]
        for phase in PHASES:
            seconds, peak = (float(record[f"{phase}, {unit}"]) for unit in ("s", "MiB"))
            cells.append(f"{seconds:.0f} s, {peak:.0f} MiB")
        for k in (1, 5):
            both = (float(record[f"{name}, top {k}"]) for name in ("probe", "probe on all"))
            cells.append(" of ".join(f"{value:.3f}" for value in both))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    """Run the cases that are missing, each in a process, and write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--heads", nargs="+", default=["zero", "random"])
    parser.add_argument("--parts", type=int, default=1000, metavar="THOUSANDTHS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="store_true", help="run the one case, and print it")
    arguments = parser.parse_args()
    if arguments.case:
        (n_classes,), (heads,) = arguments.classes, arguments.heads
        print(json.dumps(run(n_classes, heads, arguments.work, arguments.parts, arguments.threads)))
        return

    def in_process(n_classes, heads):
        command = [sys.executable, __file__, "--case", "--work", str(arguments.work)]
        command += ["--classes", str(n_classes), "--heads", heads]
        command += ["--parts", str(arguments.parts), "--threads", str(arguments.threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)

    cases = [(n, heads) for heads in arguments.heads for n in arguments.classes]
    run_missing("thousand_classes", ("classes", "heads"), cases, in_process)
    save_tables("thousand_classes", {"By classes and heads": table(read("thousand_classes"))})


if __name__ == "__main__":
    main()
