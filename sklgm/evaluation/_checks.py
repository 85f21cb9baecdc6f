"""What the user gave, checked before the long work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.selectors import NearestImages
from sklgm.estimators.selectors.base import Selector
from sklgm.evaluation._given import GivenPrototypes
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.numbers import is_whole
from sklgm.utils.targets import check_column, check_targets


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test data.

    Attributes
    ----------
    X, X_test : array-like
        Images or rows, as they were given.
    y, y_test : ndarray of shape (n,), (n_test,)
        Labels.
    classes : ndarray of shape (n_classes,)
        The labels of y, sorted.
    groups : ndarray of shape (n_test,) or None
        Group of each test image, numbered.
    """

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None

    @classmethod
    def check(
        cls,
        X: Any,
        y: Any,
        X_test: Any,
        y_test: Any,
        groups: Any,
        probe: FrozenBackboneProbe,
        protocol: str,
    ) -> Split:
        """Make a split of what the user gave, or say what is wrong with it."""
        probe = clone(probe)
        classes, indices = check_targets(y, len(probe._check_X(X, reset=True)), protocol)
        n_test = len(probe._check_X(X_test, reset=False))
        y_test = check_column(y_test, "y_test")
        if len(y_test) != n_test:
            raise ValueError(
                f"Found {n_test} images or rows in X_test and {len(y_test)} labels in y_test. "
                f"Pass one label for each."
            )
        # Not numpy's set functions, for which 1 and "1" are the same.
        unknown = set(y_test.tolist()) - set(classes.tolist())
        if unknown:
            raise ValueError(
                f"y_test holds labels that y does not: {sorted(unknown, key=str)[:5]}. No probe "
                f"can predict them. Leave those images out, or add training images of these "
                f"classes."
            )
        if groups is not None:
            groups = check_column(groups, "groups")
            if len(groups) != n_test:
                raise ValueError(
                    f"groups has {len(groups)} entries, X_test {n_test} images or rows. Pass the "
                    f"group of each test image."
                )
            groups = np.unique(groups, return_inverse=True)[1]
        return cls(X, classes[indices], X_test, y_test, classes, groups)


def check_names(named: Any, argument: str) -> dict[str, Any]:
    """Return estimators by name as a dict, or raise a ValueError if they are not."""
    if not isinstance(named, Mapping):
        raise ValueError(
            f"{argument} must be a dict from a name to an estimator; got {type(named).__name__}."
        )
    for name in named:
        if not isinstance(name, str):
            raise ValueError(f"{argument} are named by strings; got {name!r}.")
    return dict(named)


def check_selections(selections: Any, split: Split) -> dict[str, Any]:
    """Check selections before the long work.

    Parameters
    ----------
    selections : mapping of str to estimator, PrototypeSet or None
        The selections as the user gave them.
    split : Split
        The data.

    Returns
    -------
    dict
        The same, in the same order; sets of prototypes as estimators.

    Raises
    ------
    ValueError
        If they are no such mapping, or one of them cannot be fitted.
    """
    selections = check_names(selections, "selections")
    if not selections:
        raise ValueError("selections is empty. Name at least one, or leave it out.")
    for name, selection in selections.items():
        if isinstance(selection, PrototypeSet):
            selections[name] = GivenPrototypes(selection)
            check_same_classes(selections[name].fit(split.X, split.y), split)
        elif selection is not None:
            check_selection(selection, f"selections[{name!r}]", split)
    return selections


def check_is_selection(selection: Any, argument: str) -> None:
    """Raise a ValueError for what is no estimator."""
    is_class = isinstance(selection, type)
    if is_class or not (hasattr(selection, "fit") and hasattr(selection, "get_params")):
        advice = f" Pass {selection.__name__}(...)." if is_class else ""
        raise ValueError(
            f"{argument} must be an estimator with fit, prototypes_ and prototype_labels_, such as "
            f"LGMDistiller or RandomImages; got {selection!r}.{advice}"
        )


def check_selection(selection: Any, argument: str, split: Split) -> None:
    """Raise a ValueError unless a selection can be fitted, as far as can be told beforehand."""
    check_is_selection(selection, argument)
    if isinstance(selection, NearestImages):
        check_selection(selection.distiller, f"the distiller of {argument}", split)
    if isinstance(selection, FrozenBackboneEstimator):
        selection._validate_params()
        resolve_augmentation(getattr(selection, "augmentation", None))
        # Loads the net: a name may be wrong, or its weights out of reach.
        selection._encoder()
        clone(selection)._check_X(split.X, reset=True)
    if isinstance(selection, FrozenEstimator) and hasattr(selection, "prototype_labels_"):
        check_same_classes(selection, split)
    if isinstance(selection, Selector):
        selection._check_counts(split.classes, np.searchsorted(split.classes, split.y))


def check_same_classes(fitted: Any, split: Split) -> None:
    """Raise a ValueError unless a fitted selection has prototypes of just the classes of y."""
    found, wanted = set(np.asarray(fitted.prototype_labels_).tolist()), set(split.classes.tolist())
    inside = "prototypes" if isinstance(fitted, GivenPrototypes) else "estimator"
    name = type(getattr(fitted, inside, fitted)).__name__
    if wanted - found:
        raise ValueError(
            f"{name} has no prototype of {sorted(wanted - found, key=str)[:5]}, so no probe can "
            f"learn these classes. A selection needs one of each class."
        )
    if found - wanted:
        raise ValueError(
            f"{name} has prototypes of {sorted(found - wanted, key=str)[:5]}, which are no classes "
            f"of y. Fit it on the same classes."
        )


def check_count(value: Any, name: str, most: int | None = None) -> None:
    """Raise a ValueError unless a value is a whole number from 1 to ``most``."""
    if not is_whole(value) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if most is not None and value > most:
        raise ValueError(
            f"{name}={value} is more than the {most} seeds of the probe, each of which takes one "
            f"fit of the selection. Raise n_probe_seeds or lower {name}."
        )
