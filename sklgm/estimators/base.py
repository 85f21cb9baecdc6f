"""What the estimators share: inputs, the frozen backbone, and life after ``fit``."""

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from sklgm.backbones import Backbone, get_backbone
from sklgm.backbones._several import check_backbone, is_several, resolve_first
from sklgm.checkpoint.memory import cached_features
from sklgm.images import ImageSource, check_images
from sklgm.matching.classes import weigh_samples
from sklgm.passes.encoder import Encoder
from sklgm.passes.rows import RowEncoder
from sklgm.prototypes.similarities import PrototypeSimilarities
from sklgm.synthesis import BatchSize
from sklgm.utils.devices import resolve_device, resolve_precision
from sklgm.utils.directions import cosines
from sklgm.utils.notebook import ShowsPrototypes
from sklgm.utils.targets import check_targets


class LabelledSamples(NamedTuple):
    """What a fit was given, checked: each sample has the index of a class, and a weight."""

    source: Any  # an ImageSource, or an ndarray of rows
    classes: np.ndarray
    indices: np.ndarray
    weights: np.ndarray


class FrozenBackboneEstimator(BaseEstimator):
    """Base of every estimator that looks at X through a frozen backbone.

    With ``backbone=None`` X is a 2-D array of rows, and a row is its own feature.
    """

    _parameter_constraints: dict[str, Any] = {
        "backbone": [str, Backbone, None],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "device": "no_validation",
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "n_jobs": [Integral, None],
        "memory": [str, HasMethods("__fspath__"), HasMethods("cache"), None],
    }

    def _validate_params(self) -> None:
        given = self.get_params(deep=False).get("backbone")  # some have it from their distiller
        # First, since scikit-learn would print a whole net.
        for net in given if is_several(given) else [] if given is None else [given]:
            check_backbone(net, f"The 'backbone' parameter of {type(self).__name__}")
        super()._validate_params()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.backbone is None
        tags.input_tags.three_d_array = self.backbone is not None
        return tags

    def _check_X(self, X: Any, *, reset: bool) -> ImageSource | np.ndarray:
        """Return X as an image source, or as finite 2-D rows without a backbone."""
        if self.backbone is None:
            if not (reset or hasattr(self, "n_features_in_")):
                raise ValueError(
                    f"This {type(self).__name__} was fitted on images, and with backbone=None X is "
                    f"rows of features. Set backbone to what it was, or fit again."
                )
            try:
                return validate_data(self, X, reset=reset, dtype=[np.float32, np.float64])
            except ValueError as error:
                if "could not convert string" in str(error) or "array with dim" in str(error):
                    error.add_note(
                        f"{type(self).__name__} has backbone=None and takes rows of features. Name "
                        f"a backbone to pass images or their paths."
                    )
                raise
        source = check_images(X)
        if reset:
            self._forget_features_in()
        return source

    def _forget_features_in(self) -> None:
        """Drop what an earlier fit on rows said of its columns."""
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)

    def _device(self) -> torch.device:
        return resolve_device(self.device)

    def _encoder(self) -> Any:
        """Return the encoder of the backbone, the first of several; no other is asked for."""
        if self.backbone is None:
            return RowEncoder()
        return self._resolve(resolve_first(self.backbone, self.image_size))

    def _resolve(self, backbone: str | Backbone) -> Encoder:
        """Return the encoder of a backbone, which is loaded if need be."""
        device = self._device()
        net = get_backbone(backbone, image_size=self.image_size, device=device)
        auto = isinstance(self.batch_size, str)
        size = BatchSize.auto(net.image_size, device) if auto else BatchSize(int(self.batch_size))
        in_patches = net.spec.patch_size is not None
        precision = resolve_precision(self.precision, device, in_patches=in_patches)
        return Encoder(net, precision, size, self.n_jobs)

    def _check_same_net(self, encoder: Any, position: int = 0) -> None:
        """Raise ValueError unless a backbone computes what it computed when ``fit`` used it.

        ``position`` says which of several backbones it is.
        """
        fitted = self.backbone_fingerprint_
        if not isinstance(fitted, list):
            fitted = [fitted]
        if self.backbone is not None and encoder.fingerprint not in fitted[position:][:1]:
            raise ValueError(
                f"This {type(self).__name__} was fitted on other weights or another size than "
                f"{encoder.backbone!r} has now, and features of the two do not compare. Set "
                f"backbone and image_size to what they were, put a changed file back, or fit again."
            )

    def _embed(self, X: Any) -> np.ndarray:
        """Return the frozen features of X, float32 of shape (n_samples, n_features)."""
        return self._embed_source(self._check_X(X, reset=False), self._encoder())

    def _embed_source(self, source: Any, encoder: Any) -> np.ndarray:
        if self.backbone is None:
            return encoder.embed(source)
        return cached_features(
            self.memory,
            lambda: ("embed", source.fingerprint(), encoder.key),
            (len(source), encoder.n_features),
            partial(encoder.embed, source),
        )


class PrototypeTransformer(
    ShowsPrototypes, ClassNamePrefixFeaturesOutMixin, TransformerMixin, FrozenBackboneEstimator
):
    """Base of what is fitted to prototypes: similarity to them is the transform."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "prototypes_")

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> LabelledSamples:
        source = self._check_X(X, reset=True)
        classes, indices = check_targets(y, len(source), type(self).__name__)
        weights = weigh_samples(sample_weight, indices, classes)
        return LabelledSamples(source, classes, indices, weights)

    def _prototype_attributes(
        self, prototypes: np.ndarray, labels: np.ndarray, classes: np.ndarray, encoder: Any
    ) -> dict[str, Any]:
        """Return the fitted attributes that follow from the prototypes."""
        return {
            "backbone_fingerprint_": encoder.fingerprint,
            "prototypes_": prototypes,
            "prototype_labels_": classes[labels],
            "prototype_features_": encoder.embed_canvases(prototypes),
            "classes_": classes,
        }

    def _assign(self, fitted: dict[str, Any]) -> None:
        """Assign the fitted attributes; soft labels of an earlier fit go."""
        self.__dict__.pop("prototype_probabilities_", None)
        self.__dict__.update(fitted)

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

    def transform(self, X: Any) -> PrototypeSimilarities:
        """Compute the cosine similarity of images to the prototypes in the frozen embedding.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.

        Returns
        -------
        PrototypeSimilarities of shape (n_samples, n_prototypes)
            Cosines in [-1, 1], float32, as a subclass of ndarray. It also holds references to ``X``
            and to the prototypes, which `FrozenBackboneProbe` makes use of.

        Raises
        ------
        ValueError
            If ``X`` holds no images that can be read.
        """
        check_is_fitted(self)
        return self._similarities(X, self._encoder)

    def _similarities(
        self, X: Any, resolve: Callable[[], Any], position: int = 0
    ) -> PrototypeSimilarities:
        """Return what ``transform`` does, by the net at one of several positions."""
        source = self._check_X(X, reset=False)
        encoder = resolve()  # which may load weights, and X may be wrong
        self._check_same_net(encoder, position)
        features = self._embed_source(source, encoder)
        points = self.prototype_features_
        if position > 0:
            points = encoder.embed_canvases(self.prototypes_)
        references = {
            "images": X,
            "prototypes": self.prototypes_,
            "prototype_labels": self.prototype_labels_,
            "prototype_probabilities": getattr(self, "prototype_probabilities_", None),
            "features": features,
            "feature_key": encoder.key,
        }
        return PrototypeSimilarities.wrap(cosines(features, points), references)
