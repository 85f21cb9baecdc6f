"""What repairs biased prototypes, on photographs: weights, or a prototype of each pair.

Two classes and two domains of PACS are drawn for each seed. Each class has 20 training images of a
domain of its own, and none or 3 of the other domain. Probes are trained on the prototypes
alone, and scored on 20 other images of each pair of class and domain. The rows:

- as it is: a prototype of each class;
- two a class: as many prototypes as there are pairs, without groups;
- weighted: a prototype of each class, every pair weighing alike (``sample_weight``);
- one a pair: pairs are the labels of the distillation, and classes those of the probe;
- all images, all images weighted: logistic regressions on the features of all training images.

Run: ``python benchmarks/repair.py FOLDER``, where FOLDER has pacs; ``--quick`` saves nothing.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from _results import read, run_missing, save_tables
from sklearn.linear_model import LogisticRegression
from sklearn.utils import compute_sample_weight

from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, PrototypeSet
from sklgm.utils.tables import markdown
from sklgm.utils.targets import worst_pair_accuracy

DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
N_TRAIN, N_TEST = 20, 20
OTHERS = (0, 3)
NET = {"backbone": "efficientnet_lite0", "image_size": 56}
KINDS = ("accuracy", "worst pair")


def draw(root, n_others, seed):
    """Return paths, classes and domains of training and of test images."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(sorted(path.name for path in (root / "train").iterdir()), 2, replace=False)
    domains = rng.choice(DOMAINS, 2, replace=False)
    parts = {"train": [], "test": []}
    for i, j in product(range(2), range(2)):
        place = Path(classes[i]) / domains[j]
        files = [file for part in ("train", "test") for file in (root / part / place).glob("*.jpg")]
        order = rng.permutation(sorted(map(str, files)))
        n = N_TRAIN if i == j else n_others
        for part, chosen in (("train", order[:n]), ("test", order[N_TRAIN:][:N_TEST])):
            parts[part] += [(file, str(classes[i]), str(domains[j])) for file in chosen.tolist()]
    return [[np.array(column) for column in zip(*parts[name], strict=True)] for name in parts]


def run(n_others, seed, arguments):
    """Return the accuracies of each row, over all images and of the worst pair."""
    (X, y, groups), (X_test, y_test, test_groups) = draw(arguments.folder / "pacs", n_others, seed)
    few = {"max_iter": 10} if arguments.quick else {}
    probe = FrozenBackboneProbe(**NET, n_views=20, random_state=seed)
    pairs = np.array([f"{c}, {g}" for c, g in zip(y, groups, strict=True)])
    weights = compute_sample_weight("balanced", pairs)
    distilled = {
        "as it is": ({}, y, None),
        "two a class": ({"prototypes_per_class": 2}, y, None),
        "weighted": ({}, y, weights),
        "one a pair": ({}, pairs, None),
    }
    predicted = {}
    for name, (params, labels, weight) in distilled.items():
        if n_others or name == "as it is":
            made = LGMDistiller(**NET, random_state=seed, **few, **params)
            made.fit(X, labels, sample_weight=weight)
            classes = [label.partition(", ")[0] for label in made.prototype_labels_]
            predicted[name] = probe.fit(PrototypeSet(made.prototypes_, classes)).predict(X_test)
    embedder = BackboneEmbedder(**NET)
    features, tests = embedder.fit_transform(X), embedder.transform(X_test)
    for name, weight in {"all images": None, "all images, weighted": weights}.items():
        whole = LogisticRegression(max_iter=10_000).fit(features, y, sample_weight=weight)
        predicted[name] = whole.predict(tests)
    found = {}
    for name, labels in predicted.items():
        right = labels == y_test
        found[f"{name}: accuracy"] = float(right.mean())
        found[f"{name}: worst pair"] = worst_pair_accuracy(right, y_test, test_groups)
    columns = [
        f"{name}: {kind}" for name in dict.fromkeys((*distilled, *predicted)) for kind in KINDS
    ]
    return {column: found.get(column, "") for column in columns}


def table(lines):
    """Return means over the seeds, with standard deviations."""
    names = [c.removesuffix(": accuracy") for c in lines[0] if c.endswith(": accuracy")]
    cells = []
    for name in names:
        both = [[float(x) for line in lines if (x := line[f"{name}: {kind}"])] for kind in KINDS]
        if both[0]:
            cells.append([name, *(f"{np.mean(v):.2f} ± {np.std(v, ddof=1):.2f}" for v in both)])
    return markdown(["trained on", *KINDS], cells)


def main():
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=8)
    arguments = parser.parse_args()
    todo = ((n, seed) for seed, n in product(range(arguments.seeds), OTHERS))
    one = partial(run, arguments=arguments)
    run_missing("repair", ("n_others", "seed"), todo, one, trial=arguments.quick)
    if arguments.quick:
        return
    tables = {}
    for n in OTHERS:
        lines = [line for line in read("repair") if line["n_others"] == str(n)]
        heading = f"{n} images of the other domain: means ± standard deviation over seeds"
        tables[heading] = table(lines)
    save_tables("repair", tables)


if __name__ == "__main__":
    main()
