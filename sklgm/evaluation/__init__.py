"""Fair comparisons in one call: with real images, across nets, over the number of prototypes.

Every figure is that of a linear probe, trained on what was chosen from the training images and
scored on test images that neither the choice nor the probe has seen. Apart from these,
`prototype_statistics` tells where prototypes lie among real images.
"""

from sklgm.evaluation._comparison import SelectionComparison, compare_selections, default_selections
from sklgm.evaluation._curve import PrototypeCurve, prototype_curve
from sklgm.evaluation._periphery import PrototypeStatistics, prototype_statistics
from sklgm.evaluation._transfer import TransferMatrix, cross_model_transfer

__all__ = [
    "PrototypeCurve",
    "PrototypeStatistics",
    "SelectionComparison",
    "TransferMatrix",
    "compare_selections",
    "cross_model_transfer",
    "default_selections",
    "prototype_curve",
    "prototype_statistics",
]
