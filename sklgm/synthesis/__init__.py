"""What is optimised, how it is augmented, and the loop that does it."""

from sklgm.synthesis.augmentation import Augmentation, StandardAugmentation
from sklgm.synthesis.batch_size import BatchSize
from sklgm.synthesis.heads import RandomHeads
from sklgm.synthesis.loop import MatchingSettings, Step, match_gradients
from sklgm.synthesis.parametrization import FeatureRows, Pixels, Pyramid, Synthetic
from sklgm.synthesis.ranks import ALONE, Ranks
from sklgm.synthesis.state import LoopState
from sklgm.synthesis.two_phase import Objective

__all__ = [
    "ALONE",
    "Augmentation",
    "BatchSize",
    "FeatureRows",
    "LoopState",
    "MatchingSettings",
    "Objective",
    "Pixels",
    "Pyramid",
    "RandomHeads",
    "Ranks",
    "StandardAugmentation",
    "Step",
    "Synthetic",
    "match_gradients",
]
