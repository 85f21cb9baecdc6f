"""
Prototypes for another net
==========================

Prototypes are made for one net. What are they worth to another, and does it help to make them for
both at once? The second net here is a small one that the script trains by itself.
"""

# %%
# A second net
# ------------
# Handwritten digits, five of the ten to be quick. A small convolutional net learns to tell all ten
# apart on one half of the pictures, which are not used for anything else. Its backbone is what
# comes before its last layer. The first net, EfficientNet-lite0, has learnt ImageNet and never a
# digit.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from sklgm import Backbone, FrozenBackboneProbe, LGMDistiller, StandardAugmentation
from sklgm.datasets import load_digits
from sklgm.evaluation import cross_model_transfer
from sklgm.plotting import PrototypesDisplay, TransferDisplay

X, y = load_digits(return_X_y=True)
X_other, X, y_other, y = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
X, y = X[y < 5], y[y < 5]
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=100, test_size=200, stratify=y, random_state=0
)


def block(n_in, n_out):
    """Return a layer that halves the picture."""
    return [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]


def train_small_net(epochs=8):
    """Train a small net on the other half of the digits, and return it without its last layer."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.AvgPool2d(2),
        *block(3, 16),
        *block(16, 32),
        *block(32, 64),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
    )
    net = nn.Sequential(body, nn.ReLU(), nn.Linear(64, 10))
    pixels = torch.from_numpy(X_other).float().unsqueeze(1).expand(-1, 3, -1, -1) / 127.5 - 1
    pixels = nn.functional.interpolate(pixels, size=56, mode="bilinear")
    labels = torch.from_numpy(y_other)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(pixels[rows]), labels[rows]).backward()
            optimizer.step()
    return body


small = Backbone.from_module(train_small_net(), image_size=56, mean=0.5, std=0.5, name="small")
nets = {"lite0": "efficientnet_lite0", "small": small}

# %%
# Three sets of prototypes
# ------------------------
# A list of backbones makes one set for all of them. A mirrored digit is no digit, so views are not
# mirrored.

settings = {
    "image_size": 56,
    "augmentation": StandardAugmentation(scale=(0.6, 1), flip=0),
}
distiller = LGMDistiller(**settings, max_iter=50, n_views=2, random_state=0)
rows = {
    name: distiller.set_params(backbone=backbone).fit(X_train, y_train).prototypes_
    for name, backbone in {**nets, "both": list(nets.values())}.items()
}

figure = plt.figure(figsize=(7, 4.6))
for part, (name, images) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
    part.suptitle(name, x=0.01, y=0.5, ha="left", rotation=90, va="center", fontsize=10)
    PrototypesDisplay(prototypes=images, prototype_labels=np.arange(5)).plot(
        ax=part.add_axes((0.05, 0, 0.95, 1)), n_columns=5
    )
plt.show()

# %%
# Transfer
# --------
# Each set trains a probe on each net, which is scored on real digits. Distillation is repeated with
# another seed, since figures of transfer vary. The frame marks where prototypes are at home.

transfer = cross_model_transfer(
    X_train,
    y_train,
    X_test,
    y_test,
    backbones=nets,
    distillers=distiller,
    distilled_on=["lite0", "small", ("lite0", "small")],
    probe=FrozenBackboneProbe(**settings, n_views=10, max_epochs=200),
    n_seeds=2,
)
TransferDisplay.from_matrix(transfer)
plt.show()
transfer

# %%
# The small net has learnt digits, so that any of them will do for it, even random ones. The other
# net is the harder judge: prototypes of the small net alone mean little to it. Those made for both
# are as good for either as its own.
