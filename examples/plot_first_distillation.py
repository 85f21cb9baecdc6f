"""
A first distillation
====================

Eight classes of pictures become eight synthetic images, and a linear probe that has seen
nothing else classifies real pictures. Everything here runs offline: the backbone's weights and
the pictures come with the extra ``demo``.
"""

# %%
# The data
# --------
# Pictures from OpenMoji (CC BY-SA 4.0), in eight classes of unequal size. A third is kept for
# the test.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from sklgm import FrozenBackboneProbe, LGMDistiller
from sklgm.datasets import load_openmoji
from sklgm.plotting import EmbeddingDisplay, PrototypesDisplay

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
X_train, X_test, y_train, y_test = train_test_split(
    openmoji.images, names, test_size=1 / 3, stratify=names, random_state=0
)
for name, count in zip(*np.unique(y_train, return_counts=True), strict=True):
    print(f"{name:10}{count:4}")

# %%
# The prototypes
# --------------
# One image a class. The real pictures pass the frozen net once; after that the prototypes are
# optimised until they push a linear probe the same way as all real pictures together.

net = {"backbone": "efficientnet_lite0", "image_size": 56}
distiller = LGMDistiller(**net, random_state=0)
distiller.fit(X_train, y_train)
PrototypesDisplay.from_estimator(distiller)
plt.show()

# %%
# Real pictures and prototypes in the net's feature space, in two dimensions:

EmbeddingDisplay.from_estimator(distiller, X_train, y_train)
plt.show()

# %%
# The probe
# ---------
# With ``distiller=`` the probe is trained on the prototypes and on nothing else, and is scored
# on real pictures. As any scikit-learn classifier it can go into ``cross_val_score`` or
# ``GridSearchCV``. Here the distiller is fitted already, so the two steps are taken by hand:
# the similarities that ``transform`` returns know the prototypes and the images.

similarities = distiller.transform(X_test)
probe = FrozenBackboneProbe(**net, random_state=0).fit(similarities, y_test)
accuracy = probe.score(similarities, y_test)
print(f"accuracy of a probe trained on 8 synthetic images: {accuracy:.2f}")
