"""KCenterImages: real images that leave no image of their class far away."""

import numpy as np

from sklgm.estimators.selectors.base import BackboneSelector, Embed, choose_distinct


class KCenterImages(BackboneSelector):
    """Choose real images of each class so that every other one is near to one of them.

    This is the greedy choice of k centres [1]_, the core set of [2]_. Distances are Euclidean,
    between features. The first is the image whose feature is nearest to the class mean. Then image
    after image, the one is taken that is farthest from those taken before. So the largest distance
    from an image to the nearest that is chosen is at most twice the smallest that is possible. No
    image is taken twice; of images equally far, the first in X is.

    ``sample_weight`` in ``fit`` decides where the choice begins, by the class mean, and which
    images are left out, those of weight 0. Beyond that coverage alone counts, not weight.

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
    .. [1] T. F. Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical
       Computer Science, 1985.
    .. [2] O. Sener, S. Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
       Approach", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklgm import KCenterImages
    >>> X, y = load_iris(return_X_y=True)
    >>> KCenterImages(backbone=None, prototypes_per_class=2).fit(X, y).prototypes_.shape
    (6, 4)
    """

    def _choose(
        self, rows_of: list[np.ndarray], weights: np.ndarray, embed: Embed
    ) -> list[np.ndarray]:
        features, chosen = embed(), []
        for rows in rows_of:
            own = features[rows].astype(np.float64)
            mean = np.average(own, axis=0, weights=weights[rows])
            chosen.append(rows[k_centres(own, mean, self.prototypes_per_class)])
        return chosen


def k_centres(features: np.ndarray, mean: np.ndarray, n: int) -> np.ndarray:
    """Return the rows that cover the others, in the order they are taken.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features, float64.
    mean : ndarray of shape (n_features,)
        The first row is the nearest to it.
    n : int
        Rows to take, at most all.

    Returns
    -------
    ndarray of int of shape (n,)
        Rows, none twice.
    """
    taken = choose_distinct(np.linalg.norm(features - mean, axis=1)[None]).tolist()
    to_taken = np.full(len(features), np.inf)
    for _ in range(n - 1):
        to_last = np.linalg.norm(features - features[taken[-1]], axis=1)
        to_taken = np.minimum(to_taken, to_last)
        to_taken[taken] = -1
        # Where distances are equal but for rounding, the first row is taken.
        taken.append((to_taken >= to_taken.max() * (1 - 1e-9)).argmax())
    return np.array(taken)
