"""
How many prototypes of each class?
==================================

One synthetic picture of each class, two or four, beside real pictures in the same numbers. Real
pictures gain by number; what does a second prototype add?
"""

# %%
# The curve
# ---------
# Handwritten digits, four that are much alike. A mirrored digit is no digit, and a part of one may
# be another, so that views keep to large parts and are not mirrored.
#
# :func:`~sklgm.evaluation.prototype_curve` makes or chooses the pictures, trains probes on them
# alone, and scores these on real digits.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    RandomImages,
    StandardAugmentation,
)
from sklgm.datasets import load_digits
from sklgm.evaluation import prototype_curve
from sklgm.plotting import PrototypesDisplay

X, y = load_digits(return_X_y=True)
wanted = np.isin(y, [3, 5, 8, 9])
X, X_test, y, y_test = train_test_split(
    X[wanted], y[wanted], train_size=120, test_size=300, stratify=y[wanted], random_state=0
)
net = {"backbone": "efficientnet_lite0", "image_size": 56}
augmentation = StandardAugmentation(scale=(0.6, 1), flip=0)
distiller = LGMDistiller(**net, augmentation=augmentation, max_iter=60, n_views=2, random_state=0)

curve = prototype_curve(
    X,
    y,
    X_test,
    y_test,
    backbone=net["backbone"],
    selections={
        "random": RandomImages(**net),
        "centroid": ClassCentroids(**net),
        "distilled": distiller,
        "all": None,
    },
    prototypes_per_class=(1, 2, 4),
    probe=FrozenBackboneProbe(image_size=56, augmentation=augmentation, n_views=10, max_epochs=200),
    n_probe_seeds=3,
    n_selection_seeds=1,
)
curve.plot()
plt.show()

# %%
# The table behind it:

curve

# %%
# What a second one shows
# -----------------------
# Prototypes of a class are optimised together: what counts is the gradient of all of them. The
# first already carries most of it, so that more of them add little here, or nothing. Real pictures
# have to make do with what there is, and gain by every one that is added.

distiller.set_params(prototypes_per_class=2).fit(X, y)
PrototypesDisplay.from_estimator(distiller, n_columns=2)
plt.show()
