"""Small data and quick estimators for the protocols."""

import numpy as np

from sklgm import FrozenBackboneProbe, LGMDistiller, RandomHeads
from sklgm.images import check_images
from tests.image_checks import toy_images
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone()
OTHER = tiny_backbone(image_size=12, seed=3)
X, Y = toy_images()
X_TEST, Y_TEST = toy_images(n_per_class=8, seed=5)
DATA = (X, Y, X_TEST, Y_TEST)
PROBE = FrozenBackboneProbe(n_views=3, max_epochs=12, learning_rate=0.02)
# Few steps, so that some predictions are wrong.
SETTINGS = {"max_iter": 4, "heads": RandomHeads(4, 8), "n_views": 2}


def distiller(backbone=NET, **params):
    return LGMDistiller(backbone, **(SETTINGS | params))


def toy_rows(n_classes=7, n_per_class=6, seed=0):
    """Make rows of features, with labels that are strings."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n_per_class)
    rows = rng.normal(size=(len(labels), 5))
    rows[np.arange(len(labels)), labels % 5] += 1.5
    return rows, np.array([f"class {label}" for label in labels])


def guarded(X, state):
    """Return images that may be read only while ``state["open"]``."""

    class Guarded(type(check_images(X))):
        def _decode(self, item):
            if not state["open"]:
                raise AssertionError("test images were read during fit")
            return super()._decode(item)

    source = check_images(X)
    return Guarded(**vars(source))


def close_during_fits(monkeypatch, *kinds):
    """Return a state for ``guarded`` that is closed while estimators of these kinds are fitted."""
    state = {"open": True}

    def closed(method):
        def fit(self, *args, **params):
            before, state["open"] = state["open"], False
            try:
                return method(self, *args, **params)
            finally:
                state["open"] = before

        return fit

    for kind in kinds:
        monkeypatch.setattr(kind, "fit", closed(kind.fit))
    return state


def plain(result):
    """Return the records without times."""
    return [
        {key: value for key, value in record.items() if not key.endswith("seconds")}
        for record in result.records
    ]
