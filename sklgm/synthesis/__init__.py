"""What is optimised, how it is augmented, and the loop that does it."""

from sklgm.synthesis.augmentation import StandardAugmentation, Views, centre_views, mirror
from sklgm.synthesis.batch_size import BatchSize
from sklgm.synthesis.loop import MatchingSettings, Step, match_gradients
from sklgm.synthesis.parametrization import FeatureRows, Pixels, Pyramid, Synthetic
from sklgm.synthesis.ranks import ALONE, Ranks
from sklgm.synthesis.two_phase import Objective, micro_batches

__all__ = [
    "ALONE",
    "BatchSize",
    "FeatureRows",
    "MatchingSettings",
    "Objective",
    "Pixels",
    "Pyramid",
    "Ranks",
    "StandardAugmentation",
    "Step",
    "Synthetic",
    "Views",
    "centre_views",
    "match_gradients",
    "micro_batches",
    "mirror",
]
