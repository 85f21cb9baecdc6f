"""Count the images that pass the backbone; fail when a count at default settings has grown.

Time is noisy, passes are not, and they are what a fit spends its time on. Each case prints the
images that passed forward and what they may be at most; the exit status is 1 if one is above.

Run: ``python benchmarks/smoke.py``
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller
from tests.image_checks import toy_images
from tests.tiny_backbones import counting_backbone

# Three classes of six images.
X, Y = toy_images()
N, CLASSES = len(X), len(np.unique(Y))
STEPS, VIEWS, PROBE_VIEWS = 100, 1 + 3, 100


def distil(**params):
    """Return a case: a distiller at default settings but for some."""
    return lambda net: LGMDistiller(net, random_state=0, **params).fit(X, Y)


def probe(net):
    """Train a probe on prototypes."""
    FrozenBackboneProbe(net, distiller=LGMDistiller(net, max_iter=1, random_state=0)).fit(X, Y)


# What each case may take. A centre crop and a random view of every real image, each crop and view
# of each step once, and the prototypes at the end; twice a view where its graph is not kept.
REAL, STEP = 2 * N, CLASSES * VIEWS
CASES = {
    "a fit": (distil(), REAL + STEPS * STEP + CLASSES),
    "a fit with batch_size=5": (distil(batch_size=5), REAL + 2 * STEPS * STEP + CLASSES),
    "a fit of 5 prototypes a class": (
        distil(prototypes_per_class=5),
        REAL + 5 * STEPS * STEP + 5 * CLASSES,
    ),
    "a probe on prototypes, without the steps": (
        probe,
        REAL + STEP + CLASSES + PROBE_VIEWS * CLASSES,
    ),
    "an embedding": (lambda net: BackboneEmbedder(net).fit_transform(X), N),
}


def main():
    """Count, compare, and say so."""
    grown = False
    for name, (case, most) in CASES.items():
        net = counting_backbone()
        net.module.reset()  # what making the backbone itself took
        case(net)
        passed = net.module.n_images
        grown |= passed > most
        print(f"{name}: {passed} images, {most} allowed{' - GROWN' if passed > most else ''}")
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
