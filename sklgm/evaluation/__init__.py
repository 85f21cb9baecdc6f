"""Fair comparisons in one call: with real images, across nets, over the number of prototypes.

Every figure is that of a linear probe, trained on what was chosen from the training images and
scored on test images that neither the choice nor the probe has seen.
"""

from sklgm.evaluation._comparison import (
    SelectionComparison,
    compare_selections,
    default_selections,
)
from sklgm.evaluation._curve import LearningCurve, learning_curve
from sklgm.evaluation._transfer import TransferMatrix, cross_model_transfer

__all__ = [
    "LearningCurve",
    "SelectionComparison",
    "TransferMatrix",
    "compare_selections",
    "cross_model_transfer",
    "default_selections",
    "learning_curve",
]
