"""NearestImages: the real images that look most like synthetic ones, to the backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import _fit_context, clone
from sklearn.callback import with_callbacks
from sklearn.frozen import FrozenEstimator

from sklgm.estimators.base import FrozenBackboneEstimator, PrototypeTransformer
from sklgm.estimators.distilled import fit_distiller
from sklgm.estimators.selectors.base import Selector, check_counts, choose_distinct
from sklgm.utils.arrays import float64_parts
from sklgm.utils.directions import directions
from sklgm.utils.targets import check_same_classes

# What is said once, to the distiller.
_OF_THE_DISTILLER = {
    *FrozenBackboneEstimator._parameter_constraints,
    *("prototypes_per_class", "soft_labels", "random_state"),
}


class NearestImages(Selector):
    """Choose the real images most similar to a distiller's prototypes.

    For each prototype, in their order, it is the image of the same class with the highest cosine
    similarity in the distiller's frozen embedding that was not chosen before; of images equally
    similar, the first in X. The gap in accuracy between a probe trained on the prototypes and one
    trained on these images is what synthesis adds to selection.

    Parameters
    ----------
    distiller : estimator
        `LGMDistiller`, or a selector of sklgm; a clone is fitted. Its backbone, the first of
        several, its ``soft_labels``, and its other parameters about images are used here too.
        ``FrozenEstimator(distiller)`` of :mod:`sklearn.frozen` reuses a fitted one.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        The chosen images, float32 in [0, 1], ordered by class; rows with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class of each prototype.
    prototype_probabilities_ : ndarray of shape (n_prototypes, n_classes)
        Soft labels, float32, of ``classes_``: one half is the probabilities by linear discriminant
        analysis of the centre crop and a random view of all images, averaged over random views of
        each prototype, the other its class. Only where the distiller has ``soft_labels=True``.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of the prototypes' centre crops, float32.
    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row of X that each prototype is.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    backbone_fingerprint_ : str or None
        Fingerprint of the net that it was fitted on. Another net is refused later.
    distiller_ : estimator
        The fitted distiller.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklgm import LGMDistiller, NearestImages
    >>> X, y = load_iris(return_X_y=True)
    >>> selector = NearestImages(LGMDistiller(backbone=None, random_state=0)).fit(X, y)
    >>> y[selector.prototype_indices_].tolist()
    [0, 1, 2]
    """

    _parameter_constraints: dict[str, Any] = {"distiller": [PrototypeTransformer, FrozenEstimator]}

    def __init__(self, distiller):
        self.distiller = distiller

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_DISTILLER:
            return getattr(self.distiller, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NearestImages:
        """Distil images and choose the most similar real ones.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; paths, which are streamed; or another of
            :doc:`/inputs`.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the images, for the distiller; 1 when not given. One of weight 0 is never
            chosen.

        Returns
        -------
        NearestImages
            Fitted.

        Raises
        ------
        ValueError
            If X, y or weights cannot be used, a class has fewer images than prototypes, or a frozen
            distiller knows other classes or had another net.
        """
        # All that can be wrong is found before the distiller's long work.
        distiller = clone(self.distiller)
        distiller._validate_params()
        source, classes, indices, weights = self._check_data(X, y, sample_weight)
        check_counts(self.prototypes_per_class, classes, indices[weights > 0])
        encoder = self._encoder()
        context = self._init_callback_context(max_subtasks=1)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        fit_distiller(self, distiller, X, y, context, sample_weight=sample_weight)
        distiller._check_same_net(encoder)
        check_same_classes(distiller.classes_, classes, "the frozen distiller", "y")
        own = np.searchsorted(classes, distiller.prototype_labels_)
        # Images of weight 0 are of no class.
        eligible = np.where(weights > 0, indices, -1)
        rows = nearest_rows(distiller._embed(X), eligible, distiller.prototype_features_, own)
        chosen = rows[np.argsort(own, kind="stable")]
        self._set_chosen(chosen, source, classes, indices, weights, encoder)
        self.distiller_ = distiller
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _encoder(self) -> Any:
        return self.distiller._encoder()


def nearest_rows(
    features: np.ndarray, indices: np.ndarray, prototype_features: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Return the row of the most similar image of its class for each prototype, none twice.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of the images.
    indices : ndarray of int of shape (n_samples,)
        Classes of the images.
    prototype_features : ndarray of shape (n_prototypes, n_features)
        Features of the prototypes.
    own : ndarray of int of shape (n_prototypes,)
        Classes of the prototypes, none of which has fewer images than prototypes.

    Returns
    -------
    ndarray of int of shape (n_prototypes,)
        Rows of ``features``.
    """
    prototypes = directions(prototype_features.astype(np.float64))
    found = np.empty(len(own), dtype=np.intp)
    for c in np.unique(own):
        rows, mine = np.flatnonzero(indices == c), np.flatnonzero(own == c)
        similarities = np.empty((len(mine), len(rows)))
        for part, few in float64_parts(features, rows):
            images = directions(few)
            # A matrix product may round equal rows differently, which would decide ties.
            for one, similar in zip(prototypes[mine], similarities, strict=True):
                similar[part] = (images * one).sum(axis=1)
        found[mine] = rows[choose_distinct(-similarities)]
    return found
