"""Linear Gradient Matching for scikit-learn: distil a labelled image set into a few images."""

from sklgm._version import __version__ as __version__
from sklgm.backbones import Backbone, BackboneSpec, WeightsNotFoundError, list_backbones
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.embedder import BackboneEmbedder
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.sampler import PrototypeSampler
from sklgm.estimators.selectors import ClassCentroids, HerdingImages, NearestImages, RandomImages
from sklgm.matching import RandomHeads, RealGradients
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.synthesis import Pixels, Pyramid, StandardAugmentation

__all__ = [
    "Backbone",
    "BackboneEmbedder",
    "BackboneSpec",
    "ClassCentroids",
    "FrozenBackboneProbe",
    "HerdingImages",
    "LGMDistiller",
    "NearestImages",
    "Pixels",
    "PrototypeSampler",
    "PrototypeSet",
    "Pyramid",
    "RandomHeads",
    "RandomImages",
    "RealGradients",
    "StandardAugmentation",
    "WeightsNotFoundError",
    "list_backbones",
]
