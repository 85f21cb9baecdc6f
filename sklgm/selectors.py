"""Baselines that choose real images as prototypes, under the distiller's interface."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import Interval

from sklgm._base import FrozenBackboneEstimator, PrototypeTransformer
from sklgm._encoder import Encoder
from sklgm._random import own_random_state
from sklgm._targets import check_targets
from sklgm.images import ImageSource


class _Selector(CallbackSupportMixin, PrototypeTransformer):
    """Base of the selectors: which rows of each class to take is all a subclass says."""

    _parameter_constraints: dict[str, Any] = {
        **FrozenBackboneEstimator._parameter_constraints,
        "prototypes_per_class": [Interval(Integral, 1, None, closed="left")],
    }

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> _Selector:
        """Choose images of each class.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in ``pixel_range``; PIL images; or paths, which are streamed.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        object
            Fitted.

        Raises
        ------
        ValueError
            If X or y cannot be used, or a class has fewer images than prototypes are asked.
        """
        source = self._check_X(X, reset=True)
        classes, indices = check_targets(y, len(source), type(self).__name__)
        counts = np.bincount(indices)
        if counts.min() < self.prototypes_per_class:
            scarce = int(counts.argmin())
            raise ValueError(
                f"Class {classes.tolist()[scarce]!r} has {counts[scarce]} images, fewer than "
                f"prototypes_per_class={self.prototypes_per_class}. Lower it or add images."
            )
        encoder = self._encoder()
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        chosen = self._choose(source, indices, len(classes), encoder)
        prototypes = self._images(source, chosen, encoder)
        fitted = self._prototype_attributes(prototypes, indices[chosen], classes, encoder)
        for name, value in fitted.items():
            setattr(self, name, value)
        self.prototype_indices_ = chosen
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    @abstractmethod
    def _choose(
        self,
        source: ImageSource | np.ndarray,
        indices: np.ndarray,
        n_classes: int,
        encoder: Encoder | None,
    ) -> np.ndarray:
        """Return the chosen rows, ordered by class."""

    def _images(
        self, source: ImageSource | np.ndarray, chosen: np.ndarray, encoder: Encoder | None
    ) -> np.ndarray:
        if encoder is None or isinstance(source, np.ndarray):
            return np.asarray(source, dtype=np.float32)[chosen]
        parts = [
            pixels.permute(0, 2, 3, 1).cpu().numpy()
            for pixels in encoder.canvases(source.take(chosen))
        ]
        return np.ascontiguousarray(np.concatenate(parts))


class RandomImages(_Selector):
    """Choose real images at random: the baseline every distillation has to beat.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net of the similarities; it also sets the size of the prototypes. None for rows
        that are features already.
    prototypes_per_class : int, default=1
        Images of each class.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own. Prototypes are 8/7 as
        large.
    pixel_range : tuple of (float, float), default=(0, 1)
        Black and white in float arrays.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the net.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does.
    memory : str, joblib.Memory or None, default=None
        Cache of features.
    random_state : int, RandomState instance or None, default=None
        Which images. The global generator is not used.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        The chosen images, float32 in [0, 1], ordered by class; rows with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Their classes.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of their centre crops, float32.
    prototype_indices_ : ndarray of shape (n_prototypes,)
        Their rows in X.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    n_features_in_ : int
        With ``backbone=None``.
    """

    _parameter_constraints: dict[str, Any] = {
        **_Selector._parameter_constraints,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone="clip",
        *,
        prototypes_per_class=1,
        image_size=None,
        pixel_range=(0, 1),
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
        random_state=None,
    ):
        self.backbone = backbone
        self.prototypes_per_class = prototypes_per_class
        self.image_size = image_size
        self.pixel_range = pixel_range
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state

    def _choose(
        self,
        source: ImageSource | np.ndarray,
        indices: np.ndarray,
        n_classes: int,
        encoder: Encoder | None,
    ) -> np.ndarray:
        state = own_random_state(self.random_state)
        return np.concatenate(
            [
                state.choice(np.flatnonzero(indices == c), self.prototypes_per_class, replace=False)
                for c in range(n_classes)
            ]
        )


class ClassCentroids(_Selector):
    """Choose the real images nearest to their class's mean feature.

    With more than one prototype a class, the nearest, the second nearest and so on are taken.
    Of images equally near, the first in X is.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net of the features; it also sets the size of the prototypes. None for rows that
        are features already.
    prototypes_per_class : int, default=1
        Images of each class.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own. Prototypes are 8/7 as
        large.
    pixel_range : tuple of (float, float), default=(0, 1)
        Black and white in float arrays.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the net.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does.
    memory : str, joblib.Memory or None, default=None
        Cache of features.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        The chosen images, float32 in [0, 1], ordered by class; rows with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Their classes.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of their centre crops, float32.
    prototype_indices_ : ndarray of shape (n_prototypes,)
        Their rows in X.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    n_features_in_ : int
        With ``backbone=None``.
    """

    def __init__(
        self,
        backbone="clip",
        *,
        prototypes_per_class=1,
        image_size=None,
        pixel_range=(0, 1),
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
    ):
        self.backbone = backbone
        self.prototypes_per_class = prototypes_per_class
        self.image_size = image_size
        self.pixel_range = pixel_range
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory

    def _choose(
        self,
        source: ImageSource | np.ndarray,
        indices: np.ndarray,
        n_classes: int,
        encoder: Encoder | None,
    ) -> np.ndarray:
        features = self._embed_source(source, encoder).astype(np.float64)
        chosen = []
        for c in range(n_classes):
            rows = np.flatnonzero(indices == c)
            distance = np.linalg.norm(features[rows] - features[rows].mean(axis=0), axis=1)
            nearest = np.argsort(distance, kind="stable")[: self.prototypes_per_class]
            chosen.append(rows[nearest])
        return np.concatenate(chosen)
