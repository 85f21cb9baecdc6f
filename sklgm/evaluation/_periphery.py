"""How far out prototypes lie among the real images of their class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import percentileofscore

from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_prototypes, check_real, class_scores, embed_all, probe_of
from sklgm.utils.arrays import float64_parts
from sklgm.utils.tables import Table

# The figures of a prototype, and how they are written in a table.
_FIGURES = {"distance": ".3g", "z_score": ".2f", "percentile": ".0f", "margin": ".2f"}


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeStatistics(Table):
    """What :func:`prototype_statistics` returns: a record of each prototype.

    Parameters
    ----------
    records : tuple of dict
        With the keys ``prototype`` (its position), ``class``, ``n_images`` (real images of the
        class), ``distance``, ``spread``, ``z_score``, ``percentile`` and ``margin``.
    """

    def summary(self) -> dict[str, float]:
        """Average over the prototypes.

        Returns
        -------
        dict
            Means of ``distance``, ``z_score``, ``percentile`` and ``margin``.
        """
        return {
            name: float(np.mean([record[name] for record in self.records])) for name in _FIGURES
        }

    def _table(self) -> tuple[list[str], list[list[str]]]:
        styles = {"class": "", "n_images": "", **_FIGURES}
        lines = [*self.records, {"class": "mean", "n_images": "", **self.summary()}]
        cells = [[format(line[name], style) for name, style in styles.items()] for line in lines]
        return ["class", "images", *(name.replace("_", "-") for name in _FIGURES)], cells

    def _caption(self) -> str:
        return "Distance of prototypes from the mean of the real images of their class."


def prototype_statistics(
    prototypes: Any,
    X: Any,
    y: Any,
    *,
    backbone: str | Backbone | None = None,
    probe: FrozenBackboneProbe | None = None,
) -> PrototypeStatistics:
    """Measure how far out prototypes lie among the real images of their class, in features.

    With :math:`m` and :math:`Z` the mean and the features of the real images of a class, and
    :math:`p` the features of a prototype's centre crop:

    - ``distance`` is :math:`|p - m|`;
    - ``spread`` is the standard deviation (ddof=1) of :math:`Z u`, along the direction
      :math:`u = (p - m) / |p - m|` in which the prototype lies;
    - ``z_score`` is their ratio, infinite where the class has no spread in that direction. In many
      dimensions even a single image lies many spreads out: compare with that of `RandomImages`;
    - ``percentile`` is the percentage of the real images that lie nearer to :math:`m` than the
      prototype does, with half of those that lie as near;
    - ``margin`` is the score of the own class less that of the best other one, by a linear probe
      trained on all of ``X``. It is negative where the probe takes it for another class.

    Parameters
    ----------
    prototypes : estimator or PrototypeSet
        A fitted distiller or selector, or a set of prototypes.
    X : array-like of images, or of shape (n_samples, n_features) if prototypes are rows
        Real images. Those held back from the choice of prototypes compare fairly: a real image
        that was chosen from ``X`` has a share in its mean and spread, and was trained on.
    y : array-like of shape (n_samples,)
        Labels of the images. Every class of the prototypes must be among them; one of a single
        image has a spread of NaN.
    backbone : str, Backbone or None, default=None
        Frozen net. None is the one that the prototypes were made on, at their image size; a net of
        your own has to be named for a set, and rows need none.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probe; None takes the defaults, with ``random_state=0``. Without
        ``backbone`` its settings of the net are those of an estimator.

    Returns
    -------
    PrototypeStatistics
        A record of each prototype.

    Raises
    ------
    ValueError
        If something cannot be used, or ``y`` lacks a class of the prototypes.

    See Also
    --------
    sklgm.plotting.EmbeddingDisplay : The same as a picture, in two dimensions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklgm import RandomImages
    >>> from sklgm.evaluation import prototype_statistics
    >>> X, y = load_iris(return_X_y=True)
    >>> chosen = RandomImages(backbone=None, random_state=0).fit(X[::2], y[::2])
    >>> statistics = prototype_statistics(chosen, X[1::2], y[1::2])
    >>> [record["class"] for record in statistics.records]
    [0, 1, 2]
    """
    images, labels = check_prototypes(prototypes)
    probe = probe_of(prototypes, backbone, probe or FrozenBackboneProbe(random_state=0))
    own, source, indices, classes = check_real(labels, X, y, probe, "prototype_statistics")
    points, features = embed_all(probe, images, source)
    probe.fit(source, classes[indices])
    scores = _margins(class_scores(probe, points), own)
    records = []
    for i, label in enumerate(labels.tolist()):
        rows = np.flatnonzero(indices == own[i])
        record = {"prototype": i, "class": label, "n_images": len(rows)}
        records.append(record | _place(points[i], features, rows) | {"margin": float(scores[i])})
    return PrototypeStatistics(tuple(records))


def _place(point: np.ndarray, features: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Return distance, spread, z-score and percentile of a point among the rows of its class."""
    mean = sum(few.sum(axis=0) for _, few in float64_parts(features, rows)) / len(rows)
    offset = point - mean
    distance = np.linalg.norm(offset)
    direction = offset / distance if distance else offset
    along, radii = np.empty((2, len(rows)))
    for part, few in float64_parts(features, rows):
        difference = few - mean
        along[part] = difference @ direction
        radii[part] = np.linalg.norm(difference, axis=1)
    spread = np.std(along, ddof=1) if len(rows) > 1 else np.nan
    z_score = 0.0 if distance == 0 else np.inf if spread == 0 else distance / spread
    return {
        "distance": float(distance),
        "spread": float(spread),
        "z_score": float(z_score),
        "percentile": float(percentileofscore(radii, distance, kind="mean")),
    }


def _margins(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return by how much each row's own class is ahead of the best other one."""
    rows = np.arange(len(scores))
    others = np.array(scores, dtype=np.float64)
    others[rows, own] = -np.inf
    return scores[rows, own] - others.max(axis=1)
