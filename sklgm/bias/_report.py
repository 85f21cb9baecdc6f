"""Which group and which class prototypes show, where the two go together in training."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_consistent_length, compute_sample_weight

from sklgm.backbones import Backbone
from sklgm.bias._readers import excess, fit_reader, warn_of_noise
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import embed_all, probe_of
from sklgm.images import ImageSource
from sklgm.plotting import BiasDisplay
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.tables import Table
from sklgm.utils.targets import (
    check_column,
    check_known,
    check_same_classes,
    worst_pair_accuracy,
)

# A group is typical of a class whose share of it is more than this multiple of the mean of classes.
_TYPICAL = 1.1


@dataclass(frozen=True, eq=False, repr=False)
class BiasReport(Table):
    """What :func:`diagnose_bias` returns.

    Parameters
    ----------
    records : tuple of dict
        One for each prototype, with the keys ``prototype`` (its position), ``class``,
        ``read_class``, ``class_probability`` (of its own class), ``group`` (the one that is
        typical of its class: in training, its share there is above the mean of all classes by
        most, and by more than a tenth), ``read_group`` and ``group_probability`` (of ``group``).
        ``group`` and its probability are None where no group is typical.
    prototypes : PrototypeSet
        The prototypes.
    classes : ndarray of shape (n_classes,)
        Class labels, sorted.
    groups : ndarray of shape (n_groups,)
        Group labels, sorted.
    class_probabilities : ndarray of shape (n_prototypes, n_classes)
        The probabilities that the class reader gives each prototype.
    group_probabilities : ndarray of shape (n_prototypes, n_groups)
        The probabilities that the group reader gives each prototype.
    group_shares : ndarray of shape (n_classes, n_groups)
        Shares of the groups in each class of the training data.
    reader_accuracy : dict of str to float
        Of "class" and "group": cross-validated on the reference, every pair of class and group
        counting alike; optimistic where the same object is in several images of it. What a reader
        cannot tell in real images, it cannot tell in prototypes.
    accuracy : dict of str to dict
        "correlated" and "shifted", where such test images were given, each with ``accuracy`` and
        ``worst_pair_accuracy`` of a probe trained on the prototypes and their classes alone, not
        on soft labels; the latter is the lowest over pairs of class and group.
    """

    prototypes: PrototypeSet
    classes: np.ndarray
    groups: np.ndarray
    class_probabilities: np.ndarray
    group_probabilities: np.ndarray
    group_shares: np.ndarray
    reader_accuracy: Mapping[str, float]
    accuracy: Mapping[str, Mapping[str, float]]

    @property
    def association(self) -> float:
        """Goodman and Kruskal's tau of group given class in training, classes counting alike."""
        return excess(self.group_shares, self.group_shares)

    @property
    def group_shown(self) -> float:
        """How far prototypes show the groups that go with their classes: A; see `diagnose_bias`."""
        return excess(self.group_shares, self._by_class(self.group_probabilities))

    @property
    def highest_group_shown(self) -> float:
        """The highest A with these training images: each class read as its typical group."""
        most = (self.group_shares - self.group_shares.mean(axis=0)).argmax(axis=1)
        return excess(self.group_shares, np.eye(len(self.groups))[most])

    @property
    def class_shown(self) -> float:
        """How far prototypes show their classes themselves: K; see `diagnose_bias`."""
        return excess(np.eye(len(self.classes)), self._by_class(self.class_probabilities))

    @property
    def group_reliance(self) -> float:
        """Group reliance, in [0, 1]; see `diagnose_bias`."""
        group, own = max(0.0, self.group_shown), max(0.0, self.class_shown)
        return group / max(1.0, group + own)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole set.

        Returns
        -------
        dict
            ``group_reliance``, ``group_shown``, ``class_shown``, ``association``, the readers'
            accuracies, and those of the probe where there are test images.
        """
        names = ("group_reliance", "group_shown", "class_shown", "association")
        found = {name: getattr(self, name) for name in names}
        found |= {f"{name}_reader_accuracy": v for name, v in self.reader_accuracy.items()}
        for where, scores in self.accuracy.items():
            found |= {f"{where}_{name}": value for name, value in scores.items()}
        return found

    def to_markdown(self) -> str:
        """Return the prototypes as a table in Markdown, and the figures of the whole set.

        Returns
        -------
        str
            A line for each prototype, a list, and what it cannot tell.
        """
        lines = [f"- {name.replace('_', ' ')}: {v:.3f}" for name, v in self.summary().items()]
        parts = [super().to_markdown(), "\n".join(lines), self._without_association()]
        return "\n\n".join(filter(None, parts))

    def plot(self, ax: Any = None) -> Any:
        """Draw which group each prototype is read as.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        BiasDisplay
            The display, drawn.

        See Also
        --------
        sklgm.plotting.BiasDisplay.from_report : The same, with names to show.
        """
        return BiasDisplay.from_report(self, ax=ax)

    def _by_class(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the mean of the prototypes of each class."""
        labels = self.prototypes.labels
        return np.stack([probabilities[labels == label].mean(axis=0) for label in self.classes])

    def _table(self) -> tuple[list[str], list[list[str]]]:
        def as_text(value: Any) -> str:
            if value is None:
                return ""
            return f"{value:.2f}" if isinstance(value, float) else str(value)

        cells = [[as_text(value) for value in record.values()] for record in self.records]
        return [name.replace("_", " ") for name in self.records[0]], cells

    def _caption(self) -> str:
        tests = [
            f"Accuracy on the {name} test {found['accuracy']:.2f}, on the worst pair of class and "
            f"group {found['worst_pair_accuracy']:.2f}."
            for name, found in self.accuracy.items()
        ]
        reliance = self._without_association() or (
            f"Group reliance {self.group_reliance:.2f}, of 0 (classes alone) to 1 (groups alone): "
            f"groups shown {self.group_shown:z.2f}, at most {self.highest_group_shown:.2f} with "
            f"these training images; classes shown {self.class_shown:z.2f}."
        )
        readers = (
            f"On the reference, the reader of groups has an accuracy of "
            f"{self.reader_accuracy['group']:.2f}, that of classes of "
            f"{self.reader_accuracy['class']:.2f}."
        )
        return " ".join([*tests, reliance, readers])

    def _without_association(self) -> str:
        """Say what group reliance cannot tell where no group is typical of a class, or nothing."""
        if any(record["group"] is not None for record in self.records):
            return ""
        read = self._by_class(self.group_probabilities).mean(axis=0)
        shares = self.group_shares.mean(axis=0)
        found = [
            f"{self.groups[i]}, {read[i]:.2f} (in training {shares[i]:.2f})"
            for i in np.argsort(-read, kind="stable")[:3]
        ]
        return (
            f"Class and group are independent in the training images, so that group reliance, "
            f"{self.group_reliance:.2f}, is 0 by definition or nearly so, whatever the prototypes "
            f"show. On average they are read as {'; '.join(found)}. Classes shown "
            f"{self.class_shown:z.2f}."
        )


def diagnose_bias(
    prototypes: Any,
    X: Any,
    y: Any,
    groups: Any,
    *,
    reference: tuple[Any, Any, Any],
    correlated_test: tuple[Any, Any, Any] | None = None,
    shifted_test: tuple[Any, Any, Any] | None = None,
    backbone: str | Backbone | None = None,
    probe: FrozenBackboneProbe | None = None,
    verbose: int = 0,
) -> BiasReport:
    r"""Measure which group prototypes show beside their class, and how far it replaces the class.

    Two linear probes, called readers here, one of classes and one of groups, are trained on the
    frozen features of real reference images, weighted so that every pair of class and group counts
    alike. So neither can use the group in place of the class, or the class in place of the group.
    They are logistic regressions on standardised features, with ``C`` chosen by cross-validation.
    Then they read the prototypes.

    *Group reliance* compares what they read, averaged over the prototypes of each class
    :math:`c`. With the share :math:`t_c(g)` of group :math:`g` among the training images of the
    class, the probability :math:`r_c(g)` that its prototypes are read as :math:`g`, and
    :math:`t(g)` and :math:`r(g)`, their means over the :math:`C` classes,

    .. math::

       A = \frac{\frac{1}{C} \sum_c \sum_g (t_c(g) - t(g)) (r_c(g) - r(g))}{1 - \sum_g t(g)^2}

    is 1 where each class has a group of its own and its prototypes are read as that group, and 0
    where training data has no such association or prototypes do not show it. :math:`K` is the same
    for classes: :math:`(\frac{1}{C} \sum_c k_c(c) - \frac{1}{C}) / (1 - \frac{1}{C})`, with the
    probability :math:`k_c(c)` that prototypes are read as their own class. Negative values count
    as 0. Then

    .. math:: R = \frac{A}{\max(1,\, A + K)}

    is in [0, 1]: see :doc:`/bias` for what its values mean.

    Parameters
    ----------
    prototypes : estimator or PrototypeSet
        A distiller or selector, or a set of prototypes. An unfitted estimator is fitted, as a
        clone, on ``X`` and ``y``; a fitted one or a set is taken as it is.
    X : array-like of images, or of shape (n_samples, n_features) if prototypes are rows
        Training images, where class and group go together.
    y : array-like of shape (n_samples,)
        Classes of the training images. Each has a prototype.
    groups : array-like of shape (n_samples,)
        Groups of the training images.
    reference : tuple of (X, y, groups)
        Real images with every class in every group.
    correlated_test, shifted_test : tuple of (X, y, groups), default=None
        Test images where class and group go together as in training, and where they do not.
    backbone : str, Backbone or None, default=None
        Net to look with. None is the one that the prototypes were made on, at their image size; a
        net of your own has to be named for a set, and rows need none.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probe on prototypes, which is trained if there are test images; None takes
        the defaults, with ``random_state=0``, which embed up to 100 views of each prototype. With
        ``backbone`` its image size and other settings of the net hold for all images; without, the
        estimator's do.
    verbose : int, default=0
        Above 0, print a line for each finished part: the features of the reference, each reader,
        and the probe on each test set.

    Returns
    -------
    BiasReport
        Readings, group reliance and accuracies.

    Raises
    ------
    ValueError
        If something cannot be used; what can be told beforehand is, before any work.

    Warns
    -----
    UserWarning
        If readings may be noise: a reader is better than chance by less than a quarter of what is
        possible, or the reference has fewer than 5 images of a pair of class and group.

    See Also
    --------
    sklgm.plotting.BiasDisplay : The same as a picture.
    suspect_classes : Without groups.

    Notes
    -----
    A high :math:`A` is a fact about this backbone and these data. Whether it costs accuracy where
    groups are others, the shifted test images tell.

    Examples
    --------
    Two classes of rows; the second column is a group that goes with the class in training:

    >>> import numpy as np
    >>> from sklgm import ClassCentroids
    >>> from sklgm.bias import diagnose_bias
    >>> rng = np.random.default_rng(0)
    >>> def rows(y, g):
    ...     return np.stack([3 * y, 3 * g], axis=1) + rng.normal(size=(len(y), 2)), y, g
    >>> y, g = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    >>> report = diagnose_bias(ClassCentroids(backbone=None), *rows(y, y), reference=rows(y, g))
    >>> bool(0.4 < report.group_reliance < 0.6)
    True
    """
    probe = probe_of(prototypes, backbone, probe or FrozenBackboneProbe(random_state=0))
    checking = clone(probe)
    train = _check_labelled((X, y, groups), checking, "the training images", reset=True)
    real = _check_labelled(reference, checking, "reference")
    classes, group_names = np.unique(train.y), np.unique(real.groups)
    check_known(train.groups, group_names, "groups of the training images", "reference")
    check_known(real.y, classes, "classes of reference", "y")
    _check_pairs(real, classes, group_names)
    tests: dict[str, _Labelled] = {}
    for name, given in (("correlated", correlated_test), ("shifted", shifted_test)):
        if given is not None:
            tests[name] = _check_labelled(given, checking, f"{name}_test")
            check_known(tests[name].y, classes, f"classes of {name}_test", "y")
    if not isinstance(prototypes, PrototypeSet):
        if not hasattr(prototypes, "prototypes_"):
            prototypes = clone(prototypes).fit(train.X, train.y)
        prototypes = PrototypeSet.from_estimator(prototypes)
    images, labels = prototypes.images, prototypes.labels
    check_same_classes(labels, classes, "prototypes", "y")

    numbers, n_parts = itertools.count(1), 3 + len(tests)

    def tell(part: str) -> None:
        if verbose:
            print(f"{next(numbers)} of {n_parts}: {part}")  # noqa: T201

    points, features = embed_all(probe, images, real.X)
    tell(f"features of {len(features)} reference images")
    of_image = {
        "class": np.searchsorted(classes, real.y),
        "group": np.searchsorted(group_names, real.groups),
    }
    pairs = of_image["class"] * len(group_names) + of_image["group"]
    weights = compute_sample_weight("balanced", pairs)
    read: dict[str, np.ndarray] = {}
    reader_accuracy: dict[str, float] = {}
    for kind, found in of_image.items():
        reader, reader_accuracy[kind] = fit_reader(features, found, weights)
        read[kind] = reader.predict_proba(points)
        tell(f"reader of the {kind}: accuracy {reader_accuracy[kind]:.3f}")
    warn_of_noise(reader_accuracy, of_image, np.unique(pairs, return_counts=True)[1].min())
    accuracy: dict[str, dict[str, float]] = {}
    if tests:
        probe = clone(probe).fit(images, labels)
        for name, test in tests.items():
            accuracy[name] = _accuracies(probe, test)
            tell(f"probe on the {name} test: accuracy {accuracy[name]['accuracy']:.3f}")
    of_class = [train.groups[train.y == label] for label in classes]
    shares = np.stack([(found[:, None] == group_names).mean(axis=0) for found in of_class])
    return BiasReport(
        _records(labels, classes, group_names, shares, read),
        prototypes=prototypes,
        classes=classes,
        groups=group_names,
        class_probabilities=read["class"],
        group_probabilities=read["group"],
        group_shares=shares,
        reader_accuracy=reader_accuracy,
        accuracy=accuracy,
    )


class _Labelled(NamedTuple):
    """Checked images or rows with classes and groups."""

    X: ImageSource | np.ndarray
    y: np.ndarray
    groups: np.ndarray


def _check_labelled(
    data: Any, probe: FrozenBackboneProbe, what: str, *, reset: bool = False
) -> _Labelled:
    """Check images or rows, their classes and groups; ``reset`` sets the number of columns."""
    if not isinstance(data, tuple | list) or len(data) != 3:
        got = f"{len(data)} parts" if isinstance(data, tuple | list) else type(data).__name__
        raise ValueError(f"{what} must be a tuple of three, (X, y, groups); got {got}.")
    X, y, groups = data
    try:
        source = probe._check_X(X, reset=reset)
        y, groups = check_column(y, "y"), check_column(groups, "groups")
        check_consistent_length(source, y, groups)
    except ValueError as error:
        error.add_note(f"This is about X, y or groups of {what}.")
        raise
    return _Labelled(source, y, groups)


def _check_pairs(real: _Labelled, classes: np.ndarray, groups: np.ndarray) -> None:
    """Raise unless there are two classes and two groups, and every class is in every group."""
    wanted = itertools.product(classes.tolist(), groups.tolist())
    missing = set(wanted) - set(zip(real.y.tolist(), real.groups.tolist(), strict=True))
    if missing or min(len(classes), len(groups)) < 2:
        lacking = f", and no image of {sorted(missing, key=str)[:5]}" if missing else ""
        raise ValueError(
            f"The reference, in the command the images of --test, must have every class in every "
            f"group, and two or more of both, to tell class from group; got {len(classes)} "
            f"classes, {len(groups)} groups{lacking}."
        )


def _records(
    labels: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    shares: np.ndarray,
    read: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], ...]:
    own_class = np.searchsorted(classes, labels)
    own_group = (shares - shares.mean(axis=0)).argmax(axis=1)[own_class]
    records: list[dict[str, Any]] = [{"prototype": i} for i in range(len(labels))]
    kinds = {"class": (classes.tolist(), own_class), "group": (groups.tolist(), own_group)}
    for kind, (names, own) in kinds.items():
        for record, place, probabilities in zip(records, own, read[kind], strict=True):
            record[kind] = names[place]
            record[f"read_{kind}"] = names[probabilities.argmax()]
            record[f"{kind}_probability"] = float(probabilities[place])
    is_typical = shares[own_class, own_group] > _TYPICAL * shares.mean(axis=0)[own_group]
    for record, typical in zip(records, is_typical, strict=True):
        if not typical:
            record |= {"group": None, "group_probability": None}
    return tuple(records)


def _accuracies(probe: FrozenBackboneProbe, test: _Labelled) -> dict[str, float]:
    """Return the accuracy of a probe, and that on the pair of class and group it knows worst."""
    right = probe.predict(test.X) == test.y
    worst = worst_pair_accuracy(right, test.y, test.groups)
    return {"accuracy": float(right.mean()), "worst_pair_accuracy": worst}
