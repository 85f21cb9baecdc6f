"""
Pictures in folders, at two places
==================================

Pictures that stay where they are: two places each make sums over their own folders, and only files
of these sums meet, at a third. What is distilled from them is what one place with all the pictures
would have got.
"""

# %%
# Two places
# ----------
# Emoji of four classes (OpenMoji, CC BY-SA 4.0), written to files in a folder for each class. The
# first place has most of the faces, the second most of the food.

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from sklgm import LGMDistiller, PrototypeSet, RealGradients
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
        place = "north" if rng.random() < share_of_north[name] else "south"
        target = root / place / name
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{len(list(target.iterdir())):03}.png")

# %%
# What the places agree on
# ------------------------
# They need the same settings, with a seed, from which all draw the same heads; and an order. Beside
# this file and the two scripts below, they share one folder, for sums.

settings = {
    "backbone": "efficientnet_lite0",
    "image_size": 56,
    "max_iter": 60,
    "random_state": 0,
}
places = ["north", "south"]

code, sums = root / "code", root / "sums"
code.mkdir()
sums.mkdir()
(code / "agreed.py").write_text(f"settings, places = {settings}, {places}")

# %%
# A place
# -------
# For equal weight of each class, each place has to know how many pictures of each class there are
# altogether. So it first says how many it has, and waits until the others have done so. Then it
# passes over its own files once, each opened when its turn comes, and writes one file of sums.
#
# Real pictures are seen in random views, too, drawn by the position of a picture in the list. With
# ``offset``, the number of pictures before it at other places, it has the view that it would have
# in one list of all.

PLACE = """
import json
import sys
import time
from collections import Counter
from pathlib import Path

from agreed import places, settings

from sklgm import LGMDistiller
from sklgm.datasets import load_folder

pictures, sums = Path(sys.argv[1]), Path(sys.argv[2])
paths, labels = load_folder(pictures, return_X_y=True)

partial = sums / f"{pictures.name}.partial"
partial.write_text(json.dumps(Counter(labels.tolist())))
partial.rename(sums / f"{pictures.name}.json")  # a file that has its name is whole

files = [sums / f"{place}.json" for place in places]
deadline = time.monotonic() + 120
while not all(file.exists() for file in files):
    if time.monotonic() > deadline:
        sys.exit("The other places have not said how many pictures they have.")
    time.sleep(0.1)
counts = [Counter(json.loads(file.read_text())) for file in files]
before = counts[: places.index(pictures.name)]

gradients = LGMDistiller(**settings).compute_gradients(
    paths,
    labels,
    class_counts=sum(counts, Counter()),
    offset=sum(count.total() for count in before),
)
gradients.save(sums / f"{pictures.name}.safetensors")
"""
(code / "place.py").write_text(PLACE)

# %%
# Where the files meet
# --------------------
# Sums add up. The distiller that is fitted to them has seen no picture.

MEETING = """
import sys
from pathlib import Path

from agreed import places, settings

from sklgm import LGMDistiller, PrototypeSet, RealGradients

own, sums = Path(sys.argv[1]), Path(sys.argv[2])
merged = sum(RealGradients.load(sums / f"{place}.safetensors") for place in places)
merged.save(own / "merged.safetensors")
distiller = LGMDistiller(**settings).fit_gradients(merged)
PrototypeSet.from_estimator(distiller).save(own / "prototypes")
"""
(code / "meeting.py").write_text(MEETING)

# %%
# Three processes
# ---------------
# Each is told of its own folder and of the one for sums. On one computer they share its cores, so
# each has one thread.


def run(script, *folders):
    """Run a script in a process for each folder, all at once."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, code / script, own, sums] for own in folders]
    running = [subprocess.Popen(command, env=env) for command in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError(f"{script} failed.")


run("place.py", *(root / place for place in places))
meeting = root / "meeting"
meeting.mkdir()
run("meeting.py", meeting)

# %%
# This is all that went from the places to the meeting:

for file in sorted(sums.iterdir()):
    print(f"{file.name:18}{file.stat().st_size:>8} bytes")
for place in places:
    print(place, json.loads((sums / f"{place}.json").read_text()))

# %%
# Files of sums show no pictures, but they are not anonymous: :ref:`what-sums-reveal`.
#
# The same in one place
# ---------------------
# With all pictures together, and with those of the first place alone:

sites = [load_folder(root / place, return_X_y=True) for place in places]
X, y = (np.concatenate(parts) for parts in zip(*sites, strict=True))
rows = {
    "sums merged": PrototypeSet.load(meeting / "prototypes"),
    "all together": PrototypeSet.from_estimator(LGMDistiller(**settings).fit(X, y)),
    "north alone": PrototypeSet.from_estimator(LGMDistiller(**settings).fit(*sites[0])),
}
figure = plt.figure(figsize=(6, 4.9))
for part, (name, prototypes) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
    part.suptitle(name, x=0.02, y=0.5, ha="left", rotation=90, va="center", fontsize=10)
    display = PrototypesDisplay(prototypes=prototypes.images, prototype_labels=prototypes.labels)
    display.plot(part.add_axes((0.07, 0, 0.93, 1)))
plt.show()

# %%
# Sums of parts equal sums of the whole but for rounding:

merged = RealGradients.load(meeting / "merged.safetensors")
whole = LGMDistiller(**settings).compute_gradients(X, y)
gap = (merged.sums - whole.sums).abs().max() / whole.sums.abs().max()
print(f"largest gap between sums: {gap:.0e} of the largest sum")
folder.cleanup()

# %%
# The optimisation makes more of that rounding at each step, so that the two upper rows are no more
# equal than those of two machines. They are about equally good, which the sums can tell by
# themselves: the cosine between the gradients of prototypes and those of all real pictures.

for name, prototypes in rows.items():
    score = gradient_alignment(
        prototypes,
        gradients=merged,
        backbone=settings["backbone"],
        distiller=LGMDistiller(**settings),
    )
    print(f"{name:14}{score.score:.3f}")
