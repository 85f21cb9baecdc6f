"""ClassCentroids: what a class looks like on average, as a real image."""

import numpy as np
from sklearn.cluster import KMeans

from sklgm.estimators.selectors.base import BackboneSelector, Embed, choose_distinct
from sklgm.utils.arrays import float64_parts
from sklgm.utils.random import own_random_state


class ClassCentroids(BackboneSelector):
    """Choose the real images nearest to their class's mean feature.

    Distances are Euclidean, between features. With more than one prototype a class, the features of
    each class are clustered by :class:`sklearn.cluster.KMeans`, and the image nearest to each
    cluster's mean is taken, the largest cluster's first. No image is taken twice; of images equally
    near, the first in X is. ``sample_weight`` in ``fit`` weighs images in means and clusters.

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
        Seed of the clustering, which takes place with more than one prototype a class. The global
        generator is not used.

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
    """

    def _choose(
        self, rows_of: list[np.ndarray], weights: np.ndarray, embed: Embed
    ) -> list[np.ndarray]:
        features, state, chosen = embed(), own_random_state(self.random_state), []
        for rows in rows_of:
            centres = self._centres(features, rows, weights[rows], state)
            distances = np.empty((len(centres), len(rows)))
            for part, few in float64_parts(features, rows):
                for centre, distance in zip(centres, distances, strict=True):
                    distance[part] = np.linalg.norm(few - centre, axis=1)
            chosen.append(rows[choose_distinct(distances)])
        return chosen

    def _centres(
        self,
        features: np.ndarray,
        rows: np.ndarray,
        weights: np.ndarray,
        state: np.random.RandomState,
    ) -> np.ndarray:
        if self.prototypes_per_class == 1:
            total = sum(weights[part] @ few for part, few in float64_parts(features, rows))
            return (total / weights.sum())[None]
        features = features[rows].astype(np.float64)
        centres, owners = np.unique(features, axis=0, return_inverse=True)
        if len(centres) > self.prototypes_per_class:
            clusters = KMeans(self.prototypes_per_class, n_init=10, random_state=state)
            owners = clusters.fit(features, sample_weight=weights).labels_
            centres = clusters.cluster_centers_
        sizes = np.bincount(owners.ravel(), weights, minlength=len(centres))
        # Where there are fewer distinct features than prototypes, some centres are equal.
        largest_first = np.argsort(-sizes, kind="stable")
        return centres[np.resize(largest_first, self.prototypes_per_class)]
