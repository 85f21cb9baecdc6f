"""Colour decorrelation: natural colours vary mostly together, so optimise along those axes."""

import torch
from torch import Tensor

from sklgm.matching.moving import to_device

# Square root of the covariance of RGB in natural photographs, as published with feature
# visualisation (Olah, Mordvintsev and Schubert, 2017).
_COLOR_SQRT_COVARIANCE = torch.tensor(
    [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]
)
_MATRIX = _COLOR_SQRT_COVARIANCE / _COLOR_SQRT_COVARIANCE.norm(dim=0).max()


def correlate_colors(images: Tensor) -> Tensor:
    """Turn channels that vary independently into RGB, as correlated as in photographs.

    Images are of shape (n, 3, h, w). The longest axis keeps its scale.
    """
    matrix = to_device(_MATRIX, images.device).to(images.dtype)
    return torch.einsum("rc,nchw->nrhw", matrix, images)
