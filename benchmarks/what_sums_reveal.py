"""Whether sums of gradients tell which photographs were in a class.

Somebody has the sums of ten classes, all of the same size, and candidates: photographs of a class,
some of which are in its sums. The photographs of a class are those of training and test together;
a seed chooses the members, and halves the others into candidates that are no members, and
references. The sums are those of `LGMDistiller.compute_gradients`, on EfficientNet-lite0 at 224
pixels. Each score compares a candidate's own figures, in which nothing is random, with what
is solved from sums:

- "mean image": the correlation with the mean image of the class, in 8 x 8 pixels;
- "features": the cosine with the mean feature of the class, both less the mean of all classes, by
  ``heads="zero"``;
- "covariance": the score of linear discriminant analysis (LDA) for the class, by sums that were
  made with ``soft_labels=True``;
- "random heads": the same where means and covariance are solved from the gradients of the default;
- "... and references": the score of LDA by the class's mean image or feature, by zero heads, less
  the mean of its references, and the covariance of these.

What is written is the area under the ROC curve (AUC) of each score, a mean over classes, beside the
correlations, and how far the mean features that are solved from zero heads are from the real ones,
as a share of the largest. Better scores may exist: these are lower bounds.

A line is written as soon as a run is there, and what is there is not run again.

Run: ``python benchmarks/what_sums_reveal.py --photos FOLDER``. The photographs are
``FOLDER/SET/{train,test}/CLASS/.../*.jpg``.
"""

import argparse
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from _results import mean_and_error, read, run_missing, save_tables
from sklearn.metrics import roc_auc_score

from sklgm import LGMDistiller
from sklgm.datasets import load_folder
from sklgm.matching.discriminant import discriminant_head

SETTINGS = {"backbone": "efficientnet_lite0", "image_size": 224}
SIZES = (1, 5, 50)
CORRELATIONS = ("correlation of members", "correlation of others")
SCORES = (
    *("mean image", "features", "covariance", "random heads"),
    *("mean image and references", "features and references"),
)
GAP = "gap of mean features"


def class_means(sums):
    """Return the mean feature of each class, solved from gradients of classes that weigh alike.

    Heads of zeros give each of C classes the probability 1 / C, so that the gradient of a class is
    1 / C of the sum of all features, less the sum of its own. Small random heads do so on average.
    """
    gradients = sums.sums.double().mean(0)[:, :-1].numpy()
    return (sums.feature_sum.numpy() / len(gradients) - gradients) / sums.row_weights[:, None]


def class_moments(sums):
    """Return mean features and the covariance within classes, solved from random heads.

    With small heads the probability of a class differs from 1 / C by 1 / C of the product of the
    feature and what its head has more than the mean head. So gradients differ from those of zero
    heads by 1 / C of the product of that and the sum of products of features.
    """
    means, n_classes = class_means(sums), len(sums.classes)
    heads = sums.heads.take(slice(None)).double().numpy()
    known = heads - heads.mean(axis=1, keepdims=True)
    gradients = sums.sums[:, :, :-1].double().numpy()
    pairs = (values - values.mean(axis=0) for values in (known, gradients))
    rows = (pair.reshape(-1, means.shape[1]) for pair in pairs)
    products = n_classes * np.linalg.lstsq(*rows, rcond=None)[0]
    within = (products + products.T) / 2 - means.T @ (means * sums.row_weights[:, None])
    values, vectors = np.linalg.eigh(within / sums.row_weights.sum())
    return means, vectors * values.clip(0) @ vectors.T


def correlations(rows, row):
    """Return the correlation of each row with one."""
    return cosines(rows - rows.mean(axis=1, keepdims=True), row - row.mean())


def cosines(rows, row):
    """Return the cosine of each row with one."""
    return rows @ row / (np.linalg.norm(rows, axis=1) * np.linalg.norm(row))


class Candidates:
    """The photographs of a set, and what somebody who has them can compute of each.

    Parameters
    ----------
    folder : Path
        The set's.
    """

    def __init__(self, folder):
        parts = [load_folder(folder / part, return_X_y=True) for part in ("train", "test")]
        self.X, self.y = (np.concatenate(both) for both in zip(*parts, strict=True))
        self.classes = np.unique(self.y)

    @cached_property
    def figures(self):
        """The small image and the feature of each: sums of classes that are one photograph."""
        distiller = LGMDistiller(**SETTINGS, heads="zero", n_real_views=0, random_state=0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            sums = distiller.compute_gradients(self.X, np.arange(len(self.X)))
        return sums.mean_images().reshape(len(self.X), -1).astype(float), class_means(sums)

    def run(self, size, seed):
        """Return how well sums of so many photographs a class tell who is in them."""
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(np.flatnonzero(self.y == name)) for name in self.classes]
        members = np.concatenate([order[:size] for order in orders])
        others = [np.array_split(order[size:], 2) for order in orders]

        def sums(**settings):
            distiller = LGMDistiller(**SETTINGS, **settings, random_state=seed)
            return distiller.compute_gradients(self.X[members], self.y[members])

        def by_references(rows, means):
            references = [rows[half] for _, half in others]
            centres = np.array([some.mean(axis=0) for some in references])
            noise = np.concatenate([r - m for r, m in zip(references, centres, strict=True)])
            return discriminant_head(means - centres, noise.T @ noise / len(noise))[0]

        zero, random = sums(heads="zero", soft_labels=True), sums()
        small, features = self.figures
        images = zero.mean_images().reshape(len(self.classes), -1).astype(float)
        means, covariance = zero.class_moments()
        solved = class_means(zero)
        centre = solved.mean(axis=0)
        linear = [
            (features, discriminant_head(means, covariance)[0]),
            (features, discriminant_head(*class_moments(random))[0]),
            (small, by_references(small, images)),
            (features, by_references(features, solved)),
        ]
        found = {name: [] for name in (*CORRELATIONS, *SCORES)}
        for c, order in enumerate(orders):
            own = np.concatenate([order[:size], others[c][0]])
            is_member = np.arange(len(own)) < size
            likeness = correlations(small[own], images[c])
            scores = [likeness, cosines(features[own] - centre, solved[c] - centre)]
            scores += [rows[own] @ heads[c] for rows, heads in linear]
            for name, score in zip(SCORES, scores, strict=True):
                found[name].append(roc_auc_score(is_member, score))
            for name, some in zip(CORRELATIONS, (is_member, ~is_member), strict=True):
                found[name].append(likeness[some].mean())
        gap = np.abs(solved - means).max() / np.abs(means).max()
        # In digits that rounding leaves.
        return {n: float(np.mean(v)) for n, v in found.items()} | {GAP: f"{gap:.1e}"}


def table(records):
    """Return a Markdown table of sizes."""
    head = [*CORRELATIONS, *(f"AUC, {name}" for name in SCORES), "seeds"]
    lines = [f"| images a class | {' | '.join(head)} |", "| ---: |" + " ---: |" * len(head)]
    for size in dict.fromkeys(record["size"] for record in records):
        runs = [record for record in records if record["size"] == size]
        cells = [
            mean_and_error([float(run[name]) for run in runs]) for name in (*CORRELATIONS, *SCORES)
        ]
        lines.append(f"| {size} | {' | '.join(cells)} | {len(runs)} |")
    largest = max((record[GAP] for record in records), key=float)
    lines.append(f"\nMean features solved from zero heads are off by {largest} at most.")
    return "\n".join(lines)


def main():
    """Do the runs that are not done, and write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", default="imagenette")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    candidates = Candidates(arguments.photos / arguments.set)
    todo = [(arguments.set, n, seed) for seed in range(arguments.seeds) for n in SIZES]
    run_missing(
        "what_sums_reveal", ("data", "size", "seed"), todo, lambda _, *rest: candidates.run(*rest)
    )
    records = read("what_sums_reveal")
    sets = dict.fromkeys(record["data"] for record in records)
    tables = {data: table([run for run in records if run["data"] == data]) for data in sets}
    save_tables("what_sums_reveal", tables)


if __name__ == "__main__":
    main()
