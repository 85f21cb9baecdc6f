"""What a protocol returns: its runs, and tables made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sklgm.utils.tables import Table, data_frame, spread

METRICS = {
    "accuracy": "accuracy",
    "top_5_accuracy": "top-5",
    "balanced_accuracy": "balanced",
    "worst_group_accuracy": "worst group",
    "relative_accuracy": "relative",
}
"""Name of each metric in a record and in a table; a result may lack some."""


@dataclass(frozen=True, eq=False, repr=False)
class Result(Table):
    """Base of the results: tables of the runs of a protocol.

    In a table, metrics are mean ± the deviation that its caption names, and seconds the mean time
    of a choice and a probe. "fits" tells how many times a selection was fitted: with one, the
    deviation is that of the probe alone.

    Parameters
    ----------
    records : tuple of dict
        Records with plain values, one for each probe.
    """

    # The keys that tell the rows of the table apart, each with its title.
    _titles = {"selection": "trained on"}
    # What stands beside each mean.
    _error = "standard deviation"
    # What the caption says of other columns.
    _note = " fits: how often the images were chosen or made."
    _display: ClassVar[Any]

    def summary(self) -> list[dict[str, Any]]:
        """Average over the seeds.

        Returns
        -------
        list of dict
            One for each row of the table. Under the name of a metric the mean, in [0, 1], and
            with ``_std`` and ``_sem`` at its end the standard deviation of the runs (ddof=1)
            and the standard error of the mean, NaN where there is one run. Where several probes
            share each of several fits, the error is that of the means of the fits.
            ``n_seeds`` counts the runs and ``n_fits`` how many times the selection was fitted
            for them (None if nothing is). ``n_images`` is the number of images trained on;
            ``select_seconds`` and ``train_seconds`` are means over the runs, the former 0 for all
            images.
        """
        return [
            {**dict(zip(self._titles, key, strict=True)), **_average(runs)}
            for key, runs in self._by_row().items()
        ]

    def _by_row(self) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
        """Return the runs of each row of the table, by what tells it apart."""
        rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for record in self.records:
            rows.setdefault(tuple(record[key] for key in self._titles), []).append(record)
        return rows

    def to_frame(self, *, summary: bool = False) -> Any:
        """Return a data frame; needs pandas.

        Parameters
        ----------
        summary : bool, default=False
            A line for each row of the table, as in :meth:`summary`, instead of one for each
            run.

        Returns
        -------
        pandas.DataFrame
            A line for each run, or for each row with ``summary=True``.

        Raises
        ------
        ImportError
            Without pandas.
        """
        return data_frame(self.summary() if summary else list(self.records))

    def plot(self, ax: Any = None, *, metric: str = "accuracy") -> Any:
        """Draw the scores, with means and standard deviations over the seeds.

        A comparison is a dot for each run, beside the mean of its row; a curve is a line of means
        for each selection.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.
        metric : str, default="accuracy"
            The metric to draw.

        Returns
        -------
        SelectionComparisonDisplay or PrototypeCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the result has no such metric.
        """
        return self._display.from_result(self, metric=metric, ax=ax)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = self.summary()
        metrics = [name for name in METRICS if name in rows[0]]
        titles = [*self._titles.values(), "images", *(METRICS[name] for name in metrics)]
        cells = [
            [
                *("" if row[key] is None else str(row[key]) for key in self._titles),
                str(row["n_images"]),
                *(spread(row[name], row[f"{name}_std"]) for name in metrics),
                "" if row["n_fits"] is None else str(row["n_fits"]),
                f"{row['select_seconds'] + row['train_seconds']:.1f}",
            ]
            for row in rows
        ]
        return [*titles, "fits", "seconds"], cells

    def _caption(self) -> str:
        n_seeds = self.summary()[0]["n_seeds"]
        scores = f": mean ± {self._error} (ddof=1) over {n_seeds} seeds"
        return f"Scores on test images{scores if n_seeds > 1 else '; one seed'}.{self._note}"

    def _check_metric(self, metric: str) -> None:
        found = [name for name in METRICS if name in self.records[0]]
        if metric not in found:
            raise ValueError(f"metric={metric!r} is none of this result's: {', '.join(found)}.")


def _average(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    fits = [run["selection_seed"] for run in runs]
    row = {
        "n_images": runs[0]["n_images"],
        "n_seeds": len(runs),
        "n_fits": None if runs[0]["select_seconds"] is None else len(set(fits)),
    }
    for name in METRICS:
        if name in runs[0]:
            values = np.array([run[name] for run in runs])
            row[name] = float(values.mean())
            row[f"{name}_std"] = _deviation(values)
            if len(set(fits)) > 1:
                # Probes on the same fit are not independent.
                groups = np.unique(fits, return_inverse=True)[1]
                values = np.bincount(groups, values) / np.bincount(groups)
            row[f"{name}_sem"] = _deviation(values) / np.sqrt(len(values))
    for name in ("select_seconds", "train_seconds"):
        row[name] = float(np.mean([run[name] or 0.0 for run in runs]))
    return row


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
