"""Group reliance of prototypes beside the accuracy on shifted test images, on four trained nets.

Emoji of four classes on four textures, class and texture together in training. Prototypes are
distilled, or random training images taken, and read by linear readers that learnt class and
texture from images where the two are independent (see ``sklgm.bias.diagnose_bias``). A probe
trained on the prototypes is scored on test images of other emoji: with the textures of training,
and with textures independent of the class. "all images" is a logistic regression on all training
images. As a control, one net is trained where class and texture are independent too.

The rank correlation of reliance and shifted accuracy over nets is printed. With four nets it is
one of a few possible numbers, and claims nothing.

Run: ``python benchmarks/group_reliance.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _results import save
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from sklgm import FrozenBackboneProbe, LGMDistiller, RandomImages
from sklgm.bias import diagnose_bias
from sklgm.datasets import make_spurious_images

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

NETS = {
    "lite0": "efficientnet_lite0",
    "lite1": "efficientnet_lite1",
    "lite2": "efficientnet_lite2",
    "ResNet": "nsfw_resnet",
}
CASES = [*((net, 1.0) for net in NETS), ("lite0", 0.0)]
COLUMNS = {
    "group_reliance": "reliance",
    "group_shown": "group shown (A)",
    "class_shown": "class shown (K)",
    "correlated_accuracy": "correlated test",
    "shifted_accuracy": "shifted test",
    "shifted_worst_pair_accuracy": "worst pair",
    "all_images_shifted_accuracy": "all images, shifted",
}


def draw(correlation, subset, n, seed):
    """Return images, classes and textures."""
    data = make_spurious_images(
        correlation=correlation, subset=subset, n_samples=n, random_state=seed
    )
    return data.images, data.target_names[data.target], data.group_names[data.groups]


def run(net, correlation, seed, arguments, folder):
    """Return the records of a net and a seed: distilled, and random images."""
    backbone = real_backbone(NETS[net], folder)
    n = 80 if arguments.quick else 320
    train = draw(correlation, "train", n, seed)
    # The same for all nets and correlations; other seeds than those of the training images.
    reference = draw(0.0, "train", 3 * n // 2, 100 + seed)
    tests = {
        "correlated_test": draw(1.0, "test", n, 200 + seed),
        "shifted_test": draw(0.0, "test", n, 200 + seed),
    }
    few = {"max_iter": 10} if arguments.quick else {"max_iter": 100}
    probe = FrozenBackboneProbe(backbone, n_views=20, max_epochs=500, random_state=seed)
    whole = FrozenBackboneProbe(
        backbone, head=LogisticRegression(max_iter=2000), n_views=2, random_state=seed
    ).fit(*train[:2])
    all_images = whole.score(*tests["shifted_test"][:2])
    rows = {
        "distilled": LGMDistiller(backbone, random_state=seed, **few),
        "random": RandomImages(backbone, random_state=seed),
    }
    records = []
    for name, selection in rows.items():
        report = diagnose_bias(selection, *train, reference=reference, probe=probe, **tests)
        records.append(
            {
                "net": net,
                "correlation": correlation,
                "selection": name,
                "seed": seed,
                **report.summary(),
                "all_images_shifted_accuracy": all_images,
            }
        )
        print(net, correlation, name, seed, report._caption(), flush=True)
    return records


def table(records):
    """Return means over the seeds, with standard deviations."""
    titles = ["net", "correlation", "prototypes", *COLUMNS.values()]
    lines = ["| " + " | ".join(titles) + " |", "| --- | ---: | --- |" + " ---: |" * len(COLUMNS)]
    for key in dict.fromkeys((r["net"], r["correlation"], r["selection"]) for r in records):
        mine = [r for r in records if (r["net"], r["correlation"], r["selection"]) == key]
        cells = [str(part) for part in key]
        for name in COLUMNS:
            values = [record[name] for record in mine]
            cells.append(f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ranks(records):
    """Return the rank correlations of distilled prototypes at correlation 1."""
    runs = [r for r in records if r["selection"] == "distilled" and r["correlation"] == 1]
    pairs = {
        f"{len(runs)} runs": [(r["group_reliance"], r["shifted_accuracy"]) for r in runs],
        f"{len(NETS)} nets": [
            tuple(
                np.mean([r[name] for r in runs if r["net"] == net])
                for name in ("group_reliance", "shifted_accuracy")
            )
            for net in NETS
        ],
    }
    parts = []
    for name, both in pairs.items():
        found = spearmanr(*zip(*both, strict=True))
        parts.append(f"over {name} {found.statistic:+.2f} (p = {found.pvalue:.2f})")
    return f"Spearman's rank correlation of reliance and shifted accuracy: {', '.join(parts)}."


def main():
    """Diagnose each net and seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 2
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for net, correlation in CASES:
            for seed in range(arguments.seeds):
                records += run(net, correlation, seed, arguments, folder)
    heading = f"Means ± standard deviation over {arguments.seeds} seeds"
    tables = {heading: f"{table(records)}\n\n{ranks(records)}"}
    print(tables[heading])
    if not arguments.quick:
        save("group_reliance", records, tables)


if __name__ == "__main__":
    main()
