"""Group reliance of prototypes beside the accuracy on shifted test images, on trained nets.

Emoji of four classes on four textures, class and texture together in training. Prototypes are
distilled, or random training images taken, and read by linear readers that learnt class and
texture from images where the two are independent (see ``sklgm.bias.diagnose_bias``). A probe
trained on the prototypes is scored on test images of other emoji: with the textures of training,
and with textures independent of the class. "all images" is a logistic regression on all training
images. As a control, one net is trained where class and texture are independent too.

With ``--photos FOLDER`` pictures of PACS and Office-Caltech take their place, and domains (photo,
sketch, ...) that of textures. For each seed as many classes as there are domains are drawn, and a
domain for each, and 16 training images a class (6 of Office-Caltech) are taken. With correlation
.5, half of these are of its own domain, and the other half of all domains alike. The reference are
other training images, as many of every pair; test images come from the sets' test parts.
``SKLGM_WEIGHTS`` is set as ``benchmarks/weights.py`` says.

The rank correlation of reliance and shifted accuracy is printed: over all runs, and over the means
of nets. With four nets that is one of a few possible numbers, and claims nothing.

Run: ``python benchmarks/group_reliance.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from _results import read, run_missing, save, save_tables
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, RandomImages
from sklgm.bias import diagnose_bias
from sklgm.datasets import make_spurious_images
from sklgm.utils.tables import markdown

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

NETS = {
    "lite0": "efficientnet_lite0",
    "lite1": "efficientnet_lite1",
    "lite2": "efficientnet_lite2",
    "ResNet": "nsfw_resnet",
}
CASES = [*((net, 1.0) for net in NETS), ("lite0", 0.0)]
# Of photographs. CLIP sees 224 pixels, the others fewer, to save time.
NETS_OF_PHOTOS = {
    "lite0": ("efficientnet_lite0", 112),
    "lite2": ("efficientnet_lite2", 112),
    "MobileNetV2": ("mobilenetv2", 112),
    "CLIP": ("clip_vitb16_8bit", 224),
}
# Domains with enough pictures, and of each pair of class and domain: for training, for reference.
PHOTOS = {
    "pacs": (("art_painting", "cartoon", "photo", "sketch"), 16, 10),
    "office-caltech10": (("amazon", "caltech", "webcam"), 6, 6),
}
CORRELATIONS = (1.0, 0.5)
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


def draw_photographs(root, data, correlation, seed):
    """Return training, reference, correlated and shifted test images of some classes of a set.

    Each is a triple of paths, classes and domains.
    """
    domains, n_train, n_reference = PHOTOS[data]
    rng = np.random.default_rng(seed)
    classes = sorted(path.name for path in (root / data / "train").iterdir() if path.is_dir())
    own = dict(zip(rng.choice(classes, len(domains), replace=False), domains, strict=True))
    parts = {name: [] for name in ("train", "reference", "correlated_test", "shifted_test")}
    for label, home in own.items():
        for domain in domains:
            files, tests = (
                [(str(path), str(label), domain) for path in sorted(folder.glob("*.jpg"))]
                for folder in (root / data / part / label / domain for part in ("train", "test"))
            )
            if len(files) < n_train + n_reference:
                raise ValueError(f"{data} has {len(files)} pictures of {label} in {domain}.")
            order = rng.permutation(len(files))
            share = (1 - correlation) / len(domains) + correlation * (domain == home)
            parts["reference"] += [files[i] for i in order[:n_reference]]
            parts["train"] += [files[i] for i in order[n_reference:][: round(share * n_train)]]
            parts["correlated_test"] += tests if domain == home else []
            parts["shifted_test"] += tests if domain != home else []
    triples = {
        name: [np.array(part) for part in zip(*rows, strict=True)] for name, rows in parts.items()
    }
    return {name: (list(X), y, groups) for name, (X, y, groups) in triples.items()}


def run_photographs(data, net, correlation, seed, arguments):
    """Return what was found on a set, a net and a seed."""
    name, size = NETS_OF_PHOTOS[net]
    backbone = real_backbone(name, None, size)
    parts = draw_photographs(arguments.photos, data, correlation, seed)
    probe = FrozenBackboneProbe(backbone, n_views=20, random_state=seed)
    distiller = LGMDistiller(backbone, random_state=seed)
    if arguments.quick:
        distiller.set_params(max_iter=5)
        probe.set_params(n_views=2, max_epochs=50)
    train = parts.pop("train")
    embedder = BackboneEmbedder(backbone)
    whole = LogisticRegression(max_iter=10_000).fit(embedder.fit_transform(train[0]), train[1])
    X, y, _ = parts["shifted_test"]
    report = diagnose_bias(distiller, *train, probe=probe, **parts)
    return {
        "selection": "distilled",
        **report.summary(),
        "all_images_shifted_accuracy": whole.score(embedder.transform(X), y),
    }


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
    few = {"max_iter": 10} if arguments.quick else {}
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
    lines = []
    for key in dict.fromkeys((r["net"], r["correlation"], r["selection"]) for r in records):
        mine = [r for r in records if (r["net"], r["correlation"], r["selection"]) == key]
        cells = [str(part) for part in key]
        for name in COLUMNS:
            values = [record[name] for record in mine]
            deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{deviation}")
        lines.append(cells)
    return markdown(titles, lines)


def ranks(records, correlation=1.0):
    """Return the rank correlations of distilled prototypes at a correlation."""
    runs = [r for r in records if r["selection"] == "distilled" and r["correlation"] == correlation]
    nets = dict.fromkeys(r["net"] for r in runs)
    pairs = {
        f"{len(runs)} runs": [(r["group_reliance"], r["shifted_accuracy"]) for r in runs],
        f"{len(nets)} nets": [
            tuple(
                np.mean([r[name] for r in runs if r["net"] == net])
                for name in ("group_reliance", "shifted_accuracy")
            )
            for net in nets
        ],
    }
    parts = []
    for name, both in pairs.items():
        if len(both) < 3:
            continue
        found = spearmanr(*zip(*both, strict=True))
        p = f" (p = {found.pvalue:.2f})" if len(both) > 4 else ""  # of so few it is no estimate
        parts.append(f"over {name} {found.statistic:+.2f}{p}")
    return f"Spearman's rank correlation of reliance and shifted accuracy: {', '.join(parts)}."


def photographs(arguments):
    """Diagnose nets on photographs, in runs that are written as they come and not run twice."""
    name = "group_reliance_photographs"
    seeds = range(arguments.seeds)
    run_missing(
        name,
        ("data", "net", "correlation", "seed"),
        ((d, n, c, s) for s, n, d, c in product(seeds, arguments.nets, PHOTOS, CORRELATIONS)),
        partial(run_photographs, arguments=arguments),
        trial=arguments.quick,
    )
    if arguments.quick:
        return
    numbers = ("correlation", *COLUMNS)
    records = [{**run, **{key: float(run[key]) for key in numbers}} for run in read(name)]
    tables = {}
    for data, correlation in product(PHOTOS, CORRELATIONS):
        mine = [r for r in records if (r["data"], r["correlation"]) == (data, correlation)]
        if mine:
            heading = f"{data}, correlation {correlation}: means ± standard deviation over seeds"
            tables[heading] = f"{table(mine)}\n\n{ranks(mine, correlation)}"
            print(heading, tables[heading], sep="\n")
    save_tables(name, tables, script="group_reliance")


def main():
    """Diagnose each net and seed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images, steps and seeds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="pictures of both sets")
    parser.add_argument("--nets", nargs="+", choices=NETS_OF_PHOTOS, default=list(NETS_OF_PHOTOS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 2
    if arguments.photos:
        photographs(arguments)
        return
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
