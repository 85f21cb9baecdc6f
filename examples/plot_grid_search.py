"""
Pipelines and a grid search
===========================

A distiller is a transformer and a probe is a classifier, so that distillation goes through
scikit-learn's own tools: a pipeline, cross-validation, a search over settings. In a search the
real pictures pass the net once for each fold, whatever the number of settings.
"""

# %%
# A pipeline
# ----------
# Four classes of OpenMoji pictures (CC BY-SA 4.0), and a short distillation. The probe at the end
# is trained on the prototypes that the distiller made, on nothing else, and predicts on real
# pictures. In a notebook the fitted pipeline shows its steps.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline

from sklgm import FrozenBackboneProbe, LGMDistiller
from sklgm.datasets import load_openmoji
from sklgm.plotting import PrototypesDisplay

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
wanted = np.isin(names, ["animal", "face", "food", "vehicle"])
X_train, X_test, y_train, y_test = train_test_split(
    openmoji.images[wanted], names[wanted], test_size=1 / 3, stratify=names[wanted], random_state=0
)

net = {"backbone": "efficientnet_lite0", "image_size": 56}
distiller = LGMDistiller(**net, max_iter=30, n_views=2, random_state=0)
probe = FrozenBackboneProbe(**net, n_views=40, max_epochs=200, random_state=0)
pipeline = make_pipeline(distiller, probe).fit(X_train, y_train)
print(f"accuracy on {len(y_test)} real pictures: {pipeline.score(X_test, y_test):.2f}")
pipeline

# %%
# A search
# --------
# The same two as one classifier, a probe with a distiller inside. Which learning rate is best, and
# does it depend on the number of steps? Every score below is that of a probe trained on four
# synthetic pictures, on the real pictures of the other fold.
#
# With ``memory=`` the sums over the real pictures are kept on disk. All settings of a fold share
# them.

grid = {
    "distiller__max_iter": [10, 40],
    "distiller__learning_rate": [0.01, 0.04, 0.16],
}
with tempfile.TemporaryDirectory() as folder:
    search = GridSearchCV(
        probe.set_params(distiller=distiller.set_params(memory=folder)),
        grid,
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
    )
    search.fit(X_train, y_train)
    n_passes = len(list(Path(folder).rglob("output.pkl")))
n_fits = search.n_splits_ * len(search.cv_results_["params"]) + 1
print(f"{n_fits} distillations, {n_passes} passes over real pictures")

# %%
# What was found
# --------------
# A line through the means, a dot for each fold.

rates = search.cv_results_["param_distiller__learning_rate"]
steps = search.cv_results_["param_distiller__max_iter"]
folds = np.array([search.cv_results_[f"split{i}_test_score"] for i in range(search.n_splits_)])

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for n, color in zip(grid["distiller__max_iter"], ("#0072B2", "#D55E00"), strict=True):
    chosen = steps == n
    x = rates[chosen].astype(float)
    ax.plot(x, folds[:, chosen].mean(axis=0), color=color, label=f"{n} steps")
    for fold in folds[:, chosen]:
        ax.plot(x, fold, "o", color=color, markersize=5, alpha=0.6)
ax.set(xscale="log", xlabel="learning rate", ylabel="accuracy on the other fold")
ax.set_xticks(grid["distiller__learning_rate"], grid["distiller__learning_rate"])
ax.minorticks_off()
ax.grid(alpha=0.3)
ax.legend(frameon=False)
plt.show()

# %%
# The best setting was fitted again, on both folds together, and is scored on pictures that had no
# part in the choice:

print(search.best_params_)
print(f"accuracy on {len(y_test)} real pictures: {search.score(X_test, y_test):.2f}")
PrototypesDisplay.from_estimator(search.best_estimator_.distiller_)
plt.show()
