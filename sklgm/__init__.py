"""Linear Gradient Matching for scikit-learn: distil a labelled image set into a few images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklgm._version import __version__ as __version__

__all__ = [
    "Backbone",
    "BackboneEmbedder",
    "BackboneSpec",
    "ClassCentroids",
    "FrozenBackboneProbe",
    "HerdingImages",
    "KCenterImages",
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
    "clear_backbone_cache",
    "list_backbones",
]

if TYPE_CHECKING:
    from sklgm.backbones import (
        Backbone,
        BackboneSpec,
        WeightsNotFoundError,
        clear_backbone_cache,
        list_backbones,
    )
    from sklgm.estimators.distiller import LGMDistiller
    from sklgm.estimators.embedder import BackboneEmbedder
    from sklgm.estimators.probe import FrozenBackboneProbe
    from sklgm.estimators.sampler import PrototypeSampler
    from sklgm.estimators.selectors import (
        ClassCentroids,
        HerdingImages,
        KCenterImages,
        NearestImages,
        RandomImages,
    )
    from sklgm.matching import RealGradients
    from sklgm.prototypes.prototype_set import PrototypeSet
    from sklgm.synthesis import Pixels, Pyramid, RandomHeads, StandardAugmentation
else:
    # Imported when first asked for: torch takes seconds, and `sklgm --help` does without.
    _HOMES = (
        "sklgm.backbones",
        "sklgm.matching",
        "sklgm.synthesis",
        "sklgm.prototypes.prototype_set",
        "sklgm.estimators.distiller",
        "sklgm.estimators.embedder",
        "sklgm.estimators.probe",
        "sklgm.estimators.sampler",
        "sklgm.estimators.selectors",
    )

    _ROOMS = "alignment", "backbones", "bias", "datasets", "evaluation", "images", "plotting"
    _ROOMS += ("report",)

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return import_module(f"sklgm.{name}")
        for home in _HOMES if name in __all__ else ():
            if hasattr(module := import_module(home), name):
                return getattr(module, name)
        raise AttributeError(f"module 'sklgm' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*globals(), *__all__, *_ROOMS]
