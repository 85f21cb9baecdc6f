"""RandomImages: the baseline every distillation has to beat."""

import numpy as np

from sklgm.estimators.selectors.base import BackboneSelector, Embed
from sklgm.utils.random import own_random_state


class RandomImages(BackboneSelector):
    """Choose real images at random: the baseline every distillation has to beat.

    With ``sample_weight`` in ``fit``, images of a class are drawn one after the other, each with a
    probability proportional to its weight among those that are left.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net of the similarities; it also sets the size of the prototypes. None for rows
        that are features already.
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
        Seed of the choice. The global generator is not used.

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
        state, n = own_random_state(self.random_state), self.prototypes_per_class
        chosen = []
        for rows in rows_of:
            own = weights[rows]
            # By weights numpy draws in another way, even by equal ones.
            shares = None if (own == own[0]).all() else own / own.sum()
            chosen.append(state.choice(rows, n, replace=False, p=shares))
        return chosen
