"""
Unequal classes, with imbalanced-learn
======================================

Ten times as many faces as clouds: a sampler replaces the training set by something more even
before the classifier sees it. imbalanced-learn has many, and :class:`~sklgm.PrototypeSampler` is
one more: it puts one synthetic picture of each class in place of the pictures. Needs the
extra ``imblearn``.
"""

# %%
# The data
# --------
# OpenMoji (CC BY-SA 4.0) in six classes. The test set has equally many of each.

import matplotlib.pyplot as plt
import numpy as np
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from sklgm import BackboneEmbedder, LGMDistiller, PrototypeSampler
from sklgm.datasets import load_openmoji
from sklgm.plotting import PrototypesDisplay

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
counts = {"animal": 30, "face": 60, "food": 12, "place": 6, "vehicle": 6, "weather": 6}
rng = np.random.default_rng(0)
train, test = [], []
for name, count in counts.items():
    rows = rng.permutation(np.flatnonzero(names == name))
    train.extend(rows[:count])
    test.extend(rows[count : count + 24])
X_train, y_train = openmoji.images[train], names[train]
X_test, y_test = openmoji.images[test], names[test]

# %%
# Prototypes of unequal classes
# -----------------------------
# By default every class pulls alike, whatever its number of pictures. With ``class_weight=None``
# every picture does, and small classes come to little.

net = {"backbone": "efficientnet_lite0", "image_size": 56}
samplers = {
    weight: PrototypeSampler(
        LGMDistiller(**net, class_weight=weight, max_iter=50, random_state=0)
    ).fit(X_train, y_train)
    for weight in ("balanced", None)
}

figure = plt.figure(figsize=(8, 3.2))
for part, (weight, sampler) in zip(figure.subfigures(2, 1), samplers.items(), strict=True):
    part.suptitle(
        f"class_weight=\n{weight}", x=0.005, y=0.5, ha="left", rotation=90, va="center", fontsize=9
    )
    PrototypesDisplay.from_estimator(
        sampler.distiller_,
        class_names={name: f"{name} ({count})" for name, count in counts.items()},
        ax=part.add_axes((0.06, 0, 0.94, 1)),
        n_columns=6,
    )
plt.show()

# %%
# Pipelines
# ---------
# Samplers of imbalanced-learn work on tables and stand behind the net. That of prototypes takes
# pictures, returns pictures, and stands before it. Random choices are made five times.

embedder = BackboneEmbedder(**net)
classifier = LogisticRegression(max_iter=1000)


def score(*steps):
    """Return the mean accuracy over the classes, of real test pictures."""
    pipeline = make_pipeline(*steps, classifier).fit(X_train, y_train)
    return balanced_accuracy_score(y_test, pipeline.predict(X_test))


def score_undersampled(count):
    """Return the scores with a few random pictures of each class."""
    few = dict.fromkeys(counts, count)
    return [
        score(embedder, RandomUnderSampler(sampling_strategy=few, random_state=seed))
        for seed in range(5)
    ]


fewest = min(counts.values())
scores = {
    f"all {len(y_train)} pictures": [score(embedder)],
    f"undersampled to {fewest} each": score_undersampled(fewest),
    "undersampled to 1 each": score_undersampled(1),
    "1 prototype each": [score(clone(samplers["balanced"]), embedder)],
    "the same, class_weight=None": [score(clone(samplers[None]), embedder)],
}

figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
colors = ["0.75", "0.75", "0.75", "#0072B2", "#56B4E9"]
means = [np.mean(found) for found in scores.values()]
ax.barh(list(scores), means, color=colors)
for row, (mean, found) in enumerate(zip(means, scores.values(), strict=True)):
    ax.text(0.75, row, f"{mean:.2f}", ha="right", va="center")
    if len(found) > 1:
        ax.plot(found, [row] * len(found), ".", color="0.2", markersize=5)
ax.axvline(1 / len(counts), color="0.4", linestyle=":")
ax.text(1 / len(counts), -0.85, "chance", ha="center", fontsize=8, color="0.4")
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
ax.set(xlabel="balanced accuracy", xlim=(0, 0.8))
plt.show()

# %%
# With one picture of each class to learn from, it matters that a prototype is made by all pictures
# of its class: a single real one cannot stand for the others. With several real ones, plain
# undersampling is ahead. It has to keep them, though.
