"""What prototype transformers return: similarities that remember what they were computed from."""

from __future__ import annotations

from typing import Any

import numpy as np


class PrototypeSimilarities(np.ndarray):
    """Cosine similarities to prototypes, with references to the images and the prototypes.

    To any other step of a pipeline it is a plain array. `FrozenBackboneProbe` finds in it what
    a probe needs: the prototypes to be trained on and the images to predict. Whatever is
    computed or sliced from it is a plain array without them.

    A pickle holds all that is referred to, so that ``Pipeline(memory=...)`` works; images in
    memory make it as large as they are, paths do not. ``np.asarray(similarities)`` leaves it out.

    Attributes
    ----------
    images : array-like or None
        X as it was given to ``transform``.
    prototypes : ndarray of shape (n_prototypes, height, width, 3) or (n_prototypes, n_features)
        The prototypes, float32.
    prototype_labels : ndarray of shape (n_prototypes,)
        Their labels.
    prototype_probabilities : ndarray of shape (n_prototypes, n_classes) or None
        Their soft labels, where the transformer made some.
    features : ndarray of shape (n_samples, n_features)
        The images' features, with which a probe on the same backbone saves a second pass.
    feature_key : tuple
        Everything that ``features`` depend on beside the images.
    """

    images: Any
    prototypes: np.ndarray
    prototype_labels: np.ndarray
    prototype_probabilities: np.ndarray | None
    features: np.ndarray
    feature_key: tuple[str, str] | None

    @classmethod
    def wrap(cls, similarities: np.ndarray, references: dict[str, Any]) -> PrototypeSimilarities:
        """Attach references, one for each attribute, to an array of similarities."""
        wrapped = similarities.view(cls)
        vars(wrapped).update(references)
        return wrapped

    def __getattribute__(self, name: str) -> Any:
        """Let methods and attributes of arrays be those of the plain array."""
        if name.startswith("__") or name in _OWN:
            return super().__getattribute__(name)
        return getattr(super().view(np.ndarray), name)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = super().__array_function__(func, types, args, kwargs)
        return np.asarray(found) if isinstance(found, PrototypeSimilarities) else found

    def __array_wrap__(
        self, array: np.ndarray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __reduce__(self) -> Any:
        return PrototypeSimilarities.wrap, (np.asarray(self), vars(self))


# Attributes that are not those of the plain array.
_OWN = {*PrototypeSimilarities.__annotations__, "flags", "setflags"}


def has_references(X: Any) -> bool:
    """Return whether X is similarities that still know their images and prototypes."""
    return isinstance(X, PrototypeSimilarities) and hasattr(X, "images")
