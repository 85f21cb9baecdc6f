"""Which classes there are, how many images each has, and what they weigh: checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


def label_indices(classes: np.ndarray, y: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the place of each label among sorted classes, or raise for one that has none."""
    labels = np.asarray(y)
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise ValueError(
            f"y holds labels that are not in classes: {unknown[:5].tolist()}; "
            f"classes are {shorten(classes)}."
        )
    return np.searchsorted(classes, labels)


def count_classes(
    given: np.ndarray,
    classes: np.ndarray,
    counts: Mapping[Any, int] | Sequence[int] | np.ndarray | None,
) -> np.ndarray | None:
    """Return counts in the order of sorted classes, of those in the order given or by label."""
    if counts is None:
        return None
    if isinstance(counts, Mapping):
        unknown = set(counts) - set(classes.tolist())
        if unknown:
            raise ValueError(f"class_counts names labels that are not classes: {list(unknown)}.")
        ordered = _whole_counts([counts.get(label, 0) for label in classes.tolist()])
    else:
        ordered = _whole_counts(counts)
        if ordered.shape != given.shape:
            raise ValueError(
                f"class_counts must have one count a class ({len(given)}); got {ordered.shape}."
            )
        ordered = ordered[np.argsort(given)]
    if ordered.min() < 1:
        empty = classes[ordered < 1].tolist()
        raise ValueError(f"class_counts must be at least 1 for every class; not so for {empty}.")
    return ordered


def _whole_counts(counts: Any) -> np.ndarray:
    try:
        whole = np.asarray(counts, dtype=np.int64)
        if np.array_equal(np.asarray(counts), whole):
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"class_counts must be whole numbers; got {shorten(counts)}.")


def weigh_classes(
    classes: np.ndarray, counts: np.ndarray | None, class_weight: ClassWeight
) -> np.ndarray:
    """Return the weight of each class, as scikit-learn has it."""
    if class_weight is None or (class_weight == "balanced" and counts is None):
        return np.ones(len(classes))
    if class_weight == "balanced":
        assert counts is not None
        return counts.sum() / (len(classes) * counts)
    if isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise ValueError(f"class_weight names labels that are not classes: {list(unknown)}.")
        weights = np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])
        with np.errstate(over="ignore"):
            single = weights.astype(np.float32)  # as they are used
        if not (np.isfinite(single).all() and (single > 0).all()):
            raise ValueError(
                f"class_weight must be positive and finite in float32; got {class_weight}."
            )
        return weights
    raise ValueError(
        f"class_weight must be 'balanced', a mapping from label to weight, or None; "
        f"got {class_weight!r}."
    )


def shorten(value: Any) -> str:
    """Return a value as text that fits into a message."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
