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
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklgm import LGMDistiller, RealGradients
from sklgm.alignment import gradient_alignment
from sklgm.datasets import load_folder, load_openmoji
from sklgm.plotting import PrototypesDisplay

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
share_of_north = {"animal": 0.5, "face": 0.95, "food": 0.05, "vehicle": 0.2}
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
for site, (_, labels) in sites.items():
    print(site, Counter(labels.tolist()))

# %%
# Sums at each place
# ------------------
# The places agree on the settings, on a seed and, for equal weight of each class, on how many
# pictures of each class there are altogether. Then each passes over its own files once, and writes
# one file.
#
# Real pictures are seen in random views, too, drawn by the position of a picture in the list. With
# ``offset``, the number of pictures before it at other places, it has the view that it would have
# in one list of all.

settings = {
    "backbone": "efficientnet_lite0",
    "image_size": 56,
    "max_iter": 60,
    "random_state": 0,
}
all_labels = np.concatenate([labels for _, labels in sites.values()])
counts = Counter(all_labels.tolist())

offset = 0
for site, (paths, labels) in sites.items():
    sums = LGMDistiller(**settings).compute_gradients(
        paths, labels, class_counts=counts, offset=offset
    )
    offset += len(paths)
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

rows = {"sums merged": merged, "all together": together, "north alone": alone}
figure = plt.figure(figsize=(6, 4.9))
for part, (name, distiller) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
    part.suptitle(name, x=0.02, y=0.5, ha="left", rotation=90, va="center", fontsize=10)
    PrototypesDisplay.from_estimator(distiller, ax=part.add_axes((0.07, 0, 0.93, 1)))
plt.show()

# %%
# Sums of parts equal sums of the whole but for rounding:

whole = LGMDistiller(**settings).compute_gradients(everything, all_labels)
gap = (sum(shards).sums - whole.sums).abs().max() / whole.sums.abs().max()
print(f"largest gap between sums: {gap:.0e} of the largest sum")
folder.cleanup()

# %%
# The optimisation makes more of that rounding at each step, so that the two upper rows are no more
# equal than those of two machines. They are about equally good, which the sums can tell by
# themselves: the cosine between the gradients of prototypes and those of all real pictures.

for name, distiller in rows.items():
    score = gradient_alignment(distiller, gradients=sum(shards), backbone=settings["backbone"])
    print(f"{name:14}{score.score:.3f}")
