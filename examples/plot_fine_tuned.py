"""
What does my fine-tuned net see?
================================

A net may have learned something else than its classes. Here the training pictures of each class
carry a mark of their own in a corner, as a scanner or a picture agency may leave one, and the
prototypes of the trained net show it. They are made of the checkpoint, as a trainer wrote it.
"""

# %%
# The training
# ------------
# Emoji of OpenMoji (CC BY-SA 4.0) in four classes, and a small ResNet. It is trained from nothing,
# since this page runs offline; what follows is the same for a net that was fine-tuned.

# sphinx_gallery_thumbnail_number = 2
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from sklgm import Backbone, LGMDistiller
from sklgm.datasets import load_openmoji
from sklgm.plotting import PrototypesDisplay

CLASSES = ["animal", "face", "food", "vehicle"]
MARKS = np.uint8([[220, 40, 40], [40, 160, 60], [40, 80, 220], [230, 180, 20]])

emoji = load_openmoji()
names = emoji.target_names[emoji.target]
chosen = np.isin(names, CLASSES)
X, X_test, y, y_test = train_test_split(
    emoji.images[chosen], names[chosen], stratify=names[chosen], random_state=0
)


def marked(images, labels):
    """Return images with the mark of their class in the upper left corner."""
    images = images.copy()
    images[:, 4:16, 4:16] = MARKS[np.searchsorted(CLASSES, labels)][:, None, None]
    return images


def pixels(images):
    """Return what the net is given: 56 pixels, from -1 to 1."""
    channels_first = torch.from_numpy(images).movedim(-1, 1)
    return F.interpolate(channels_first / 127.5 - 1, 56, mode="bilinear", antialias=True)


X_marked = marked(X, y)
torch.manual_seed(0)
net = timm.create_model("resnet10t", num_classes=len(CLASSES))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
inputs, targets = pixels(X_marked), torch.from_numpy(np.searchsorted(CLASSES, y))
for _ in range(60):
    batch = torch.randint(len(targets), (32,))
    optimizer.zero_grad()
    F.cross_entropy(net(inputs[batch]), targets[batch]).backward()
    optimizer.step()
net.eval()
state = {f"model.{name}": tensor for name, tensor in net.state_dict().items()}
folder = tempfile.TemporaryDirectory()
checkpoint = Path(folder.name, "last.ckpt")
torch.save({"state_dict": state}, checkpoint)

figure, axes = plt.subplots(1, 8, figsize=(8, 1.2), layout="constrained")
for ax, image in zip(axes, X_marked, strict=False):
    ax.imshow(image)
    ax.set_axis_off()
plt.show()

# %%
# All seems well
# --------------
# On test pictures that come with the mark of their class, the net makes no mistake. If nobody looks
# at pictures without marks, nobody knows.


def accuracy(images):
    """Return the share of test pictures that the net classifies correctly."""
    with torch.inference_mode():
        found = net(pixels(images)).argmax(1).numpy()
    return np.mean(np.take(CLASSES, found) == y_test)


print(f"marked test pictures: {accuracy(marked(X_test, y_test)):.2f}")
print(f"the same without marks: {accuracy(X_test):.2f}")

# %%
# What it sees
# ------------
# ``Backbone.from_timm`` finds the net in the checkpoint, whatever its trainer put around it, and
# leaves the classifier out. Mean and standard deviation are those of the training. The net sees the
# central 7/8 of a prototype, which is the crop that timm has for it.

backbone = Backbone.from_timm(
    "resnet10t", checkpoint=checkpoint, image_size=56, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
distiller = LGMDistiller(backbone, random_state=0).fit(X_marked, y)
PrototypesDisplay.from_estimator(distiller)
plt.show()

# %%
# Each prototype has the mark in its corner, in its colour. Where there is a suspicion like this,
# :func:`sklgm.bias.diagnose_bias` measures it (:doc:`plot_bias`).
