"""RandomImages: the baseline every distillation has to beat."""

from __future__ import annotations

import numpy as np

from sklgm.estimators.selectors.base import BackboneSelector
from sklgm.images import ImageSource
from sklgm.passes.encoder import Encoder
from sklgm.utils.random import own_random_state


class RandomImages(BackboneSelector):
    """Choose real images at random: the baseline every distillation has to beat.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net of the similarities; it also sets the size of the prototypes. None for rows
        that are features already.
    prototypes_per_class : int, default=1
        Images of each class.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own. Prototypes have the side
        of its `canvas_size`.
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
    backbone_fingerprint_ : str or None
        Which net it was fitted on; another one is refused later.
    n_features_in_ : int
        With ``backbone=None``.
    """

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
