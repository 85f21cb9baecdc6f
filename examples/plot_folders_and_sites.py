"""
Pictures in folders, at two places
==================================

Pictures that stay where they are: two places each make sums over their own folders, and only these
sums meet. What is distilled from them is what one place with all the pictures would have got.
"""

# %%
# Two places
# ----------
# Emoji of four classes (OpenMoji, CC BY-SA 4.0), written to files in a folder for each class. The
# first place has most of the faces, the second most of the food. Files are listed by
# :func:`~sklgm.datasets.load_folder` and opened when their turn comes, so that a set may be
# larger than memory.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklgm import LGMDistiller, RealGradients
from sklgm.datasets import load_folder, load_openmoji
from sklgm.plotting import PrototypesDisplay

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
share_of_north = {"animal": 0.5, "face": 0.9, "food": 0.1, "vehicle": 0.5}
rng = np.random.default_rng(0)

folder = tempfile.TemporaryDirectory()
root = Path(folder.name)
for image, name in zip(openmoji.images, names, strict=True):
    if name in share_of_north:
        site = "north" if rng.random() < share_of_north[name] else "south"
        target = root / site / name
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{len(list(target.iterdir())):03}.png")

sites = {site: load_folder(root / site, return_X_y=True) for site in ("north", "south")}
for site, (paths, labels) in sites.items():
    print(site, dict(zip(*np.unique(labels, return_counts=True), strict=True)))

# %%
# Sums at each place
# ------------------
# The places agree on the settings, on a seed and, for equal weight of each class, on how many
# pictures of each class there are altogether. Then each passes over its own files once, and writes
# one file.
#
# ``n_real_views=0`` leaves out random views of real pictures. Those are drawn by the position of a
# picture in its list, so that with them the sums of two lists are as good as those of one, but not
# equal.

settings = {
    "backbone": "efficientnet_lite0",
    "image_size": 56,
    "max_iter": 80,
    "n_real_views": 0,
    "random_state": 0,
}
all_labels = np.concatenate([labels for _, labels in sites.values()])
counts = dict(zip(*np.unique(all_labels, return_counts=True), strict=True))

for site, (paths, labels) in sites.items():
    sums = LGMDistiller(**settings).compute_gradients(paths, labels, class_counts=counts)
    sums.save(root / f"{site}.safetensors")
    print(site, sums, f"{(root / f'{site}.safetensors').stat().st_size / 1e6:.1f} MB")

# %%
# Where they meet
# ---------------
# Sums add up. The distiller that is fitted to them has seen no picture.

shards = [RealGradients.load(root / f"{site}.safetensors") for site in sites]
merged = LGMDistiller(**settings).fit_gradients(sum(shards))

# %%
# The same with all pictures in one place, and with those of the first place alone:

everything = np.concatenate([paths for paths, _ in sites.values()])
together = LGMDistiller(**settings).fit(everything, all_labels)
alone = LGMDistiller(**settings).fit(*sites["north"])
folder.cleanup()

rows = {"sums merged": merged, "all together": together, "north alone": alone}
figure = plt.figure(figsize=(6, 4.9))
for part, (name, distiller) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
    part.suptitle(name, x=0.02, y=0.5, ha="left", rotation=90, va="center", fontsize=10)
    PrototypesDisplay.from_estimator(distiller, ax=part.add_axes((0.07, 0, 0.93, 1)))
plt.show()

# %%
# How far apart are their pixels, of a range from 0 to 1?

for name in ("all together", "north alone"):
    gap = np.abs(merged.prototypes_ - rows[name].prototypes_)
    print(f"merged and {name}: mean {gap.mean():.2g}, largest {gap.max():.2g}")
