"""Small images of a coloured square, the class, on a grey ground, the group."""

import numpy as np

from sklgm import FrozenBackboneProbe, LGMDistiller, RandomHeads
from tests.tiny_backbones import part_backbone

CLASSES = np.array(["blue", "green", "red"])
GROUPS = np.array(["dark", "grey", "light"])
_COLOURS = np.array([[60, 60, 220], [60, 200, 60], [220, 60, 60]])
_GREYS = np.array([40, 130, 210])
BORDER, CENTRE = part_backbone("border"), part_backbone("centre")
# Views that are cropped would carry the object to the border.
WHOLE = {"augmentation": None}
SETTINGS = {"max_iter": 60, "heads": RandomHeads(8, 32), "learning_rate": 0.1, **WHOLE}
PROBE = FrozenBackboneProbe(**WHOLE, max_epochs=300, learning_rate=0.02, random_state=0)


def draw(y, g, seed=0):
    """Return noisy images (n, 16, 16, 3) of classes on groups, and the masks of their squares."""
    rng = np.random.default_rng(seed)
    images = np.broadcast_to(_GREYS[g][:, None, None, None], (len(y), 16, 16, 3)).copy()
    images[:, 5:11, 5:11] = _COLOURS[y][:, None, None]
    images = images + rng.integers(-30, 31, images.shape)
    masks = np.zeros((len(y), 16, 16), bool)
    masks[:, 5:11, 5:11] = True
    return images.clip(0, 255).astype(np.uint8), masks


def labelled(correlation, n=90, seed=0):
    """Return images, classes and groups, the latter the class's own with a probability."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 3)
    g = np.where(rng.random(n) < correlation, y, rng.integers(3, size=n))
    return draw(y, g, seed)[0], CLASSES[y], GROUPS[g]


def distiller(net, **params):
    return LGMDistiller(net, **(SETTINGS | {"random_state": 0} | params))


TRAIN = labelled(1.0)
REFERENCE = labelled(0.0, seed=1)
CORRELATED = labelled(1.0, seed=2)
SHIFTED = labelled(0.0, seed=3)
