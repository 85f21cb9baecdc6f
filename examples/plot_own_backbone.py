"""
A backbone of your own
======================

Any ``torch.nn.Module`` that turns images into one feature vector each can be the backbone. Here are
two that were never trained, one that sees colours and one that sees edges, and the prototypes show
which is which.
"""

# %%
# Two nets
# --------
# The first takes the mean colour of each field of a 7 x 7 grid. The second turns the picture grey,
# filters it with the Gabor functions below, of four directions and two phases, and takes the mean
# strength of the answers in the same fields.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sklgm import Backbone, LGMDistiller, PrototypeSet
from sklgm.datasets import load_openmoji
from sklgm.plotting import PrototypesDisplay

GRID = 7


class Colours(nn.Module):
    """Mean colour of each field of a grid."""

    def forward(self, pixels):
        """Return 7 x 7 colours."""
        return F.adaptive_avg_pool2d(pixels, GRID).flatten(1)


class Edges(nn.Module):
    """Mean strength of edges, by direction, in each field of a grid."""

    def __init__(self, size=9, wavelength=5.0, n_directions=4):
        super().__init__()
        y, x = torch.meshgrid(*[torch.arange(size) - size // 2] * 2, indexing="ij")
        angles = torch.arange(n_directions) * torch.pi / n_directions
        across = x * torch.cos(angles)[:, None, None] + y * torch.sin(angles)[:, None, None]
        envelope = torch.exp(-(x**2 + y**2) / (2 * (size / 5) ** 2))
        waves = [wave(2 * torch.pi / wavelength * across) for wave in (torch.cos, torch.sin)]
        filters = torch.cat(waves) * envelope
        filters = filters - filters.mean(dim=(1, 2), keepdim=True)
        self.register_buffer("filters", filters[:, None])

    def forward(self, pixels):
        """Return 7 x 7 fields of four directions."""
        grey = pixels.mean(dim=1, keepdim=True)
        answers = F.conv2d(grey, self.filters, padding=self.filters.shape[-1] // 2)
        even, odd = answers.chunk(2, dim=1)
        energy = F.adaptive_avg_pool2d(even**2 + odd**2, GRID)
        return torch.sqrt(energy + 1e-3).flatten(1)


filters = Edges().filters[:, 0]
figure, axes = plt.subplots(1, len(filters), figsize=(8, 1.2), layout="constrained")
for ax, kernel in zip(axes, filters, strict=True):
    ax.imshow(kernel, cmap="gray", vmin=-0.8, vmax=0.8)
    ax.set_axis_off()
plt.show()

# %%
# What size, mean and std mean
# ----------------------------
# A backbone takes images of any size with values from 0 to 1. It brings them to ``image_size`` and
# hands ``(pixels - mean) / std`` to the module. A net that was trained with a mean and standard
# deviation of its own needs these; for the two above, -1 to 1 is a good range. Parameters are
# frozen, in a copy: the module that was passed is left as it is.

options = {"image_size": 56, "mean": 0.5, "std": 0.5}
nets = {
    "colours": Backbone.from_module(Colours(), **options),
    "edges": Backbone.from_module(Edges(), **options),
}
for name, backbone in nets.items():
    print(f"{name}: {backbone!r}, {backbone.n_features} features")

# %%
# What they see
# -------------
# One prototype of each class of OpenMoji (CC BY-SA 4.0) by each net. It takes seconds, since the
# nets are small.

openmoji = load_openmoji()
names = openmoji.target_names[openmoji.target]
prototypes = {
    name: LGMDistiller(backbone, max_iter=100, random_state=0).fit(openmoji.images, names)
    for name, backbone in nets.items()
}
rows = {name: distiller.prototypes_ for name, distiller in prototypes.items()}
grey = rows["edges"].mean(axis=3, keepdims=True).repeat(3, axis=3)
rows["edges, in grey"] = grey

figure = plt.figure(figsize=(9, 4.3))
for part, (name, images) in zip(figure.subfigures(3, 1), rows.items(), strict=True):
    part.suptitle(name, x=0.01, y=0.5, ha="left", rotation=90, va="center", fontsize=10)
    PrototypesDisplay(prototypes=images, prototype_labels=np.unique(names)).plot(
        ax=part.add_axes((0.03, 0, 0.97, 1)), n_columns=8
    )
plt.show()

# %%
# The first net knows a face by a yellow disc. The second does not know yellow: it asks for a round
# outline with something in it, and the colours of its prototypes are chance. By how much do the
# features move when the pictures are turned grey?

for name, backbone in nets.items():
    features = [
        backbone.features(backbone.prepare(images)).numpy()
        for images in np.uint8(255 * np.stack([rows["edges"], grey]))
    ]
    change = np.linalg.norm(features[1] - features[0]) / np.linalg.norm(features[0])
    print(f"{name:8}{change:6.1%}")

# %%
# To keep them
# ------------
# A :class:`~sklgm.PrototypeSet` holds prototypes with their labels and settings, and is saved as a
# folder. In a notebook it shows its pictures.

kept = PrototypeSet.from_estimator(prototypes["edges"])
kept
