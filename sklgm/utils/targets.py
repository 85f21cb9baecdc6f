"""Class labels, as scikit-learn's classifiers take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets


def check_targets(y: Any, n_samples: int, estimator_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and number them.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels: integers, booleans, strings or whole-numbered floats.
    n_samples : int
        Number of labels that there must be.
    estimator_name : str
        Name for the messages.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The distinct labels, sorted.
    indices : ndarray of shape (n_samples,)
        Index into ``classes`` of each label, int64.

    Raises
    ------
    ValueError
        For no labels, labels of mixed types, continuous labels, another number of labels than
        samples, or fewer than two classes.
    """
    if y is None:
        raise ValueError(
            f"{estimator_name} requires y to be passed, but the target y is None. "
            f"Pass one class label an image."
        )
    y = check_column(y, "y")
    if len(y) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n_samples} images or "
            f"rows in X and {len(y)} labels in y. Pass one label for each."
        )
    check_classification_targets(y)
    classes, indices = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{estimator_name} needs at least 2 classes in y; got 1 class: {classes.tolist()[0]!r}."
        )
    return classes, indices.astype(np.int64)


def named_labels(labels: Any) -> Any:
    """Return the labels of a column by the names of their classes.

    A column is what `datasets` of Hugging Face make of ``dataset["label"]``.

    Parameters
    ----------
    labels : object
        Labels of any kind. A column of a data set whose feature is a ``ClassLabel`` numbers the
        names of its classes.

    Returns
    -------
    object
        A list of names, with None where a label is missing (-1 or None); other labels as they are.
    """
    names = getattr(getattr(labels, "features", None), "names", None)
    if names is None:
        return labels
    return [None if index is None or index < 0 else names[index] for index in labels[:]]


def check_column(labels: Any, name: str) -> np.ndarray:
    """Return labels of one kind as an array (n,), or raise a ValueError that names them."""
    labels = named_labels(labels)
    if hasattr(labels, "to_numpy"):  # since column_or_1d makes floats of pandas' own integers
        labels = labels.to_numpy()
    # Of a list with strings and others numpy would make strings alone.
    may_mix = isinstance(labels, list | tuple) or getattr(labels, "dtype", None) == np.dtype("O")
    if may_mix and len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"{name} mixes strings and other labels. Make all of them strings.")
    column = column_or_1d(labels, warn=True, input_name=name)
    assert_all_finite(column, input_name=name)
    return column


def check_known(found: Any, known: Any, what: str, where: str) -> None:
    """Raise ValueError if labels are found that are not known."""
    # Not numpy's set functions, for which 1 and "1" are the same.
    unknown = set(np.ravel(found).tolist()) - set(np.ravel(known).tolist())
    if unknown:
        raise ValueError(
            f"The {what} include {sorted(unknown, key=str)[:5]}, which {where} does not have. Add "
            f"what is missing there, leave these out, or make the labels of one type."
        )


def check_same_classes(first: Any, second: Any, what: str, where: str) -> None:
    """Raise ValueError unless two kinds of things, whose names are given, have the same labels."""
    check_known(first, second, f"classes of {what}", where)
    check_known(second, first, f"classes of {where}", what)
