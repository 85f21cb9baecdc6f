"""
Rows of features in place of pictures
=====================================

With ``backbone=None`` a row of ``X`` is a feature vector already: an embedding made elsewhere, or a
plain table. Prototypes are rows then, no net is needed, and a fit takes seconds. What are they
like?
"""

# %%
# A picture in two dimensions
# ---------------------------
# Three classes, two of them stretched, and the boundaries of a linear classifier: trained on all
# points, on one random point of each class, and on one prototype of each class (stars).

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklgm import LGMDistiller, RandomImages
from sklgm.plotting import EmbeddingDisplay

X, y = make_blobs(600, centers=[(-2, 0), (2, 0), (0, 3)], random_state=0)
X = X @ [[1, 0], [0.7, 0.6]]
X = (X - X.mean(axis=0)) / X.std(axis=0)
colors = ListedColormap(["#0072B2", "#E69F00", "#009E73"])

selections = {
    "one random point each": RandomImages(backbone=None, random_state=0),
    "one prototype each": LGMDistiller(backbone=None, random_state=0),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), sharey=True, layout="constrained")
for ax, name in zip(axes, ["all points", *selections], strict=True):
    points, labels = X, y
    if name in selections:
        fitted = selections[name].fit(X, y)
        points, labels = fitted.prototypes_, fitted.prototype_labels_
    classifier = LogisticRegression().fit(points, labels)
    DecisionBoundaryDisplay.from_estimator(
        classifier, X, response_method="predict", multiclass_colors=colors.colors, alpha=0.25, ax=ax
    )
    ax.scatter(*X.T, c=y, cmap=colors, s=4, alpha=0.5)
    if name in selections:
        ax.scatter(*points.T, c=labels, cmap=colors, s=250, marker="*", edgecolor="black")
    ax.set(title=f"{name}: {classifier.score(X, y):.2f}", xticks=[], yticks=[])
plt.show()

# %%
# Digits as rows
# --------------
# The 64 pixels of a digit as they are, without a net. Dots are digits, stars are prototypes, in
# the two directions in which the digits differ most.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.5, stratify=y, random_state=0
)
distiller = LGMDistiller(backbone=None, random_state=0).fit(X_train, y_train)
EmbeddingDisplay.from_estimator(distiller, X_train, y_train)
plt.show()

# %%
# Beside class means
# ------------------
# Since the rows are pixels, they can be looked at. Class means, the centres that
# :class:`~sklearn.cluster.KMeans` finds within each class, two of each, and random digits are to
# compare with:

digits = np.unique(y)


def centres(n):
    """Return the centres of k-means in each class, with their labels."""
    found = [KMeans(n, random_state=0).fit(X_train[y_train == d]).cluster_centers_ for d in digits]
    return np.concatenate(found), digits.repeat(n)


random = RandomImages(backbone=None, random_state=0).fit(X_train, y_train)
sets = {
    "random": (random.prototypes_, random.prototype_labels_),
    "mean": centres(1),
    "prototype": (distiller.prototypes_, distiller.prototype_labels_),
    "k-means, first": (centres(2)[0][::2], digits),
    "k-means, second": (centres(2)[0][1::2], digits),
}
figure, axes = plt.subplots(len(sets), 10, figsize=(7, 3.6), layout="constrained")
for row, (name, (pixels, _)) in zip(axes, sets.items(), strict=True):
    for ax, digit in zip(row, pixels, strict=True):
        ax.imshow(digit.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()

# %%
# And a linear classifier trained on each of them:

sets["k-means, both"] = centres(2)
for name in ("random", "mean", "prototype", "k-means, both"):
    score = LogisticRegression(max_iter=1000).fit(*sets[name]).score(X_test, y_test)
    print(f"{name:14} {len(sets[name][1]):3} rows: {score:.2f}")
score = LogisticRegression(max_iter=1000).fit(X_train, y_train).score(X_test, y_test)
print(f"{'all':14} {len(y_train):3} rows: {score:.2f}")

# %%
# Where rows can be put anywhere, matching gradients comes to about what a class mean does, and the
# mean is cheaper. Its use on rows is where the rows themselves are not at hand, only their
# :class:`~sklgm.RealGradients`. Pictures are another matter: the mean of pictures is no picture,
# and a net between pixels and features is what the gradient has to go through.
