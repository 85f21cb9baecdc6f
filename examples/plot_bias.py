"""
Does a class hang on its background?
====================================

Emoji on textures: in training every class has a texture of its own, so that a backbone can tell the
class by either. Prototypes show which it takes. Everything here runs offline: the backbone's
weights and the emoji come with the extra ``demo``.
"""

# %%
# The data
# --------
# Emoji from OpenMoji (CC BY-SA 4.0) in four classes. Class and texture go together in training
# (``correlation=1.0``) and are independent afterwards (``correlation=0.0``). Test images show other
# emoji than training images; the same seed puts the same emoji on either kind of background.

import matplotlib.pyplot as plt

from sklgm import FrozenBackboneProbe, LGMDistiller
from sklgm.bias import diagnose_bias, object_focus, suspect_classes
from sklgm.datasets import make_spurious_images
from sklgm.plotting import BiasDisplay

train = make_spurious_images(n_samples=200, subset="train", random_state=0)
reference = make_spurious_images(n_samples=320, subset="train", correlation=0.0, random_state=1)
correlated = make_spurious_images(n_samples=160, subset="test", random_state=2)
shifted = make_spurious_images(n_samples=160, subset="test", correlation=0.0, random_state=2)

figure, axes = plt.subplots(2, 8, figsize=(8, 2.3), layout="constrained")
for row, data, title in zip(
    axes, (correlated, shifted), ("as in training", "shifted"), strict=True
):
    for ax, image in zip(row, data.images[:8], strict=True):
        ax.imshow(image)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)
plt.show()

# %%
# The diagnosis
# -------------
# Prototypes are distilled from the training images. Two linear readers, trained on real images in
# which class and texture are independent, then say what each prototype shows. Group reliance is 0
# where prototypes show nothing of the texture of their class, 1/2 where they show it as clearly as
# the class itself, and 1 where they show nothing else.


def labelled(data):
    """Return images, class names and texture names."""
    return data.images, data.target_names[data.target], data.group_names[data.groups]


net = {"backbone": "efficientnet_lite0", "image_size": 56}
probe = FrozenBackboneProbe(**net, n_views=20, max_epochs=300, random_state=0)
report = diagnose_bias(
    LGMDistiller(**net, max_iter=80, random_state=0),
    *labelled(train),
    reference=labelled(reference),
    correlated_test=labelled(correlated),
    shifted_test=labelled(shifted),
    probe=probe,
)
BiasDisplay.from_report(report)
plt.show()

# %%
# A probe trained on these prototypes is right as long as textures are those of training. On other
# textures it is not:

for name, value in report.summary().items():
    print(f"{name:32}{value:.2f}")

# %%
# Without group labels
# --------------------
# Classes whose prototypes are nearer to real images of another class deserve a look. The shifted
# images bring them to light:

X, y, _ = labelled(shifted)
print(suspect_classes(report.prototypes, X, y, backbone=net["backbone"], probe=probe))

# %%
# Where the probe looks
# ---------------------
# The emoji's share in what moves the decisions of a probe on the prototypes, beside its share of
# the area. A lift of 1 means that the probe looks at an emoji as it looks at any other place.

probe.fit(report.prototypes.images, report.prototypes.labels)
print(object_focus(probe, shifted.images, shifted.masks))
