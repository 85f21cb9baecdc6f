"""BackboneEmbedder: images in, frozen features out."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sklgm.estimators.base import FrozenBackboneEstimator


class BackboneEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FrozenBackboneEstimator):
    """Embed images with a frozen backbone.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net: a name (see :func:`sklgm.list_backbones`), a `Backbone`, or None to pass
        rows of features through.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once. "auto" chooses by image size and device, and takes half as
        many images after running out of memory.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision that the net computes in. "auto" is bfloat16 on a GPU that has it and, for nets
        that see images in patches, on a CPU with AMX units. It is float32 elsewhere.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does.
    memory : str, path-like, joblib.Memory or None, default=None
        Cache of features. Files are known by path, size and time of change.

    Attributes
    ----------
    n_features_out_ : int
        Size of a feature.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklgm import BackboneEmbedder
    >>> classifier = make_pipeline(BackboneEmbedder("efficientnet_lite0"), LogisticRegression())
    """

    def __init__(
        self,
        backbone="clip",
        *,
        image_size=None,
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
    ):
        self.backbone = backbone
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> BackboneEmbedder:
        """Check the images and load the backbone; nothing is learnt.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; paths, which are streamed; or another of
            :doc:`/inputs`.
        y : None
            Ignored.

        Returns
        -------
        BackboneEmbedder
            Itself.
        """
        self._check_X(X, reset=True)
        encoder = self._encoder()
        self.n_features_out_ = encoder.n_features or self.n_features_in_
        return self

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def transform(self, X: Any) -> np.ndarray:
        """Embed images.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The features, float32.
        """
        check_is_fitted(self)
        return self._embed(X)
