"""Selections side by side: probes trained on each, scored on the same test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.utils._param_validation import validate_parameter_constraints

from sklgm.backbones import Backbone
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_probe, distiller_parameters, net_parameters
from sklgm.estimators.selectors import ClassCentroids, NearestImages, RandomImages
from sklgm.evaluation._checks import PROTOCOL_CONSTRAINTS, Split, check_names, check_selections
from sklgm.evaluation._result import Result
from sklgm.evaluation._runs import Bench, Row, run_rows
from sklgm.plotting import SelectionComparisonDisplay


@dataclass(frozen=True, eq=False, repr=False)
class SelectionComparison(Result):
    """What :func:`compare_selections` returns: a row for each selection.

    Parameters
    ----------
    records : tuple of dict
        One for each probe: ``selection``, its name; ``seed``, of the probe;
        ``selection_seed``, the ``random_state`` that the selection was fitted with, None where it
        kept its own or nothing was fitted; ``n_images``, trained on; ``accuracy``,
        ``top_5_accuracy`` (with more than 5 classes), ``balanced_accuracy`` and
        ``worst_group_accuracy`` (with groups, of the worst pair of class and group), in [0, 1];
        ``select_seconds`` (None for all images) and ``train_seconds``.
    """

    _display = SelectionComparisonDisplay


def default_selections(
    backbone: str | Backbone | None, *, probe: FrozenBackboneProbe | None = None
) -> dict[str, Any]:
    """Return what is compared by default, to be changed and added to.

    Parameters
    ----------
    backbone : str, Backbone or None
        Frozen net.
    probe : FrozenBackboneProbe or None, default=None
        Its image size, augmentation and other settings about the net are those of the selections,
        but for the augmentation "standard": the distiller keeps its default, "blurred".

    Returns
    -------
    dict
        Unfitted estimators by name: random images, class centroids, the images nearest to
        distilled prototypes, these themselves, and None, all images. "nearest" holds the distiller
        of "distilled", so that ``set_params`` of that one changes both rows. Put another into both.

    Examples
    --------
    >>> from sklgm import LGMDistiller
    >>> from sklgm.evaluation import default_selections
    >>> selections = default_selections("efficientnet_lite0")
    >>> selections["distilled, row by row"] = LGMDistiller(
    ...     "efficientnet_lite0", matching="row", random_state=0
    ... )
    >>> list(selections)
    ['random', 'centroid', 'nearest', 'distilled', 'all', 'distilled, row by row']
    """
    probe = check_probe(probe, backbone)
    net = net_parameters(probe)
    distiller = LGMDistiller(**distiller_parameters(probe), random_state=0)
    return {
        "random": RandomImages(**net),
        "centroid": ClassCentroids(**net),
        "nearest": NearestImages(distiller),
        "distilled": distiller,
        "all": None,
    }


def compare_selections(
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    backbone: str | Backbone | None,
    selections: Mapping[str, Any] | None = None,
    probe: FrozenBackboneProbe | None = None,
    n_probe_seeds: int = 5,
    n_selection_seeds: int | None = None,
    soft_labels: bool = False,
    groups: Any = None,
    verbose: int = 0,
) -> SelectionComparison:
    """Compare what a linear probe learns from different selections of the training images.

    Each selection is fitted on the training images. Probes trained on what it chose or made, and
    on nothing else, are scored on the test images; every row has the same seeds of the probe.
    Test images pass the backbone once.

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
    selections : dict of str to estimator, PrototypeSet or None, default=None
        Rows of the table: unfitted estimators with ``prototypes_`` and ``prototype_labels_``, as
        distillers and selectors are; None for all training images. The default is
        :func:`default_selections`, with one prototype of each class. One that is fitted already
        goes in as ``FrozenEstimator(distiller)``, prototypes alone as a `PrototypeSet`.
        `NearestImages` takes the prototypes of its distiller's own row, if there is one.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probes; None takes the defaults of `FrozenBackboneProbe`. ``backbone`` and
        the seeds take the place of its own.
    n_probe_seeds : int, default=5
        Probes of each row, with ``random_state`` 0, 1, ...
    n_selection_seeds : int or None, default=None
        Fits of each selection whose result depends on its ``random_state``, with 0, 1, ... Probes
        take them in turn, so that no more than ``n_probe_seeds`` are made. None fits each once, as
        it is, with 0 in place of a ``random_state`` of None: the deviation of a distilled row is
        then that of the probe alone. `RandomImages` whose ``random_state`` is None are drawn anew
        for each probe in either case.
    soft_labels : bool, default=False
        True fits every selection that has a parameter ``soft_labels`` with it, once for two rows:
        "NAME" trains probes on the classes of what was chosen or made, "NAME, soft labels" on its
        soft labels, so that prototypes and real images are compared with labels of either kind.
        So are prototypes given with probabilities. False leaves it to each selection, which is
        trained on its soft labels if it makes some.
    groups : array-like of shape (n_test,) or None, default=None
        Group of each test image, such as its background; adds the lowest accuracy over pairs of
        class and group, which the literature calls that of the worst group.
    verbose : int, default=0
        Above 0, print a line for each finished row and each probe that takes more than 20 s, and
        before probes on all images how long they may take, if that is more than 20 s.

    Returns
    -------
    SelectionComparison
        A record of each probe.

    Raises
    ------
    ValueError
        If something cannot be used; what can be told beforehand is, before any work.

    See Also
    --------
    cross_model_transfer : On other nets than prototypes were made for.
    prototype_curve : With several numbers of prototypes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from sklgm import FrozenBackboneProbe
    >>> from sklgm.evaluation import compare_selections
    >>> split = train_test_split(*load_iris(return_X_y=True), random_state=0)
    >>> X, X_test, y, y_test = split
    >>> probe = FrozenBackboneProbe(None, max_epochs=100)
    >>> result = compare_selections(X, y, X_test, y_test, backbone=None, probe=probe)
    >>> [row["selection"] for row in result.summary()]
    ['random', 'centroid', 'nearest', 'distilled', 'all']
    """
    validate_parameter_constraints(PROTOCOL_CONSTRAINTS, locals(), "compare_selections")
    probe = check_probe(probe, backbone)
    split = Split.check((X, y, X_test, y_test), groups, probe, "compare_selections")
    if selections is None:
        selections = default_selections(backbone, probe=probe)
    check_names(selections, probe, soft_labels)
    checked = check_selections(selections, split)
    bench = Bench(probe, split)
    rows = [Row({"selection": name}, selection, [bench]) for name, selection in checked.items()]
    n_seeds = n_probe_seeds, n_selection_seeds
    return SelectionComparison(tuple(run_rows(rows, *n_seeds, verbose, soft_labels=soft_labels)))
