"""Class labels, as scikit-learn's classifiers take them."""

import warnings
from collections.abc import Iterable, Sequence
from enum import Enum
from numbers import Number, Real
from typing import Any
from unicodedata import normalize

import numpy as np
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets


def check_targets(y: Any, n_samples: int, estimator_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes of labels, and the index of each label's class, int64.

    Labels are integers, booleans, strings or whole-numbered floats; of enums, the values. None or
    missing ones, mixed types or types that cannot be kept, continuous labels, another number of
    them than samples, and fewer than two classes are a ValueError.
    """
    if y is None:
        raise ValueError(
            f"{estimator_name} requires y to be passed, but the target y is None. "
            f"Pass one class label an image."
        )
    y = check_labels(y, "y")
    if len(y) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n_samples} images or "
            f"rows in X and {len(y)} labels in y. Pass one label for each."
        )
    if y.dtype.kind in "iuf":  # strings and booleans are no regression, however many there are
        check_classification_targets(y)
    return _number(y, estimator_name)


def number_labels(labels: np.ndarray, estimator_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and indices of `check_targets`, of labels as `check_labels` returns."""
    with warnings.catch_warnings():
        # One prototype a class is no regression.
        warnings.filterwarnings("ignore", "The number of unique classes")
        check_classification_targets(labels)
    return _number(labels, estimator_name)


def _number(labels: np.ndarray, estimator_name: str) -> tuple[np.ndarray, np.ndarray]:
    classes, indices = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{estimator_name} needs at least 2 classes in y; got 1 class: {classes.tolist()[0]!r}."
        )
    check_spelling(classes, classes)
    return classes, indices.astype(np.int64)


def named_labels(labels: Any) -> Any:
    """Return labels by the names of their classes, where they number these; others as they are.

    They do in a column, ``dataset["label"]``, of kind ``ClassLabel`` in a data set of Hugging Face.
    A label that is missing becomes None.
    """
    names = getattr(getattr(labels, "features", None), "names", None)
    return labels if names is None else number_names(labels[:], names)


def number_names(numbers: Iterable[Any], names: Sequence[Any]) -> list[Any]:
    """Return the name of each number, and None for those that stand for no label: -1 and None."""
    return [None if number is None or number < 0 else names[number] for number in numbers]


def check_labels(labels: Any, name: str) -> np.ndarray:
    """Return labels as :func:`check_column` does, if they are of a type that can be kept."""
    column = check_column(labels, name)
    kind, size = column.dtype.kind, column.dtype.itemsize
    is_text = kind == "U" or (kind == "O" and all(isinstance(label, str) for label in column))
    if not is_text and (kind not in "biuf" or size > 8):
        first = column[0]
        line = "label.decode()" if isinstance(first, bytes) else "str(label)"
        raise ValueError(
            f"Labels must be strings, booleans or numbers up to 64 bits; got {first!r} of type "
            f"{type(first).__name__} in {name}. Make strings of them: [{line} for label in {name}]."
        )
    return column


def check_column(labels: Any, name: str) -> np.ndarray:
    """Return labels of one kind as an array (n,), or raise a ValueError that names them."""
    labels = named_labels(labels)
    if hasattr(labels, "to_pylist"):  # since to_numpy of pyarrow refuses strings
        labels = labels.to_pylist()
    elif hasattr(labels, "to_numpy"):  # since column_or_1d makes floats of pandas' own integers
        labels = labels.to_numpy()
    if np.ma.is_masked(labels):
        labels = labels.tolist()  # with None for what is masked
    kind = getattr(getattr(labels, "dtype", None), "kind", "")
    is_list = isinstance(labels, Sequence) and not isinstance(labels, str | bytes)
    if is_list or (kind in ("O", "T") and labels.ndim == 1):
        labels = _of_one_kind(labels, name, keep_objects=kind == "O")
    shape = np.asarray(labels).shape
    if len(shape) != 1 and shape[1:] != (1,):
        got = f"an array of shape {shape}" if shape else repr(labels)[:50]
        advice = (
            'For pairs, pass strings: [f"{a}, {b}" for a, b in groups].'
            if name == "groups"
            else f"Of one-hot labels pass {name}.argmax(axis=1)."
        )
        raise ValueError(
            f"{name} should be a 1d array, with one label for each image or row; got {got}. "
            f"{advice}"
        )
    column = column_or_1d(labels, warn=True, input_name=name)
    if column.dtype.kind == "f":
        _refuse_missing(np.isnan(column), name)
    assert_all_finite(column, input_name=name)
    return column


def _of_one_kind(labels: Iterable[Any], name: str, *, keep_objects: bool) -> np.ndarray:
    """Return plain values as an array that holds them as they are."""
    values = [plain_label(label) for label in labels]
    _refuse_missing([_is_missing(value) for value in values], name)
    if len({(isinstance(value, str), isinstance(value, bool | np.bool_)) for value in values}) > 1:
        raise ValueError(
            f"{name} mixes strings, booleans and other labels, or two of these. Make all of them "
            f"strings: [str(label) for label in {name}]."
        )
    if keep_objects and values and not isinstance(values[0], Number | np.bool_):
        return np.fromiter(values, dtype=object)
    column = np.array(values)
    if column.ndim == 1 and column.dtype.kind in "fU":
        for value, kept in zip(values, column.tolist(), strict=True):
            if value != kept:
                raise ValueError(
                    f"{name} holds {value!r}, which would become {kept!r} in an array. Give the "
                    f"class another name."
                )
    return column


def plain_label(label: Any) -> Any:
    """Return the value of a label: of enums and other kinds of strings numpy cuts the text."""
    value = label.value if isinstance(label, Enum) else label
    return str.__str__(value) if isinstance(value, str) else value


def _is_missing(label: Any) -> bool:
    return (
        label is None
        or type(label).__name__ in ("NAType", "NaTType")  # of pandas
        or (isinstance(label, Real) and label != label)
    )


def _refuse_missing(is_missing: Any, name: str) -> None:
    missing = np.flatnonzero(is_missing)
    if len(missing):
        columns = ", ".join(["X", *["y"] * (name == "groups"), name])
        raise ValueError(
            f"{len(missing)} of {len(is_missing)} labels in {name} are missing (None, NaN or NaT), "
            f"the first at position {missing[0]}, counted from 0. Drop these rows: "
            f"keep = pandas.notna(list({name})); "
            f"{columns} = (np.asarray(part)[keep] for part in ({columns}))."
        )


def check_known(found: Any, known: Any, what: str, where: str) -> None:
    """Raise ValueError if labels are found that are not known."""
    # Not numpy's set functions, for which 1 and "1" are the same.
    unknown = set(np.ravel(found).tolist()) - set(np.ravel(known).tolist())
    if unknown:
        some = sorted(unknown, key=str)
        advice = "Add what is missing there, leave these out, or make the labels of one type."
        raise ValueError(
            f"The {what} include {some[:5]}, which {where} does not have. "
            f"{_find_twins(some, np.ravel(known).tolist()) or advice}"
        )


def check_spelling(labels: Any, known: Any, where: str = "y") -> None:
    """Raise ValueError if a label differs from a known one in its Unicode form alone."""
    if twins := _find_twins(np.unique(labels).tolist(), np.ravel(known).tolist()):
        raise ValueError(f"A class is spelled in two ways in {where}. {twins}")


def _find_twins(labels: list[Any], known: list[Any]) -> str:
    """Return a sentence on a label that looks the same as a known one, or nothing."""
    composed = {normalize("NFC", label): label for label in known if isinstance(label, str)}
    for label in labels:
        other = composed.get(normalize("NFC", label), label) if isinstance(label, str) else label
        if label != other:
            return (
                f"{label!a} and {other!a} look the same: they differ in Unicode form alone. Make "
                f'them one by unicodedata.normalize("NFC", label), applied to all labels.'
            )
    return ""


def worst_pair_accuracy(right: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Return the lowest share of what is right over the pairs of class and group that occur."""
    numbers = [np.unique(labels, return_inverse=True)[1] for labels in (y, groups)]
    _, pairs = np.unique(numbers, axis=1, return_inverse=True)
    return float((np.bincount(pairs, right) / np.bincount(pairs)).min())


def check_same_classes(first: Any, second: Any, what: str, where: str) -> None:
    """Raise ValueError unless two kinds of things, whose names are given, have the same labels."""
    check_known(first, second, f"classes of {what}", where)
    check_known(second, first, f"classes of {where}", what)
