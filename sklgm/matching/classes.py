"""Which classes there are, how many images each has, and what they weigh: checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sklgm.utils.targets import check_known

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


def label_indices(classes: np.ndarray, y: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the place of each label among sorted classes, or raise for one that has none."""
    labels = np.asarray(y)
    check_known(labels, classes, "labels of y", "classes")
    return np.searchsorted(classes, labels)


def count_classes(
    given: np.ndarray,
    classes: np.ndarray,
    counts: Mapping[Any, int] | Sequence[int] | np.ndarray | None,
) -> np.ndarray | None:
    """Return counts in the order of sorted classes, of those in the order given or by label."""
    if counts is None:
        return None
    if not isinstance(counts, Mapping) and np.shape(counts) == given.shape:
        counts = dict(zip(given.tolist(), counts, strict=True))
    if isinstance(counts, Mapping) and set(counts) == set(classes.tolist()):
        ordered = np.array([counts[label] for label in classes.tolist()])
        if ordered.dtype.kind in "iu" and ordered.min() >= 1:
            return ordered.astype(np.int64)
    raise ValueError(
        f"class_counts must be whole numbers of at least 1, one for each of the classes "
        f"{shorten(classes)}; got {shorten(counts)}."
    )


def weigh_classes(
    classes: np.ndarray, counts: np.ndarray | None, class_weight: ClassWeight
) -> np.ndarray:
    """Return the weight of each class, as scikit-learn has it."""
    if isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise ValueError(f"class_weight names labels that are not classes: {list(unknown)}.")
        weights = np.array([float(class_weight.get(label, 1)) for label in classes.tolist()])
        with np.errstate(over="ignore"):
            single = weights.astype(np.float32)  # as they are used
        if not (np.isfinite(single) & (single > 0)).all():
            raise ValueError(
                f"class_weight must be positive and finite in float32; got {class_weight}."
            )
        return weights
    if class_weight == "balanced" and counts is not None:
        return counts.sum() / (len(classes) * counts)
    return np.ones(len(classes))


def shorten(value: Any) -> str:
    """Return a value as text that fits into a message."""
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else text[:57] + "..."
