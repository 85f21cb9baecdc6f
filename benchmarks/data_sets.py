"""Seconds and memory of the real pass over a Hugging Face data set on disk, against its files.

The same JPEG files, 500 x 375 pixels, are passed over as paths and as a data set of `datasets` that
was saved to disk with their bytes, in turns, on lite0 at 56 pixels, where reading is most of the
work. The bar is 1.1 times the seconds of the files.

Memory is that of a process of its own, over the data set once and over four of it: the peak of
anonymous memory, which is what a process must have. Pages of the mapped file are not counted, as
the system takes them back at will.

Run: ``python benchmarks/data_sets.py``
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np
import torch
from _results import memory, save, watching
from real_pass import MEMORY_IMAGE_SIZE, distiller, labels, make_files, seconds

from sklgm.datasets import as_X_y

BAR = 1.1


def make_data_set(paths, folder):
    """Save files as a data set, and return it as it is loaded from disk."""
    names = [str(label) for label in np.unique(labels(len(paths)))]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    contents = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    table = {"image": contents, "label": labels(len(paths)).tolist()}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(folder)
    return datasets.load_from_disk(folder)


def compare(paths, dataset, n_jobs, n_rounds):
    """Time passes over both in turns, and return the medians."""
    estimator = distiller(None, n_jobs, MEMORY_IMAGE_SIZE)
    X, y = as_X_y(dataset)
    calls = {
        "files": (estimator.compute_gradients, list(map(str, paths)), y),
        "data set": (estimator.compute_gradients, X, y),
        "columns": (estimator.compute_gradients, dataset["image"], dataset["label"]),
    }
    times = {name: [] for name in calls}
    for turn in range(n_rounds + 1):
        for name, call in calls.items():
            passed, _ = seconds(*call)
            if turn:  # the first warms up
                times[name].append(passed)
    ratios = {
        name: float(np.median(np.divide(times[name], times["files"]))) for name in list(calls)[1:]
    }
    print({name: np.round(values, 2).tolist() for name, values in times.items()}, ratios)
    return [
        {"case": name, "n_images": len(paths), "seconds": float(np.median(times[name]))}
        | ({"ratio": ratios[name]} if name in ratios else {})
        for name in calls
    ]


def pass_once(folder, n_times, n_jobs):
    """Pass over a data set once and print the peak of anonymous memory in MiB, on Linux."""
    dataset = datasets.concatenate_datasets([datasets.load_from_disk(folder)] * n_times)
    with watching(lambda: memory()["RssAnon"]) as peak:
        distiller(None, n_jobs, MEMORY_IMAGE_SIZE).compute_gradients(*as_X_y(dataset))
    print(peak[0])


def main():
    """Compare, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--no-save", action="store_true", help="leave the results file alone")
    parser.add_argument("--pass-once", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.pass_once:
        pass_once(options.pass_once, options.times, options.n_jobs)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), options.files)
        saved = str(Path(folder, "saved"))
        records = compare(paths, make_data_set(paths, saved), options.n_jobs, options.rounds)
        for n_times in (1, 4):
            command = [sys.executable, __file__, "--pass-once", saved, "--times", str(n_times)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            n_images, peak = n_times * len(paths), float(done.stdout)
            records.append({"case": "memory", "n_images": n_images, "anonymous_mib": peak})
            print(f"{n_images} images: {peak:.0f} MiB")
    if options.no_save:
        return
    lines = [
        "| X | images | seconds | ratio | memory (MiB) |",
        "| :--- | ---: | ---: | ---: | ---: |",
    ]
    for r in records:
        cells = [r.get("seconds"), r.get("ratio"), r.get("anonymous_mib")]
        text = " | ".join("" if cell is None else f"{cell:.2f}" for cell in cells)
        lines.append(f"| {r['case']} | {r['n_images']} | {text} |")
    heading = f"A pass at {MEMORY_IMAGE_SIZE} px, {options.n_jobs} decoding threads; bar {BAR}"
    save("data_sets", records, {heading: "\n".join(lines)})


if __name__ == "__main__":
    main()
