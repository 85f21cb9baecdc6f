"""What is optimised, how it is augmented, and the loop that does it."""

from sklgm.synthesis.augmentation import StandardAugmentation, Views, centre_views, mirror
from sklgm.synthesis.batch_size import BatchSize
from sklgm.synthesis.loop import Objective, Step, micro_batches, synthesize
from sklgm.synthesis.parametrization import FeatureRows, Pixels, Pyramid, Synthetic
from sklgm.synthesis.ranks import ALONE, Ranks

__all__ = [
    "ALONE",
    "BatchSize",
    "FeatureRows",
    "Objective",
    "Pixels",
    "Pyramid",
    "Ranks",
    "StandardAugmentation",
    "Step",
    "Synthetic",
    "Views",
    "centre_views",
    "micro_batches",
    "mirror",
    "synthesize",
]
