"""HerdingImages: real images whose running mean stays close to the class mean."""

import numpy as np

from sklgm.estimators.selectors.base import BackboneSelector, Embed
from sklgm.utils.directions import directions


class HerdingImages(BackboneSelector):
    """Choose real images one after the other so that their mean follows the class mean.

    This is the choice of exemplars of iCaRL [1]_ (algorithm 4). Features have length 1, and so have
    means of them. Image after image, the one is taken with which the mean of all that are taken is
    most similar to the mean of the class. No image is taken twice; of images equally good, the
    first in X is. With one prototype a class, it is the image most similar to the class mean.
    ``sample_weight`` in ``fit`` weighs images in that mean.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net of the features; it also sets the size of the prototypes. None for rows that
        are features already.
    prototypes_per_class : int, default=1
        Images of each class.
    soft_labels : bool, default=False
        Whether to make ``prototype_probabilities_``, on which a probe then trains. Their teacher is
        linear discriminant analysis of the centre crop and a random view of all images.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own. Prototypes have the side
        of its `canvas_size`.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision that the net computes in, as in `FrozenBackboneProbe`.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does.
    memory : str, path-like, joblib.Memory or None, default=None
        Cache of features.
    random_state : int, RandomState instance or None, default=None
        Not used: the choice does not depend on chance. It is there so that selectors can be
        exchanged.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        The chosen images, float32 in [0, 1], ordered by class; rows with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class of each prototype.
    prototype_probabilities_ : ndarray of shape (n_prototypes, n_classes)
        Soft labels, float32, of ``classes_``: one half is the teacher's probabilities, averaged
        over random views of each prototype, the other its class.
        Only with ``soft_labels=True``.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of the prototypes' centre crops, float32.
    prototype_indices_ : ndarray of shape (n_prototypes,)
        Row of X that each prototype is.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    backbone_fingerprint_ : str or None
        Fingerprint of the net that it was fitted on. Another net is refused later.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None``.

    References
    ----------
    .. [1] S.-A. Rebuffi, A. Kolesnikov, G. Sperl, C. H. Lampert, "iCaRL: Incremental Classifier and
       Representation Learning", CVPR 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklgm import HerdingImages
    >>> X, y = load_iris(return_X_y=True)
    >>> HerdingImages(backbone=None, prototypes_per_class=2).fit(X, y).prototypes_.shape
    (6, 4)
    """

    def _choose(
        self, rows_of: list[np.ndarray], weights: np.ndarray, embed: Embed
    ) -> list[np.ndarray]:
        features, chosen = embed(), []
        for rows in rows_of:
            own = directions(features[rows].astype(np.float64))
            chosen.append(rows[herd(own, weights[rows], self.prototypes_per_class)])
        return chosen


def herd(features: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """Return the rows whose mean follows the mean of all, in the order they are taken.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of length 1, float64.
    weights : ndarray of shape (n_samples,)
        Their weights in the mean of all.
    n : int
        Rows to take, at most all.

    Returns
    -------
    ndarray of int of shape (n,)
        Rows, none twice.
    """
    mean = np.average(features, axis=0, weights=weights)
    total = np.zeros_like(mean)
    taken: list[int] = []
    for _ in range(n):
        similarities = (directions(total + features) * mean).sum(axis=1)
        similarities[taken] = -np.inf
        # The first of those that differ by rounding alone.
        best = np.flatnonzero(similarities >= similarities.max() - 1e-12)[0]
        taken.append(int(best))
        total += features[best]
    return np.array(taken)
