"""What bfloat16 brings on a CPU: times of trained nets, and accuracies of probes on CLIP.

Batches pass each net forward, and forward and back to the pixels, in float32 and in bfloat16 by
turns; the shortest of several times counts. With ``--photos`` this is left out: probes train on
one view of each training photograph, whose features CLIP computes in either precision.

Run: ``python benchmarks/cpu_precision.py [--photos FOLDER]``, with ``SKLGM_WEIGHTS`` set as
``benchmarks/weights.py`` says, and ``OMP_NUM_THREADS`` to the number of threads. Photographs are
``FOLDER/SET/{train,test}/CLASS/.../*.jpg``.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from _results import mean_and_error, save
from tabulate import tabulate

from sklgm import FrozenBackboneProbe
from sklgm.datasets import load_folder

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

# Name, side of images and images in a batch.
NETS = (
    ("clip_vitb16_8bit", 224, 8),
    ("focus_vit", 224, 16),
    ("efficientnet_lite0", 56, 64),
    ("efficientnet_lite0", 224, 16),
    ("mobilenetv2", 224, 16),
    ("nsfw_resnet", 224, 16),
)
SETS = ("imagewoof", "flowers5")
N_TIMES, N_SEEDS = 6, 3
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def forward(net, pixels, dtype):
    """Return the seconds of a pass without a graph."""
    start = time.perf_counter()
    with torch.no_grad():
        net.features(pixels, autocast=dtype)
    return time.perf_counter() - start


def both(net, pixels, dtype):
    """Return the seconds of a pass forward and back."""
    leaf = pixels.clone().requires_grad_()
    start = time.perf_counter()
    net.features(leaf, autocast=dtype).sum().backward()
    return time.perf_counter() - start


def times(name, size, n_images, folder):
    """Yield a record for each kind of pass."""
    net = real_backbone(name, folder, size)
    pixels = torch.rand(n_images, 3, size, size, generator=torch.Generator().manual_seed(0))
    for kind in (forward, both):
        taken = {precision: [] for precision in PRECISIONS}
        for _ in range(N_TIMES + 1):  # the first is a trial
            for precision, dtype in PRECISIONS.items():
                taken[precision].append(kind(net, pixels, dtype))
        least = {precision: 1e3 * min(seconds[1:]) for precision, seconds in taken.items()}
        ratio = least["float32"] / least["bfloat16"]
        what = {"net": name, "size": size, "images": n_images, "pass": kind.__name__}
        yield {**what, **least, "ratio": ratio}


def accuracies(photos):
    """Yield a record for each set of photographs, precision and seed."""
    for data in SETS:
        train, test = (load_folder(photos / data / s, return_X_y=True) for s in ("train", "test"))
        for precision in PRECISIONS:
            for seed in range(N_SEEDS):
                probe = FrozenBackboneProbe(
                    real_backbone("clip_vitb16_8bit", None, 224),
                    precision=precision,
                    n_views=1,
                    random_state=seed,
                )
                found = {"data": data, "precision": precision, "seed": seed}
                yield {**found, "accuracy": probe.fit(*train).score(*test)}


def main():
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    photos = parser.parse_args().photos
    if photos is None:
        with tempfile.TemporaryDirectory() as folder:
            records = [one for net in NETS for one in times(*net, Path(folder))]
        rows = [[f"{v:.4g}" if isinstance(v, float) else v for v in r.values()] for r in records]
        name, heading, header = "cpu_precision", "Milliseconds of a batch", list(records[0])
    else:
        records = list(accuracies(photos))
        rows = [[data, *(of(records, data, p) for p in PRECISIONS)] for data in SETS]
        name, heading = "cpu_precision_probes", f"Accuracy of probes on CLIP, {N_SEEDS} seeds"
        header = ["", *PRECISIONS]
    table = tabulate(rows, header, "pipe", disable_numparse=True)
    print(table)
    save(name, records, {heading: table}, script="cpu_precision")


def of(scores, data, precision):
    """Return mean and standard error of some accuracies, as text."""
    keys = (data, precision)
    return mean_and_error([s["accuracy"] for s in scores if (s["data"], s["precision"]) == keys])


if __name__ == "__main__":
    main()
