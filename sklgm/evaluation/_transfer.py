"""How well prototypes made for some nets serve others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklgm.backbones import Backbone
from sklgm.backbones._several import name_backbones
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_probe, distiller_parameters, net_parameters
from sklgm.estimators.selectors import ClassCentroids, RandomImages
from sklgm.evaluation._checks import (
    Split,
    check_count,
    check_is_selection,
    check_names,
    check_selection,
)
from sklgm.evaluation._result import Result
from sklgm.evaluation._runs import Bench, fits, has_parameter, report, set_parameter
from sklgm.utils.tables import markdown, spread

_ALL = "all"


@dataclass(frozen=True, eq=False, repr=False)
class TransferMatrix(Result):
    """What :func:`cross_model_transfer` returns: rows distilled on, columns evaluated on.

    Parameters
    ----------
    records : tuple of dict
        As in `SelectionComparison`, where ``selection`` names the row: the backbones distilled on,
        a baseline, or "all". ``backbone`` is that of the probe; ``at_home`` tells whether the
        prototypes were made for it, None in other rows than distilled ones.
        ``relative_accuracy`` is the accuracy divided by the mean accuracy of the probes on all
        images of that backbone.
    """

    _titles = {"selection": "distilled on", "backbone": "evaluated on"}

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
        from sklgm.plotting import TransferDisplay

        return TransferDisplay.from_matrix(self, metric=metric, ax=ax)

    def _cells(self) -> tuple[list[str], list[str], dict[tuple[str, str], dict[str, Any]]]:
        """Return the names of rows and columns, and the means of each cell."""
        at_home = {(run["selection"], run["backbone"]): run["at_home"] for run in self.records}
        cells = {
            (row["selection"], row["backbone"]): row
            | {"at_home": at_home[row["selection"], row["backbone"]]}
            for row in self.summary()
        }
        rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in range(2))
        return rows, columns, cells

    def _table(self, metric: str = "accuracy") -> tuple[list[str], list[list[str]]]:
        rows, columns, cells = self._cells()
        lines = []
        for row in rows:
            found = [cells[row, column] for column in columns]
            lines.append([row, *(spread(cell[metric], cell[f"{metric}_sem"]) for cell in found)])
        return ["distilled on \\ evaluated on", *columns], lines

    def _caption(self) -> str:
        n_seeds = self.summary()[0]["n_seeds"]
        if n_seeds == 1:
            return "Accuracy on test images; one seed."
        return (
            f"Accuracy on test images: mean ± standard error of the mean (ddof=1) over {n_seeds} "
            f"seeds."
        )


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
        each has rows of its own. None is `LGMDistiller` with the probe's settings about images,
        as in :func:`default_selections`.
    distilled_on : list of str or tuple of str, default=None
        Rows: names of ``backbones``; a tuple distils on several at once. None distils on each by
        itself.
    baselines : dict of str to estimator, default=None
        More rows: selections of real images, with ``backbone`` set to that of the column. None
        is random images, drawn anew for each seed, and the class centroids.
    probe : FrozenBackboneProbe or None, default=None
        Settings of the probes, by default those of the paper. Backbones and seeds take the place
        of its own.
    n_seeds : int, default=5
        Distillations of each row, with ``random_state`` 0, 1, ..., each with a probe of the same
        seed. Baselines whose choice is random are fitted as often; they and probes on all images
        have as many probes.
    groups : array-like of shape (n_test,) or None, default=None
        Group of each test image; adds the accuracy of the worst group.
    verbose : int, default=0
        Above 0, print a line for each finished row.

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
    check_count(n_seeds, "n_seeds")
    nets = name_backbones(backbones)
    probes = {name: check_probe(probe, net) for name, net in nets.items()}
    settings = next(iter(probes.values()))
    split = Split.check(X, y, X_test, y_test, groups, settings, "cross_model_transfer")
    if distillers is None:
        distillers = LGMDistiller(**distiller_parameters(settings))
    if baselines is None:
        net = net_parameters(settings)
        baselines = {"random": RandomImages(**net), "centroid": ClassCentroids(**net)}
    rows = _distilled_rows(distillers, _check_distilled_on(distilled_on, nets), nets, split)
    # By column, since which real images are chosen may depend on its net.
    chosen = _baseline_rows(baselines, nets, split)
    taken = {row for row in (*chosen, _ALL) if row in rows} | ({_ALL} & chosen.keys())
    if taken:
        raise ValueError(
            f"Two rows would be called {sorted(taken)[0]!r}. Name the backbones or the baselines "
            f"otherwise."
        )
    benches = {name: Bench.make(one, split) for name, one in probes.items()}

    def run(row: str, at_home: Any, selection: Any, columns: Any, n_fits: int | None) -> list[Any]:
        """Return the records of a selection on some columns."""
        return [
            {"selection": row, "backbone": column, "at_home": at_home and column in at_home}
            | facts
            | benches[column].run(fitted, seed)
            for fitted, its_seeds, facts in fits(selection, split, n_seeds, n_fits, {})
            for column in columns
            for seed in its_seeds
        ]

    whole: list[Any] = []
    for column in nets:
        whole += run(_ALL, None, None, [column], None)
    report(_describe(_ALL, whole), verbose)
    parts: list[list[Any]] = []
    for row, (on, distiller) in rows.items():
        parts.append(run(row, on, distiller, nets, n_seeds))
        report(_describe(row, parts[-1]), verbose)
    for row, by_column in chosen.items():
        parts.append([])
        for column, selection in by_column.items():
            parts[-1] += run(row, None, selection, [column], n_seeds)
        report(_describe(row, parts[-1]), verbose)

    ordered = [
        record
        for part in (*parts, whole)
        for record in sorted(part, key=lambda run: (list(nets).index(run["backbone"]), run["seed"]))
    ]
    return TransferMatrix(with_relative_accuracy(ordered))


def with_relative_accuracy(records: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Add to records the accuracy over the mean of the probes on all images, of each backbone.

    Parameters
    ----------
    records : sequence of dict
        Records of a transfer matrix, those of "all" among them.

    Returns
    -------
    tuple of dict
        The same with ``relative_accuracy``; NaN where that mean is 0.
    """
    full = _mean_accuracies([record for record in records if record["selection"] == _ALL])
    found = []
    for record in records:
        reference = full[record["backbone"]]
        relative = record["accuracy"] / reference if reference else float("nan")
        found.append({**record, "relative_accuracy": relative})
    return tuple(found)


def _check_distilled_on(distilled_on: Any, nets: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if distilled_on is None:
        return [(name,) for name in nets]
    if isinstance(distilled_on, str) or not isinstance(distilled_on, Sequence):
        raise ValueError(f"distilled_on must be a list; got {distilled_on!r}. Put it in brackets.")
    rows = [tuple(row) if isinstance(row, list | tuple) else (row,) for row in distilled_on]
    for row in rows:
        unknown = [name for name in row if name not in list(nets)]
        if unknown or not row or len(set(row)) < len(row):
            raise ValueError(
                f"distilled_on holds {row}, but each of its rows is a name of backbones or a tuple "
                f"of several, each once. The names are: {', '.join(nets)}."
            )
    if len(set(rows)) < len(rows):
        raise ValueError(f"distilled_on holds a row twice: {rows}. Leave one out.")
    return rows


def _distilled_rows(
    distillers: Any, distilled_on: list[tuple[str, ...]], nets: Mapping[str, Any], split: Split
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return the backbones of each row and its distiller, unfitted, by the row's name."""
    several = isinstance(distillers, Mapping)
    named = check_names(distillers, "distillers") if several else {"": distillers}
    rows = {}
    for name, distiller in named.items():
        argument = f"distillers[{name!r}]" if several else "distillers"
        for on in distilled_on:
            own = [nets[one] for one in on]
            backbone = own[0] if len(own) == 1 else own
            row = " + ".join(on) + (f", {name}" if several else "")
            rows[row] = on, _on(distiller, backbone, argument, split)
    if not rows:
        raise ValueError("There is nothing to distil: distillers or distilled_on is empty.")
    return rows


def _baseline_rows(
    baselines: Any, nets: Mapping[str, Any], split: Split
) -> dict[str, dict[str, Any]]:
    """Return the selections of each baseline, unfitted, by column."""
    baselines = check_names(baselines, "baselines")
    for name, baseline in baselines.items():
        if baseline is None:
            raise ValueError(
                f"baselines[{name!r}] is None, but probes on all images are a row of their own, "
                f"{_ALL!r}. Leave it out."
            )
    return {
        name: {
            column: _on(baseline, net, f"baselines[{name!r}]", split)
            for column, net in nets.items()
        }
        for name, baseline in baselines.items()
    }


def _on(selection: Any, backbone: Any, argument: str, split: Split) -> Any:
    """Return an unfitted clone for a backbone, or for several."""
    check_is_selection(selection, argument)
    if not has_parameter(selection, "backbone"):
        raise ValueError(
            f"{argument}, a {type(selection).__name__}, has no parameter backbone to be set to "
            f"that of its row or column. Leave it out, or compare it by compare_selections."
        )
    selection = set_parameter(selection, "backbone", backbone)
    check_selection(selection, argument, split)
    return selection


def _mean_accuracies(records: list[Any]) -> dict[str, float]:
    """Return the mean accuracy on each backbone."""
    columns = dict.fromkeys(record["backbone"] for record in records)
    return {
        column: float(np.mean([r["accuracy"] for r in records if r["backbone"] == column]))
        for column in columns
    }


def _describe(row: str, records: list[Any]) -> str:
    means = _mean_accuracies(records)
    return f"{row}: " + ", ".join(f"{column} {mean:.3f}" for column, mean in means.items())
