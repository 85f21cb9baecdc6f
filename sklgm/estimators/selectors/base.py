"""What the selectors share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import Interval

from sklgm.estimators.base import FrozenBackboneEstimator, PrototypeTransformer
from sklgm.estimators.soft_labels import real_moments, teach
from sklgm.passes.real_pass import take
from sklgm.synthesis import StandardAugmentation

# Returns the features of X, of shape (n_samples, n_features).
Embed = Callable[[], np.ndarray]


def choose_distinct(distances: np.ndarray) -> np.ndarray:
    """Choose the nearest image for each of several points, never one image twice.

    Parameters
    ----------
    distances : ndarray of shape (n_points, n_images)
        Finite, and of at least as many images as points.

    Returns
    -------
    ndarray of shape (n_points,)
        For each point, in order, the nearest image that no point before it took; of images
        equally near, the first.
    """
    left = np.array(distances)
    chosen = np.empty(len(left), dtype=np.intp)
    for i in range(len(left)):
        # Two images are equally far from their mean, but for rounding.
        chosen[i] = np.isclose(left[i], left[i].min(), rtol=1e-9, atol=0).argmax()
        left[:, chosen[i]] = np.inf
    return chosen


def check_counts(n_each: int, classes: np.ndarray, indices: np.ndarray) -> None:
    """Raise ValueError where a class, of samples with these class indices, has fewer than n."""
    counts = np.bincount(indices)
    if counts.min() < n_each:
        scarce = int(counts.argmin())
        raise ValueError(
            f"Class {classes.tolist()[scarce]!r} has {counts[scarce]} images, fewer than "
            f"prototypes_per_class={n_each}. Lower it or add images; those with a sample_weight of "
            f"0 do not count."
        )


class Selector(CallbackSupportMixin, PrototypeTransformer):
    """Base of what takes its prototypes from the images it is fitted to."""

    def _set_chosen(
        self,
        chosen: np.ndarray,
        source: Any,
        classes: np.ndarray,
        indices: np.ndarray,
        weights: np.ndarray,
        encoder: Any,
    ) -> None:
        """Assign the fitted attributes, of rows ordered by class."""
        prototypes = encoder.canvas_array(take(source, chosen))
        fitted = self._prototype_attributes(prototypes, indices[chosen], classes, encoder)
        fitted["prototype_indices_"] = chosen
        if self.soft_labels:
            moments = real_moments(encoder, self._device(), source, indices, weights, self.memory)
            fitted["prototype_probabilities_"] = teach(
                [moments], [encoder], prototypes, indices[chosen], StandardAugmentation()
            )
        self._assign(fitted)


class BackboneSelector(Selector):
    """Base of the selectors with a backbone: which rows to take is all a subclass says."""

    _parameter_constraints: dict[str, Any] = {
        **FrozenBackboneEstimator._parameter_constraints,
        "prototypes_per_class": [Interval(Integral, 1, None, closed="left")],
        "soft_labels": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone="clip",
        *,
        prototypes_per_class=1,
        soft_labels=False,
        image_size=None,
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
        random_state=None,
    ):
        self.backbone = backbone
        self.prototypes_per_class = prototypes_per_class
        self.soft_labels = soft_labels
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BackboneSelector:
        """Choose images of each class.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; paths, which are streamed; or another of
            :doc:`/inputs`.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the images; 1 when not given. One of weight 0 is never chosen.

        Returns
        -------
        BackboneSelector
            The fitted selector itself.

        Raises
        ------
        ValueError
            If X, y or weights cannot be used, or a class has fewer images than prototypes are
            asked.
        """
        source, classes, indices, weights = self._check_data(X, y, sample_weight)
        check_counts(self.prototypes_per_class, classes, indices[weights > 0])
        encoder = self._encoder()
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        rows_of = [np.flatnonzero((indices == c) & (weights > 0)) for c in range(len(classes))]
        chosen = self._choose(rows_of, weights, lambda: self._embed_source(source, encoder))
        self._set_chosen(np.concatenate(chosen), source, classes, indices, weights, encoder)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    @abstractmethod
    def _choose(
        self, rows_of: list[np.ndarray], weights: np.ndarray, embed: Embed
    ) -> list[np.ndarray]:
        """Return the chosen ones of each class's rows, none of which has a weight of 0.

        ``weights`` are those of all samples, and ``embed`` returns the features of X.
        """
