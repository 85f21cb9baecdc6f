"""Mean, spread and covariance of the real features, as mergeable sums."""

import numpy as np
import torch
from torch import Tensor

from sklgm.matching.batches import class_membership
from sklgm.utils.devices import device_of_doubles

# What is summed only with ``store_covariance``.
OF_COVARIANCE = ("class_feature_sum", "feature_product_sum")


class FeatureMoments:
    """The part of `RealGradients` that knows the features, whose docstring has the attributes."""

    classes: np.ndarray
    row_weights: np.ndarray
    store_covariance: bool
    _class_weights: np.ndarray

    def _allocate_moments(self, n_features: int, device: torch.device | str) -> None:
        moments = torch.zeros(2, n_features, device=device_of_doubles(device)).double()
        self.feature_sum, self.feature_square_sum = moments
        if self.store_covariance:
            self.class_feature_sum = moments.new_zeros(len(self.classes), n_features)
            self.feature_product_sum = moments.new_zeros(n_features, n_features)

    def _add_moments(self, rows: Tensor, labels: np.ndarray, weights: np.ndarray) -> None:
        wide = rows.to(device_of_doubles(rows.device)).double()
        weighted = wide * torch.as_tensor(weights, device=wide.device)[:, None]
        self.feature_sum += weighted.sum(0)
        self.feature_square_sum += (weighted * wide).sum(0)
        if self.store_covariance:
            factors = torch.as_tensor(self._class_weights[labels] * weights, device=wide.device)
            weighted = wide * factors[:, None]
            of_class = class_membership(labels, len(self.classes), wide.device)
            self.class_feature_sum += of_class @ weighted
            self.feature_product_sum += wide.T @ weighted

    def feature_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the features.

        Returns
        -------
        mean : ndarray of shape (n_features,)
            Mean of each feature, float32.
        std : ndarray of shape (n_features,)
            Standard deviation of each feature, float32.

        Raises
        ------
        ValueError
            If nothing was added up yet.
        """
        if not self.row_weights.any():
            raise ValueError("These gradients are empty. Call update(features, y) first.")
        sums = torch.stack([self.feature_sum, self.feature_square_sum])
        mean, square = sums.cpu().numpy() / self.row_weights.sum()
        variance = np.maximum(square - mean**2, 0)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)

    def class_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean feature of each class and the covariance within classes.

        Returns
        -------
        means : ndarray of shape (n_classes, n_features)
            Mean features, by the weights of the gradients, float64.
        covariance : ndarray of shape (n_features, n_features)
            Mean product of the differences of two features from their class means, by the same
            weights, float64. With balanced classes each of them counts alike.

        Raises
        ------
        ValueError
            If it was made without ``store_covariance``, or a class has no row with a weight.
        """
        if not self.store_covariance:
            raise ValueError(
                "These gradients were made without the covariance of features. Make them again "
                "with store_covariance=True, a distiller's with soft_labels=True."
            )
        totals = self._class_weights * self.row_weights
        if not totals.all():
            missing = self.classes[totals == 0].tolist()
            raise ValueError(f"No row of the classes {missing[:5]} was added. Add their shards.")
        sums, products = (getattr(self, name).cpu().numpy() for name in OF_COVARIANCE)
        means = sums / totals[:, None]
        return means, (products - means.T @ sums) / totals.sum()
