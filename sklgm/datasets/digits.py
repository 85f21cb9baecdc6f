"""scikit-learn's handwritten digits as 8-bit images."""

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from sklearn.utils import Bunch


def load_digits(*, return_X_y: bool = False) -> Bunch | tuple[NDArray, NDArray]:
    """Load scikit-learn's 1797 handwritten digits as grey images of 8 x 8 pixels.

    Its values 0..16 count ink, so the images show dark ink on white paper.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(images, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        images : ndarray of shape (1797, 8, 8), dtype uint8
            255 for no ink, 0 for the most.
        target : ndarray of shape (1797,), dtype int64
            The digits.
        target_names : ndarray of shape (10,), dtype str
            The digits in writing.
        DESCR : str
            Where the images come from.

    Examples
    --------
    >>> from sklgm.datasets import load_digits
    >>> load_digits().images.shape
    (1797, 8, 8)
    """
    digits = sklearn.datasets.load_digits()
    images = np.rint((16 - digits.images) * (255 / 16)).astype(np.uint8)
    if return_X_y:
        return images, digits.target
    return Bunch(
        images=images,
        target=digits.target,
        target_names=digits.target_names.astype(str),
        DESCR=digits.DESCR,
    )
