"""Classes whose prototypes look like another class: a first question where there are no groups."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import gen_batches

from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_prototypes, check_real, embed_all, probe_of
from sklgm.utils.directions import cosines
from sklgm.utils.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class SuspectClasses(Table):
    """What :func:`suspect_classes` returns: a record of each class, the most suspect first.

    Parameters
    ----------
    records : tuple of dict
        With the keys ``class``, ``suspicion``, ``nearest_class``, ``n_prototypes`` and
        ``n_images``.
    """

    def _table(self) -> tuple[list[str], list[list[str]]]:
        cells = [
            [str(r["class"]), f"{r['suspicion']:.3f}", str(r["nearest_class"]), str(r["n_images"])]
            for r in self.records
        ]
        return ["class", "suspicion", "near to", "images"], cells

    def _caption(self) -> str:
        return "Above 0.5, prototypes are nearer to images of another class than to their own."


def suspect_classes(
    prototypes: Any,
    X: Any,
    y: Any,
    *,
    backbone: str | Backbone | None = None,
    probe: FrozenBackboneProbe | None = None,
) -> SuspectClasses:
    """Rank classes by how near their prototypes are to real images of other classes.

    The suspicion of a class is the probability that an image of another class is nearer to its
    prototype, by cosine similarity of features, than an image of its own (ties count half).
    Several prototypes of a class are averaged, and of the other classes the largest value counts.
    It is 0 where all own images are nearest, and above 1/2 where another class is nearer on the
    whole. It needs no groups; :doc:`/bias` names some reasons.

    Parameters
    ----------
    prototypes : estimator or PrototypeSet
        A fitted distiller or selector, or a set of prototypes.
    X : array-like of images, or of shape (n_samples, n_features) if prototypes are rows
        Real images.
    y : array-like of shape (n_samples,)
        Labels of the images. Every class of the prototypes must be among them.
    backbone : str, Backbone or None, default=None
        Frozen net. None is the one that the prototypes were made on, at their image size; a net of
        your own has to be named for a set, and rows need none.
    probe : FrozenBackboneProbe or None, default=None
        Image size and other settings of the net; nothing is trained. Without ``backbone`` those
        of an estimator are used, and this has no effect.

    Returns
    -------
    SuspectClasses
        A record of each class that has prototypes.

    Raises
    ------
    ValueError
        If something cannot be used, or ``y`` lacks a class of the prototypes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklgm import ClassCentroids
    >>> from sklgm.bias import suspect_classes
    >>> X, y = load_iris(return_X_y=True)
    >>> found = suspect_classes(ClassCentroids(backbone=None).fit(X, y), X, y)
    >>> [record["class"] for record in found.records][-1]  # setosa stands apart
    0
    """
    images, labels = check_prototypes(prototypes)
    probe = probe_of(prototypes, backbone, probe)
    own, source, indices, classes = check_real(labels, X, y, probe, "suspect_classes")
    points, features = embed_all(probe, images, source)
    # The similarities of all prototypes would be many times as large as the features.
    nearer = np.concatenate(
        [
            _nearer(cosines(features, points[few]), own[few], indices, len(classes))
            for few in gen_batches(len(points), max(1, 2**26 // len(features)))
        ]
    )
    names, records = classes.tolist(), []
    for c in np.unique(own):
        mean = nearer[own == c].mean(axis=0)
        mean[c] = -np.inf
        records.append(
            {
                "class": names[c],
                "suspicion": float(mean.max()),
                "nearest_class": names[mean.argmax()],
                "n_prototypes": int((own == c).sum()),
                "n_images": int((indices == c).sum()),
            }
        )
    return SuspectClasses(tuple(sorted(records, key=lambda record: -record["suspicion"])))


def _nearer(
    similarities: np.ndarray, own: np.ndarray, indices: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return how often an image of each class is nearer to each prototype than one of its own.

    Similarities have the shape (n_images, n_prototypes), and what is returned (n_prototypes,
    n_classes), with 1/2 for the own class.
    """
    found = np.empty((len(own), n_classes))
    for i, label in enumerate(own):
        near = np.ascontiguousarray(similarities[:, i])
        theirs = np.sort(near[indices == label])
        below = np.searchsorted(theirs, near, side="left")
        up_to = np.searchsorted(theirs, near, side="right")
        wins = (below + up_to) / (2 * len(theirs))
        found[i] = np.bincount(indices, wins, minlength=n_classes)
    return found / np.bincount(indices, minlength=n_classes)
