"""PrototypeSampler: distillation as a sampler of imbalanced-learn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, _fit_context, clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods

from sklgm.utils.extras import needs_extra
from sklgm.utils.notebook import ShowsPrototypes


class PrototypeSampler(ShowsPrototypes, OneToOneFeatureMixin, BaseEstimator):
    """Replace a training set by its prototypes, as a sampler of imbalanced-learn.

    In ``imblearn.pipeline.make_pipeline(PrototypeSampler(distiller), classifier)`` the classifier
    is trained on the prototypes alone and predicts on the images given to the pipeline. This
    needs imbalanced-learn: ``pip install "sklgm[imblearn]"``.

    Parameters
    ----------
    distiller : estimator
        `LGMDistiller`, a selector such as `ClassCentroids`, or another with
        ``prototypes_`` and ``prototype_labels_``; a clone is fitted. It says how many
        prototypes a class has, so there is no ``sampling_strategy``.
        ``FrozenEstimator(distiller)`` of :mod:`sklearn.frozen` reuses a fitted one.

    Attributes
    ----------
    distiller_ : estimator
        The fitted distiller.
    sampling_strategy_ : dict
        Number of prototypes of each class.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None`` in the distiller.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None`` in
        the distiller.

    See Also
    --------
    FrozenBackboneProbe : With ``distiller=`` it does the same without imbalanced-learn.

    Notes
    -----
    A `FrozenBackboneProbe` with the distiller's backbone and size trains on exactly the pixels it
    would train on with ``distiller=``. One whose canvas is not of the prototypes' size resizes
    them as it does any image, in 8 bits.

    Examples
    --------
    >>> from imblearn.pipeline import make_pipeline
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklgm import LGMDistiller, PrototypeSampler
    >>> X, y = load_iris(return_X_y=True)
    >>> sampler = PrototypeSampler(LGMDistiller(backbone=None, random_state=0))
    >>> prototypes, labels = sampler.fit_resample(X, y)
    >>> prototypes.shape, labels.tolist()
    ((3, 4), [0, 1, 2])
    >>> bool(make_pipeline(sampler, LogisticRegression()).fit(X, y).score(X, y) > 0.7)
    True
    """

    # imbalanced-learn's base class is not derived from: that would import it together with sklgm,
    # and what it does, 2-D checks and balancing by a strategy, is not for prototypes.
    _estimator_type = "sampler"

    _parameter_constraints: dict[str, Any] = {"distiller": [HasMethods(["fit"])]}

    def __init__(self, distiller):
        self.distiller = distiller

    def __sklearn_tags__(self) -> Any:
        with needs_extra("imblearn", "PrototypeSampler"):
            from imblearn.base import BaseSampler

        tags = BaseSampler.__sklearn_tags__(self)
        inputs = get_tags(self.distiller).input_tags
        tags.input_tags.two_d_array = inputs.two_d_array
        tags.input_tags.three_d_array = inputs.three_d_array
        tags.input_tags.sparse = False
        return tags

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> PrototypeSampler:
        """Distil images.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As the distiller takes it.
        y : array-like of shape (n_samples,), or indicators of shape (n_samples, n_classes)
            Class labels.

        Returns
        -------
        PrototypeSampler
            Fitted.

        Raises
        ------
        ValueError
            If X or y cannot be used; the message says why. Nothing is fitted then.
        """
        if np.ndim(y) == 2:  # a column or indicators, as other samplers take them
            with needs_extra("imblearn", "PrototypeSampler"):
                from imblearn.utils import check_target_type

            y = check_target_type(np.asarray(y))
        distiller = clone(self.distiller).fit(X, y)
        self.distiller_ = distiller
        self.sampling_strategy_ = dict(Counter(distiller.prototype_labels_.tolist()))
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(distiller, name):
                setattr(self, name, getattr(distiller, name))
        return self

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Distil images and return the prototypes.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As the distiller takes it.
        y : array-like of shape (n_samples,), or indicators of shape (n_samples, n_classes)
            Class labels.

        Returns
        -------
        prototypes : ndarray of shape (n_prototypes, canvas, canvas, 3)
            Images, float32 in [0, 1]. With ``backbone=None``, rows of shape
            (n_prototypes, n_features) in a container like that of X: a data frame or a list.
        labels : array-like of shape (n_prototypes,), or (n_prototypes, n_classes)
            Class of each prototype, as y has them.

        Raises
        ------
        ImportError
            If imbalanced-learn is not installed.
        ValueError
            If X or y cannot be used; the message says why. Nothing is fitted then.
        """
        with needs_extra("imblearn", "PrototypeSampler"):
            from imblearn.utils._validation import ArraysTransformer

        self.fit(X, y)
        prototypes, labels = self.distiller_.prototypes_, self.distiller_.prototype_labels_
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            labels = np.eye(np.shape(y)[1], dtype=np.asarray(y).dtype)[labels]
        if prototypes.ndim > 2:
            return prototypes, labels
        return ArraysTransformer(X, y).transform(prototypes, labels)
