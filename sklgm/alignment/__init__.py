"""How alike backbones are: what prototypes mean to them, and which images they find similar.

:func:`gradient_alignment` is the objective of distillation, measured on any backbone.
:func:`mutual_knn` and :func:`linear_cka` compare features alone; :func:`calibrate` puts them
beside what chance gives.
"""

from sklgm.alignment._calibration import Alignment, calibrate
from sklgm.alignment._features import linear_cka, mutual_knn
from sklgm.alignment._gradients import (
    GradientAlignment,
    gradient_alignment,
    gradient_alignment_matrix,
)
from sklgm.alignment._matrix import AlignmentMatrix, alignment_matrix
from sklgm.alignment._transfer import AlignmentTransfer, Correlation, relate_alignment_to_transfer

__all__ = [
    "Alignment",
    "AlignmentMatrix",
    "AlignmentTransfer",
    "Correlation",
    "GradientAlignment",
    "alignment_matrix",
    "calibrate",
    "gradient_alignment",
    "gradient_alignment_matrix",
    "linear_cka",
    "mutual_knn",
    "relate_alignment_to_transfer",
]
