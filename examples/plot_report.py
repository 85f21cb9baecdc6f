"""
What a model sees, on one page
==============================

Prototypes beside the real images nearest to them, how far out they lie, what a probe learns from
them, and how they were made: a report in one file, to be sent to somebody. Runs offline, with the
extra ``demo``.
"""

# %%
# Prototypes and their neighbours
# -------------------------------
# A third of the pictures is held back. Below each prototype stands the training picture of its
# class that the net finds most similar to it.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, RandomImages
from sklgm.datasets import load_openmoji
from sklgm.evaluation import compare_selections, prototype_statistics
from sklgm.plotting import PrototypesDisplay
from sklgm.report import HTMLReport

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
X_train, X_test, y_train, y_test = train_test_split(
    openmoji.images, names, test_size=1 / 3, stratify=names, random_state=0
)
net = {"backbone": "efficientnet_lite0", "image_size": 56}
distiller = LGMDistiller(**net, random_state=0).fit(X_train, y_train)
PrototypesDisplay.from_estimator(distiller, X_train, y_train)
plt.show()

# %%
# In a notebook, a fitted distiller shows its prototypes by itself.

distiller

# %%
# How far out
# -----------
# Distance of each prototype from the mean of its class among pictures it was not made of, the same
# over the spread of the class in that direction, the percentage of pictures that lie nearer, and
# the margin of a probe that has seen all of them.

statistics = prototype_statistics(distiller, X_test, y_test)
statistics

# %%
# What a probe learns
# -------------------
# Beside random pictures and the picture nearest to each class mean. Two seeds and short probes, to
# be quick.

comparison = compare_selections(
    X_train,
    y_train,
    X_test,
    y_test,
    backbone=net["backbone"],
    probe=FrozenBackboneProbe(image_size=56, n_views=20, max_epochs=300),
    selections={
        "random": RandomImages(**net),
        "centroid": ClassCentroids(**net),
        "distilled": FrozenEstimator(distiller),
    },
    n_probe_seeds=2,
)
comparison

# %%
# The page
# --------
# One HTML file without scripts, which loads nothing. From the shell, ``sklgm report PROTOTYPES
# --train FOLDER --test FOLDER`` writes it about saved prototypes.

report = HTMLReport.from_prototypes(
    distiller, X_train, y_train, results=[comparison, statistics], title="Eight kinds of emoji"
)
with tempfile.TemporaryDirectory() as folder:
    report.save(Path(folder) / "report.html")
report
