"""What the user gave, checked before the long work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval

from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.selectors import NearestImages
from sklgm.estimators.selectors.base import Selector, check_counts
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.targets import check_column, check_known, check_targets

_COUNT = Interval(Integral, 1, None, closed="left")

PROTOCOL_CONSTRAINTS = {
    "selections": [Mapping, None],
    "baselines": [Mapping, None],
    "distilled_on": [list, tuple, None],
    "n_seeds": [_COUNT],
    "n_probe_seeds": [_COUNT],
    "n_selection_seeds": [_COUNT, None],
    "soft_labels": ["boolean"],
}
"""What the parameters of the protocols may be."""

SOFT_LABELS = ", soft labels"
"""What is added to the name of a row whose probes train on soft labels."""


class GivenPrototypes(BaseEstimator):
    """A selection that is there already: fitting it changes nothing."""

    def __init__(self, prototypes: PrototypeSet) -> None:
        self.prototypes = prototypes

    def fit(self, X: Any, y: Any) -> GivenPrototypes:
        self.prototypes_ = self.prototypes.images
        self.prototype_labels_ = self.prototypes.labels
        if self.prototypes.probabilities is not None:
            self.prototype_probabilities_ = self.prototypes.probabilities
        return self


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test data: images or rows as they were given, labels and groups as arrays."""

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None

    @classmethod
    def check(cls, data: tuple, groups: Any, probe: FrozenBackboneProbe, protocol: str) -> Split:
        """Make a split of (X, y, X_test, y_test) and groups, or say what is wrong with them."""
        X, y, X_test, y_test = data
        probe = clone(probe)
        classes, indices = check_targets(y, len(probe._check_X(X, reset=True)), protocol)
        source = probe._check_X(X_test, reset=False)
        y_test = check_column(y_test, "y_test")
        groups = None if groups is None else check_column(groups, "groups")
        check_consistent_length(source, y_test, groups)
        check_known(y_test, classes, "classes of y_test", "y")
        return cls(X, classes[indices], X_test, y_test, classes, groups)


def check_names(names: Iterable[Any], probe: FrozenBackboneProbe, soft_labels: bool) -> None:
    """Raise unless rows have different names, and probes take soft labels if these are compared."""
    if soft_labels and probe.head is not None:
        raise ValueError(
            f"soft_labels=True compares probes on soft labels, and head={probe.head!r} takes none. "
            f"Use head=None, or soft_labels=False."
        )
    rows = list(names)
    if soft_labels:
        rows += [f"{name}{SOFT_LABELS}" for name in rows]
    if len(set(rows)) < len(rows):
        raise ValueError(f"Rows must have different names; got {rows}. Use others.")


def check_selections(selections: Mapping[Any, Any], split: Split) -> dict[Any, Any]:
    """Return selections with sets of prototypes as estimators, or say which cannot be fitted."""
    if not selections:
        raise ValueError("There is no selection to compare. List at least one.")
    checked = {
        name: GivenPrototypes(selection) if isinstance(selection, PrototypeSet) else selection
        for name, selection in selections.items()
    }
    for selection in checked.values():
        if selection is not None:
            check_selection(selection, split)
    return checked


def check_selection(selection: Any, split: Split) -> None:
    """Raise an error if it can be told beforehand that a selection cannot be fitted."""
    selection = clone(selection)
    if isinstance(selection, NearestImages):
        check_selection(selection.distiller, split)
    if isinstance(selection, FrozenBackboneEstimator):
        selection._validate_params()
        resolve_augmentation(getattr(selection, "augmentation", None))
        # The net is loaded: its name may be wrong, or its weights out of reach.
        selection._encoder()
        selection._check_X(split.X, reset=True)
    if isinstance(selection, Selector) or getattr(selection, "init", None) == "nearest":
        of_classes = split.classes, np.searchsorted(split.classes, split.y)
        check_counts(selection.prototypes_per_class, *of_classes)
