"""How well prototypes made for some nets serve others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils._param_validation import validate_parameter_constraints

from sklgm.backbones import Backbone
from sklgm.backbones._several import name_backbones
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_probe, distiller_parameters, net_parameters
from sklgm.estimators.selectors import ClassCentroids, RandomImages
from sklgm.estimators.selectors.base import BackboneSelector
from sklgm.evaluation._checks import (
    PROTOCOL_CONSTRAINTS,
    SOFT_LABELS,
    Split,
    check_names,
    check_selection,
)
from sklgm.evaluation._result import Result
from sklgm.evaluation._runs import Bench, Row, run_rows, set_parameter
from sklgm.plotting import TransferDisplay
from sklgm.utils.tables import markdown, spread


@dataclass(frozen=True, eq=False, repr=False)
class TransferMatrix(Result):
    """What :func:`cross_model_transfer` returns: rows distilled on, columns evaluated on.

    Parameters
    ----------
    records : tuple of dict
        As in `SelectionComparison`, where ``selection`` names the row: the backbones distilled on,
        a baseline, or "all". ``backbone`` is that of the probe; ``at_home`` tells whether the
        prototypes were made on it, None in rows of baselines and of "all".
        ``relative_accuracy`` is the accuracy divided by the mean accuracy of the probes on all
        images of that backbone.
    """

    _titles = {"selection": "distilled on", "backbone": "evaluated on", "at_home": "at home"}
    _error = "standard error of the mean"
    _note = ""

    def to_markdown(self, *, metric: str = "accuracy") -> str:
        """Return the matrix in Markdown.

        Parameters
        ----------
        metric : str, default="accuracy"
            What to show; "relative_accuracy" is divided by the full-data probe of the column.

        Returns
        -------
        str
            Mean ± standard error of the mean over the seeds (ddof=1).

        Raises
        ------
        ValueError
            If the result has no such metric.
        """
        self._check_metric(metric)
        return markdown(*self._table(metric))

    def plot(self, ax: Any = None, *, metric: str = "accuracy") -> Any:
        """Draw the matrix: means and standard errors, coloured by their share of the full data.

        Frames mark backbones that the prototypes were made for.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.
        metric : str, default="accuracy"
            What to write. Colour is the same divided by that of the probe on all images of the
            column.

        Returns
        -------
        TransferDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the result has no such metric.
        """
        return TransferDisplay.from_matrix(self, metric=metric, ax=ax)

    def _cells(self) -> tuple[list[str], list[str], dict[tuple[str, str], dict[str, Any]]]:
        """Return the names of rows and columns, and the means of each cell."""
        cells = {(row["selection"], row["backbone"]): row for row in self.summary()}
        rows, columns = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
        return rows, columns, cells

    def _table(self, metric: str = "accuracy") -> tuple[list[str], list[list[str]]]:
        rows, columns, cells = self._cells()
        lines = []
        for row in rows:
            found = [cells[row, column] for column in columns]
            lines.append([row, *(spread(cell[metric], cell[f"{metric}_sem"]) for cell in found)])
        return ["distilled on \\ evaluated on", *columns], lines


def cross_model_transfer(
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    backbones: Sequence[str | Backbone] | Mapping[str, str | Backbone],
    distillers: Any = None,
    distilled_on: Sequence[str | Sequence[str]] | None = None,
    baselines: Mapping[str, Any] | None = None,
    probe: FrozenBackboneProbe | None = None,
    n_seeds: int = 5,
    soft_labels: bool = False,
    groups: Any = None,
    verbose: int = 0,
) -> TransferMatrix:
    """Distil on each of several backbones, and probe the prototypes on all of them.

    A seed is one distillation and the probes on it, so that the standard error over the seeds is
    that of both. Test images pass each backbone once.

    Parameters
    ----------
    X : array-like of images
        Training images, as every estimator takes them.
    y : array-like of shape (n_samples,)
        Labels of the images.
    X_test : array-like of images
        Test images.
    y_test : array-like of shape (n_test,)
        Labels of the test images, all among those of ``y``.
    backbones : list of str or Backbone, or dict of str to str or Backbone
        Columns: the nets of the probes, perhaps under names of your own.
    distillers : estimator or dict of str to estimator, default=None
        Unfitted, with a parameter ``backbone``, which is set here, as are seeds. With several,
        each has rows of its own; a selector that takes one backbone has none for a tuple of them.
        None is `LGMDistiller` and, in rows "NET, centroid", `ClassCentroids`: the real images
        nearest to the class means on the net of the row. Both have the probe's settings about
        images, as in :func:`default_selections`.
    distilled_on : list of str or tuple of str, default=None
        Rows: names of ``backbones``; a tuple distils on several at once. None distils on each by
        itself.
    baselines : dict of str to estimator, default=None
        More rows: selections of real images, with ``backbone`` set to that of the column, so that
        each net chooses its own. None is random images, drawn anew for each seed, and the class
        centroids.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probes; None takes the defaults of `FrozenBackboneProbe`. Backbones and
        seeds take the place of its own.
    n_seeds : int, default=5
        Distillations of each row, with ``random_state`` 0, 1, ..., each with a probe of the same
        seed. Baselines whose choice is random are fitted as often; they and probes on all images
        have as many probes.
    soft_labels : bool, default=False
        True adds rows "NAME, soft labels", as in :func:`compare_selections`. Soft labels come from
        real data as seen by the nets that the row was distilled on, those of baselines by the net
        of the column.
    groups : array-like of shape (n_test,) or None, default=None
        Group of each test image; adds the accuracy of the worst pair of class and group.
    verbose : int, default=0
        Above 0, print a line for each finished row and each probe that takes more than 20 s, and
        before probes on all images how long they may take, if that is more than 20 s.

    Returns
    -------
    TransferMatrix
        A record of each probe. The last row, "all", are probes on all training images.

    Raises
    ------
    ValueError
        If something cannot be used; what can be told beforehand is, before any work.

    See Also
    --------
    compare_selections : On the net that prototypes were made for.

    Examples
    --------
    Prototypes of one small net, of another, and of both at once::

        matrix = cross_model_transfer(
            X, y, X_test, y_test,
            backbones={"lite0": "efficientnet_lite0", "lite2": "efficientnet_lite2"},
            distilled_on=["lite0", "lite2", ("lite0", "lite2")],
            probe=FrozenBackboneProbe(image_size=56),
        )
        print(matrix.to_markdown(metric="relative_accuracy"))
    """
    validate_parameter_constraints(PROTOCOL_CONSTRAINTS, locals(), "cross_model_transfer")
    nets = name_backbones(backbones)
    settings = check_probe(probe, next(iter(nets.values())))
    split = Split.check((X, y, X_test, y_test), groups, settings, "cross_model_transfer")
    shared = net_parameters(settings)
    if distillers is None:
        distiller = LGMDistiller(**distiller_parameters(settings))
        distillers = {"": distiller, "centroid": ClassCentroids(**shared)}
    if baselines is None:
        baselines = {"random": RandomImages(**shared), "centroid": ClassCentroids(**shared)}
    distilled = list(_distilled(distillers, distilled_on, nets))
    names = [*(name for name, _, _ in distilled), *baselines, "all"]
    check_names(names, settings, soft_labels)
    parts = [(name, distiller, list(nets)) for name, _, distiller in distilled]
    # Column by column, since which real images are chosen may depend on the net.
    parts += [
        (name, set_parameter(baseline, "backbone", net), [column])
        for name, baseline in baselines.items()
        for column, net in nets.items()
    ]
    for _, selection, _ in parts:
        check_selection(selection, split)
    parts += [("all", None, [column]) for column in nets]
    benches = {name: Bench(check_probe(probe, net), split, name) for name, net in nets.items()}
    rows = [
        Row({"selection": name}, selection, [benches[column] for column in columns])
        for name, selection, columns in parts
    ]
    records = run_rows(rows, n_seeds, n_seeds, verbose, soft_labels=soft_labels)
    endings = ("", SOFT_LABELS) if soft_labels else ("",)
    homes = {f"{name}{ending}": own for name, own, _ in distilled for ending in endings}
    order = list(dict.fromkeys(record["selection"] for record in records))
    records.sort(key=lambda record: order.index(record["selection"]))
    for record in records:
        own = homes.get(record["selection"])
        record["at_home"] = None if own is None else record["backbone"] in own
    return TransferMatrix(with_relative_accuracy(records))


def with_relative_accuracy(records: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Add to records the accuracy over the mean of the probes on all images, of each backbone."""
    rows = TransferMatrix(tuple(records))._by_row()
    means = {
        column: np.mean([run["accuracy"] for run in runs])
        for (row, column, _), runs in rows.items()
        if row == "all"
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(
            {**record, "relative_accuracy": float(record["accuracy"] / means[record["backbone"]])}
            for record in records
        )


def _distilled(
    distillers: Any, distilled_on: Sequence[Any] | None, nets: Mapping[str, Any]
) -> Iterator[tuple[str, list[str], Any]]:
    """Yield the name of each row, the backbones distilled on, and the unfitted distiller."""
    named = distillers if isinstance(distillers, Mapping) else {"": distillers}
    for name, distiller in named.items():
        for on in nets if distilled_on is None else distilled_on:
            homes = [on] if isinstance(on, str) else list(on)
            unknown = [home for home in homes if home not in list(nets)]
            if unknown or not homes:
                raise ValueError(
                    f"distilled_on holds {on!r}, but may hold names of backbones only, and tuples "
                    f"of them: {', '.join(nets)}."
                )
            if len(homes) > 1 and len(named) > 1 and isinstance(distiller, BackboneSelector):
                continue
            own = [nets[home] for home in homes]
            backbone = own[0] if len(own) == 1 else own
            row = " + ".join(homes) + (f", {name}" if name else "")
            yield row, homes, set_parameter(distiller, "backbone", backbone)
