"""Seconds of the real pass over JPEG files, against its backbone and its decoding on their own.

A pass over files has to decode and resize them, and to push views of them through the net. With
two decoding threads, and the net at work at the same time, it should take about as long as the
net alone plus half of what one thread takes to decode: that sum is the yardstick. Three things
are timed in turns, a part of the files at a time, so that a busy machine slows all alike:

- the net on one fixed batch, as often as the pass calls it;
- Pillow in one thread: open, convert, resize to the canvas;
- ``compute_gradients`` on the paths.

The files, 500 x 375 pixels, are pictures of OpenMoji on smooth noise, which compress about as
photographs do. Processor time is given beside the time that passed: on a busy machine it tells
better what the pass adds to its two parts, as long as torch has one thread, since several threads
spin while they wait for each other.

The peak of resident memory is that of a process of its own, at 56 pixels, where many files are
soon done: over all files once, and over all of them four times.

Run: ``python benchmarks/real_pass.py``
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _results import memory, save
from PIL import Image

from sklgm import LGMDistiller
from sklgm.backbones import Backbone
from sklgm.datasets import load_openmoji

WIDTH, HEIGHT, QUALITY = 500, 375, 90
IMAGE_SIZE, MEMORY_IMAGE_SIZE = 224, 56
N_DISTINCT = 500
N_CLASSES = 8
# Augmentation and views of an image: the centre crop, and by default a random view beside it.
VIEWS = {"one view": (None, 1), "default views": ("blurred", 2)}
BAR = 1.25


def make_files(folder, n_files):
    """Write JPEG files of distinct pictures, or copies of them where there are many."""
    rng = np.random.default_rng(0)
    on_white, on_black = (
        load_openmoji(size=240, background=colour).images for colour in ("white", "black")
    )
    # Over white and over black a pixel differs by what its transparency lets through.
    alphas = 255 - (on_white[..., :1] - on_black[..., :1])
    contents = []
    for i in rng.permutation(len(on_white))[: min(n_files, N_DISTINCT)]:
        picture = smooth_noise(rng)
        left, top = rng.integers(0, WIDTH - 240), rng.integers(0, HEIGHT - 240)
        place = picture[top : top + 240, left : left + 240]
        place *= 1 - alphas[i] / 255
        place += on_black[i]
        picture += rng.normal(scale=4, size=picture.shape)  # grain
        content = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(
            content, "JPEG", quality=QUALITY
        )
        contents.append(content.getvalue())
    paths = [folder / f"{i:06}.jpg" for i in range(n_files)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % len(contents)])
    return paths


def smooth_noise(rng):
    """Return a picture of colours that vary over all distances, more over the longer ones."""
    picture = np.full((HEIGHT, WIDTH, 3), 128.0)
    for n_cells, strength in ((2, 60), (5, 30), (15, 15), (40, 8), (120, 5)):
        coarse = rng.normal(scale=strength, size=(n_cells, n_cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel])
            picture[..., channel] += layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return picture


def distiller(augmentation, n_jobs, image_size=IMAGE_SIZE):
    """Return the estimator whose real pass is measured."""
    backbone = Backbone.from_name("efficientnet_lite0", image_size=image_size)
    return LGMDistiller(
        backbone, augmentation=augmentation, device="cpu", n_jobs=n_jobs, random_state=0
    )


def labels(n):
    """Return labels of files."""
    return np.arange(n) % N_CLASSES


@torch.no_grad()
def run_net(n_images, n_views, batch_size):
    """Pass one fixed batch through the net as often as the real pass calls it."""
    backbone = Backbone.from_name("efficientnet_lite0", image_size=IMAGE_SIZE)
    net = backbone.module
    batch = torch.rand(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    batch = batch.contiguous(memory_format=torch.channels_last)
    for start in range(0, n_images, batch_size):
        for _ in range(n_views):
            net(batch[: n_images - start])


def decode(paths):
    """Decode and resize files in this thread."""
    canvas = Backbone.from_name("efficientnet_lite0", image_size=IMAGE_SIZE).canvas_size
    width = int(canvas * WIDTH / HEIGHT)
    left = round((width - canvas) / 2)
    for path in paths:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((width, canvas), Image.Resampling.BICUBIC)
            resized.crop((left, 0, left + canvas, canvas))


def seconds(function, *arguments):
    """Return how long a call takes: time that passes, and processor time of all threads."""
    start, start_cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - start, time.process_time() - start_cpu


def compare(paths, case, n_jobs, n_at_once):
    """Time the three in turns over parts of the files, and return the sums."""
    augmentation, n_views = VIEWS[case]
    estimator = distiller(augmentation, n_jobs)
    batch_size = estimator._encoders()[0].batch_size.images
    # What only the first call takes.
    first = paths[: 2 * batch_size]
    estimator.compute_gradients(first, labels(len(first)))
    times = {"net": [], "decode": [], "pass": []}
    for turn, start in enumerate(range(0, len(paths), n_at_once)):
        part = paths[start : start + n_at_once]
        calls = [
            ("net", run_net, len(part), n_views, batch_size),
            ("decode", decode, part),
            ("pass", estimator.compute_gradients, part, labels(len(part))),
        ]
        for i in range(3):
            name, *call = calls[(turn + i) % 3]
            times[name].append(seconds(*call))
        line = ", ".join(f"{name} {values[-1][0]:.2f} s" for name, values in times.items())
        ratio = times["pass"][-1][0] / bound(times["net"][-1][0], times["decode"][-1][0])
        print(f"{case}, {len(part)} files: {line}; {ratio:.2f}", flush=True)
    wall, cpu = (
        {name: sum(value[k] for value in values) for name, values in times.items()} for k in (0, 1)
    )
    return {
        "case": case,
        "n_files": len(paths),
        "n_jobs": n_jobs,
        "batch_size": batch_size,
        **{f"{name}_seconds": value for name, value in wall.items()},
        "ratio": wall["pass"] / bound(wall["net"], wall["decode"]),
        **{f"{name}_cpu_seconds": value for name, value in cpu.items()},
        "cpu_ratio": cpu["pass"] / (cpu["net"] + cpu["decode"]),
    }


def bound(net, decode):
    """Return the yardstick: the net alone, and decoding shared by two threads."""
    return net + decode / 2


def pass_once(folder, n_times, n_jobs):
    """Make one pass and print the peak of resident memory of this process in MiB, on Linux."""
    paths = sorted(Path(folder).glob("*.jpg")) * n_times
    distiller(None, n_jobs, MEMORY_IMAGE_SIZE).compute_gradients(paths, labels(len(paths)))
    # The peak that getrusage knows is at least that of the process which started this one.
    print(memory()["VmHWM"])


def peak_memory(folder, n_times, n_jobs):
    """Return what :func:`pass_once` prints in a new process."""
    arguments = ["--pass-once", folder, "--times", n_times, "--n-jobs", n_jobs]
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main():
    """Compare, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--files-default-views", type=int, default=500, metavar="FILES")
    parser.add_argument("--at-once", type=int, default=1000, help="files of a turn (%(default)s)")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--no-memory", action="store_true", help="measure seconds alone")
    parser.add_argument("--no-save", action="store_true", help="leave the results file alone")
    parser.add_argument("--pass-once", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pass_once:
        pass_once(options.pass_once, options.times, options.n_jobs)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder), max(options.files, options.files_default_views))
        size = sum(path.stat().st_size for path in paths) / len(paths)
        print(f"{len(paths)} files of {size / 1024:.0f} KiB on average", flush=True)
        numbers = dict(zip(VIEWS, (options.files, options.files_default_views), strict=True))
        records = [
            compare(paths[:n], case, options.n_jobs, options.at_once)
            for case, n in numbers.items()
            if n
        ]
        peaks = []
        if not options.no_memory:
            for n_times in (1, 4):
                peak, n = peak_memory(folder, n_times, options.n_jobs), n_times * len(paths)
                peaks.append({"case": "memory", "n_files": n, "peak_mib": peak})
                print(f"{n} files: peak {peak:.0f} MiB", flush=True)
    for r in records:
        print(f"{r['case']}: {r['ratio']:.2f}, at most {BAR} is wanted")
    if options.no_save:
        return
    tables = {}
    for title, suffix, total, ratio in (
        ("Seconds", "seconds", "net + decode / 2", "ratio"),
        ("Processor seconds", "cpu_seconds", "net + decode", "cpu_ratio"),
    ):
        lines = [
            f"| views | files | net | decode | pass | pass / ({total}) |",
            "| :--- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for r in records:
            cells = " | ".join(f"{r[f'{name}_{suffix}']:.1f}" for name in ("net", "decode", "pass"))
            lines.append(f"| {r['case']} | {r['n_files']} | {cells} | {r[ratio]:.2f} |")
        tables[f"{title}, lite0 at {IMAGE_SIZE} px, {options.n_jobs} decoding threads"] = lines
    if peaks:
        lines = ["| files | peak resident memory (MiB) |", "| ---: | ---: |"]
        lines += [f"| {p['n_files']} | {p['peak_mib']:.0f} |" for p in peaks]
        tables[f"Memory of a pass of one view an image at {MEMORY_IMAGE_SIZE} px"] = lines
    save("real_pass", records + peaks, {title: "\n".join(rows) for title, rows in tables.items()})


if __name__ == "__main__":
    main()
