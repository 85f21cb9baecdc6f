"""
Rows of features in place of images
===================================

With ``backbone=None`` a row of ``X`` is a feature vector already: embeddings made elsewhere, or
plain tables. Prototypes are then rows too. No net is needed, and a fit takes a second.
"""

# %%
# A picture in two dimensions
# ---------------------------
# Three classes, two of them stretched. A linear classifier trained on one point of each class can
# only follow these points; where they are put decides.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestCentroid

from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, RandomImages

X, y = make_blobs(600, centers=[(-2, 0), (2, 0), (0, 3)], cluster_std=1, random_state=0)
X = X * [1, 0.6] + np.outer(X[:, 1] * (y != 2), [1.2, 0])
X = (X - X.mean(axis=0)) / X.std(axis=0)

distiller = LGMDistiller(backbone=None, random_state=0).fit(X, y)
