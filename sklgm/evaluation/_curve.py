"""Accuracy over the number of prototypes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.utils._param_validation import validate_parameter_constraints

from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_probe
from sklgm.estimators.selectors import NearestImages
from sklgm.evaluation._checks import PROTOCOL_CONSTRAINTS, Split, check_names, check_selections
from sklgm.evaluation._comparison import default_selections
from sklgm.evaluation._result import Result
from sklgm.evaluation._runs import Bench, Row, run_rows, set_parameter
from sklgm.plotting import PrototypeCurveDisplay


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeCurve(Result):
    """What :func:`prototype_curve` returns: a row for each selection and number of prototypes.

    Parameters
    ----------
    records : tuple of dict
        As in `SelectionComparison`, and ``prototypes_per_class``, None for all images.
    """

    _titles = {"selection": "trained on", "prototypes_per_class": "per class"}
    _display = PrototypeCurveDisplay


def prototype_curve(
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    backbone: str | Backbone | None,
    selections: Mapping[str, Any] | None = None,
    prototypes_per_class: Sequence[int] = (1, 2, 5),
    probe: FrozenBackboneProbe | None = None,
    n_probe_seeds: int = 5,
    n_selection_seeds: int | None = None,
    soft_labels: bool = False,
    groups: Any = None,
    verbose: int = 0,
) -> PrototypeCurve:
    """Compare selections with several numbers of prototypes of each class.

    Everything else is as in :func:`compare_selections`.

    Parameters
    ----------
    X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
        Training images, as every estimator takes them.
    y : array-like of shape (n_samples,)
        Labels of the images.
    X_test : array-like of images, or of shape (n_test, n_features) with ``backbone=None``
        Test images.
    y_test : array-like of shape (n_test,)
        Labels of the test images, all among those of ``y``.
    backbone : str, Backbone or None
        Frozen net of the probes; None when rows of X are features already.
    selections : dict of str to estimator or None, default=None
        As in :func:`compare_selections`, but no `PrototypeSet`. Each needs a parameter
        ``prototypes_per_class``, its own or that of an estimator inside; None, all training
        images, is run once.
    prototypes_per_class : sequence of int, default=(1, 2, 5)
        Numbers to compare; their order does not matter.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probes; None takes the defaults of `FrozenBackboneProbe`. ``backbone`` and
        the seeds take the place of its own.
    n_probe_seeds : int, default=5
        Probes of each row, with ``random_state`` 0, 1, ...
    n_selection_seeds : int or None, default=None
        See :func:`compare_selections`.
    soft_labels : bool, default=False
        True adds rows of probes on soft labels; see :func:`compare_selections`.
    groups : array-like of shape (n_test,) or None, default=None
        Group of each test image; adds the accuracy of the worst pair of class and group.
    verbose : int, default=0
        Above 0, print a line for each finished row and each probe that takes more than 20 s, and
        before probes on all images how long they may take, if that is more than 20 s.

    Returns
    -------
    PrototypeCurve
        A record of each probe.

    Raises
    ------
    ValueError
        If something cannot be used; what can be told beforehand is, before any work.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from sklgm import FrozenBackboneProbe, RandomImages
    >>> from sklgm.evaluation import prototype_curve
    >>> split = train_test_split(*load_iris(return_X_y=True), random_state=0)
    >>> X, X_test, y, y_test = split
    >>> selections = {"random": RandomImages(None), "all": None}
    >>> probe = FrozenBackboneProbe(None, max_epochs=100)
    >>> curve = prototype_curve(
    ...     X, y, X_test, y_test, backbone=None, selections=selections, probe=probe
    ... )
    >>> [row["n_images"] for row in curve.summary()]
    [3, 6, 15, 112]
    """
    validate_parameter_constraints(PROTOCOL_CONSTRAINTS, locals(), "prototype_curve")
    probe = check_probe(probe, backbone)
    split = Split.check((X, y, X_test, y_test), groups, probe, "prototype_curve")
    if selections is None:
        selections = default_selections(backbone, probe=probe)
    check_names(selections, probe, soft_labels)
    by_count = _by_count(selections, sorted(set(prototypes_per_class)))
    checked = check_selections(by_count, split)
    bench = Bench(probe, split)
    rows = [
        Row({"selection": name, "prototypes_per_class": count}, selection, [bench])
        for (name, count), selection in checked.items()
    ]
    n_seeds = n_probe_seeds, n_selection_seeds
    return PrototypeCurve(tuple(run_rows(rows, *n_seeds, verbose, soft_labels=soft_labels)))


def _by_count(selections: Mapping[str, Any], counts: list[int]) -> dict[Any, Any]:
    """Return selections by their name and number of prototypes."""
    rows: dict[Any, Any] = {}
    for name, selection in selections.items():
        if selection is None:
            rows[name, None] = None
        else:
            for count in counts:
                rows[name, count] = set_parameter(selection, "prototypes_per_class", count)
    for name, selection in selections.items():
        for other, distiller in selections.items():
            if isinstance(selection, NearestImages) and selection.distiller is distiller:
                # What is nearest to the prototypes of another row stays so.
                for count in counts:
                    rows[name, count].set_params(distiller=rows[other, count])
    return rows
