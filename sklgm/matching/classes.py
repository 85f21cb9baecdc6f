"""Which classes there are, how many images each has, and what they weigh: checked."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from sklgm.utils.targets import check_column, check_known

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


def label_indices(classes: np.ndarray, y: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the place of each label among sorted classes, or raise for one that has none."""
    labels = check_column(y, "y")
    check_known(labels, classes, "labels of y", "classes")
    return np.searchsorted(classes, labels)


def count_classes(
    given: np.ndarray,
    classes: np.ndarray,
    counts: Mapping[Any, float] | Sequence[float] | np.ndarray | None,
) -> np.ndarray | None:
    """Return counts in the order of the sorted classes, or raise for those that do not fit.

    They are given by label, or in the order in which the classes were.
    """
    if counts is None:
        return None
    if not isinstance(counts, Mapping) and np.shape(counts) == given.shape:
        counts = dict(zip(given.tolist(), counts, strict=True))
    if isinstance(counts, Mapping) and set(counts) == set(classes.tolist()):
        ordered = np.array([counts[label] for label in classes.tolist()])
        if ordered.dtype.kind in "iuf" and ordered.min() > 0 and np.isfinite(ordered).all():
            return ordered.astype(np.float64)
    raise ValueError(
        f"class_counts must be finite numbers above 0, one for each of the classes "
        f"{shorten(classes)}; got {shorten(counts)}."
    )


def weigh_samples(
    sample_weight: Any, labels: np.ndarray, classes: np.ndarray | None = None
) -> np.ndarray:
    """Return the weight of each sample, 1 when none is given, as float64.

    Raise for weights that are negative, not finite or not one a label; and with ``classes``, of
    which labels are indices, for a class whose weights are all zero.
    """
    # They are used in float32, in which a huge one is infinite and a tiny one is 0.
    with np.errstate(over="ignore"):
        weights = _check_sample_weight(
            sample_weight,
            labels,
            dtype=np.float32,
            ensure_non_negative=True,
            allow_all_zero_weights=True,
        ).astype(np.float64)
    if classes is not None and not (totals := np.bincount(labels, weights)).all():
        missing = classes[totals == 0].tolist()
        raise ValueError(
            f"sample_weight is zero for every sample of the classes {missing[:5]}. Weigh some of "
            f"them more, or leave these classes out of X and y."
        )
    return weights


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
