"""Prototypes that are there already, among selections still to be made."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

from sklgm.prototypes.prototype_set import PrototypeSet


class GivenPrototypes(BaseEstimator):
    """A selection that is given: fitting it changes nothing.

    Parameters
    ----------
    prototypes : PrototypeSet
        The prototypes that it selects.
    """

    def __init__(self, prototypes: PrototypeSet) -> None:
        self.prototypes = prototypes

    def fit(self, X: Any, y: Any) -> GivenPrototypes:
        """Set ``prototypes_`` and ``prototype_labels_``, whatever X and y are."""
        self.prototypes_ = self.prototypes.images
        self.prototype_labels_ = self.prototypes.labels
        return self
