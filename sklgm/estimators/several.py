"""What an estimator does whose ``backbone=`` may be a list."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from sklgm.backbones import Backbone
from sklgm.backbones._checks import check_differentiable
from sklgm.backbones._several import find_backbone, resolve_backbones
from sklgm.estimators.base import PrototypeTransformer
from sklgm.prototypes.similarities import PrototypeSimilarities


class SeveralBackbonesTransformer(PrototypeTransformer):
    """Base of what is fitted on one backbone or several, and compares images in one of them."""

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        backbone: str | Backbone | None = None,
    ) -> PrototypeSimilarities:
        """Distil images and compute their similarity to the prototypes.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            As in ``fit``.
        backbone : str or Backbone, optional
            As in ``transform``.

        Returns
        -------
        PrototypeSimilarities of shape (n_samples, n_prototypes)
            As ``transform`` returns them.

        Raises
        ------
        ValueError
            As ``fit`` and ``transform`` do.
        """
        if backbone is not None:
            find_backbone(backbone, self.backbone, self.image_size)
        return self.fit(X, y, sample_weight).transform(X, backbone=backbone)

    def transform(self, X: Any, *, backbone: str | Backbone | None = None) -> PrototypeSimilarities:
        """Compute the cosine similarity of images to the prototypes in the frozen embedding.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        backbone : str or Backbone, optional
            The one to compare in, by name or object, of those the prototypes were made for;
            the first when not given. Inside a pipeline it arrives by metadata routing:
            ``set_transform_request(backbone=True)``.

        Returns
        -------
        PrototypeSimilarities of shape (n_samples, n_prototypes)
            Cosines in [-1, 1], float32. It also holds references to ``X`` and to the prototypes,
            which `FrozenBackboneProbe` makes use of.

        Raises
        ------
        ValueError
            If ``X`` holds no images that can be read, or the prototypes were not made for the
            backbone.
        """
        if backbone is None:
            return super().transform(X)
        check_is_fitted(self)
        position, net = find_backbone(backbone, self.backbone, self.image_size)
        source = self._check_X(X, reset=False)
        encoder = self._resolve(net)
        self._check_same_net(encoder, position)
        features = self.prototype_features_
        if position > 0:
            features = encoder.embed_canvases(self.prototypes_)
        return self._similarities(X, source, encoder, features)

    def _encoders(self) -> list[Any]:
        """Return one encoder for each backbone."""
        if self.backbone is None:
            return [self._encoder()]
        nets = resolve_backbones(self.backbone, self.image_size)
        for net in nets:  # before a long pass over the data
            check_differentiable(net.name, net._passes_gradients)
        return [self._resolve(net) for net in nets]
