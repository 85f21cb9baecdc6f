"""The mean image of each class, from which synthetic ones start, as mergeable sums."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sklgm.matching.batches import as_weights, check_pixels, class_membership, shrink
from sklgm.matching.classes import label_indices
from sklgm.matching.moving import to_device

# Side of the mean images: enough for background and rough layout.
_MEAN_SIZE = 8


class MeanImages:
    """The part of `RealGradients` that images are added to, whose docstring has the attributes."""

    classes: np.ndarray

    def _allocate_images(self) -> None:
        n, side = len(self.classes), _MEAN_SIZE
        self.images_seen = np.zeros(n, dtype=np.int64)
        self.image_weights = np.zeros(n)
        self.image_sum = torch.zeros(n, 3, side, side, dtype=torch.float64)

    def _count(self, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(labels, weights, minlength=len(self.classes))

    def update_mean_images(
        self,
        images: Tensor,
        y: Sequence[Any] | np.ndarray,
        *,
        sample_weight: np.ndarray | None = None,
    ) -> Self:
        """Add images to the mean images of their classes, from which synthetic ones start.

        Parameters
        ----------
        images : Tensor of shape (n, 3, height, width)
            Pixels in [0, 1]. Those on a GPU are checked by :meth:`mean_images`, so as not to wait.
        y : array-like of shape (n,)
            Labels, each one of ``classes``.
        sample_weight : ndarray of shape (n,), optional
            Weight of each image in the mean of its class; 1 when not given.

        Returns
        -------
        RealGradients
            Itself.

        Raises
        ------
        ValueError
            For an unknown label, images of another shape, of other values, or not one a label, or
            weights that are not finite or not one a label.
        """
        labels = label_indices(self.classes, y)
        small = shrink(images, len(labels), _MEAN_SIZE)
        weights = as_weights(sample_weight, labels)
        weighted = small.flatten(1) * to_device(torch.from_numpy(weights), small.device)[:, None]
        added = class_membership(labels, len(self.classes), small.device) @ weighted
        self.image_sum = self.image_sum.to(small.device).add_(added.view_as(self.image_sum))
        self.images_seen += self._count(labels[weights != 0])
        self.image_weights += self._count(labels, weights)
        return self

    def mean_images(self) -> np.ndarray | None:
        """Return the mean image of each class.

        Returns
        -------
        ndarray of shape (n_classes, 3, 8, 8) or None
            Pixels in [0, 1], float32; None unless images of every class were added.

        Raises
        ------
        ValueError
            If images on a GPU were added whose pixels are not in [0, 1].
        """
        if not self.images_seen.all():
            return None
        means = self.image_sum.cpu().numpy() / self.image_weights[:, None, None, None]
        # In float32 a mean of white pixels is 1, whatever was rounded in it before.
        return check_pixels(means.astype(np.float32))
