"""The runs of a protocol: selections fitted for each seed, probes trained on them and scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, recall_score

from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.selectors import ClassCentroids, HerdingImages, NearestImages, RandomImages
from sklgm.evaluation._checks import Split, check_same_classes

Kept = dict[int, list[tuple[Any, float]]]


@dataclass(frozen=True, eq=False)
class Bench:
    """Where selections are probed: one backbone, with the test features embedded once.

    Attributes
    ----------
    probe : FrozenBackboneProbe
        Unfitted.
    split : Split
        The data.
    features : ndarray of shape (n_test, n_features)
        Features of the test images, float32.
    """

    probe: FrozenBackboneProbe
    split: Split
    features: np.ndarray

    @classmethod
    def make(cls, probe: FrozenBackboneProbe, split: Split) -> Bench:
        """Embed the test images of a split."""
        embedding = clone(probe)
        embedding._check_X(split.X, reset=True)  # whose columns X_test has
        return cls(probe, split, embedding._embed(split.X_test))

    def run(self, selection: Any, seed: int) -> dict[str, Any]:
        """Train a probe on a fitted selection, or on all images, and score it.

        Parameters
        ----------
        selection : estimator or None
            Fitted; None trains on all images.
        seed : int
            Seed of the probe.

        Returns
        -------
        dict
            The seed, the number of images, each metric, and the seconds of training.
        """
        split = self.split
        probe = clone(self.probe).set_params(random_state=seed)
        if selection is not None:
            # Frozen, so that the probe takes it as it is.
            probe.set_params(distiller=FrozenEstimator(selection))
        start = time.perf_counter()
        probe.fit(split.X, split.y)
        seconds = time.perf_counter() - start
        return {
            "seed": seed,
            "n_images": len(split.y if selection is None else selection.prototype_labels_),
            **self._metrics(probe),
            "train_seconds": seconds,
        }

    def _metrics(self, probe: FrozenBackboneProbe) -> dict[str, float]:
        y, head, classes = self.split.y_test, probe.head_, self.split.classes
        predicted = probe.head_.predict(self.features)
        found = {"accuracy": accuracy_score(y, predicted)}
        method = next((m for m in ("predict_proba", "decision_function") if hasattr(head, m)), None)
        if len(classes) > 5 and method is not None:
            scores = getattr(head, method)(self.features)
            found["top_5_accuracy"] = _top_k_accuracy(scores, np.searchsorted(classes, y), k=5)
        # Balanced accuracy, but without a warning for predicted classes that y_test lacks.
        found["balanced_accuracy"] = recall_score(
            y, predicted, labels=np.unique(y), average="macro"
        )
        groups = self.split.groups
        if groups is not None:
            found["worst_group_accuracy"] = min(
                accuracy_score(y[groups == group], predicted[groups == group])
                for group in np.unique(groups)
            )
        return {name: float(value) for name, value in found.items()}


def _top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return how often the true class is among the ``k`` of the highest scores.

    Of classes that tie for the last places each has its share of these. scikit-learn's metric
    prefers the last class, which makes much of heads that score 0 and 1.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    higher, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return float(np.clip((k - higher) / equal, 0, 1).mean())


def run_rows(
    bench: Bench,
    rows: Mapping[tuple[Any, ...], Any],
    titles: Sequence[str],
    n_seeds: int,
    n_selection_seeds: int | None,
    verbose: int,
) -> tuple[dict[str, Any], ...]:
    """Fit and probe the selections of a table.

    Parameters
    ----------
    bench : Bench
        The bench on which they are probed.
    rows : mapping of tuple to estimator or None
        Unfitted selections, by what tells their records apart; None for all images. What is
        nearest to the prototypes of another row is chosen without distilling these again.
    titles : sequence of str
        Names of the parts of such a key.
    n_seeds : int
        Seeds of the probe.
    n_selection_seeds : int or None
        See :func:`fits`.
    verbose : int
        Whether to report each finished row.

    Returns
    -------
    tuple of dict
        A record for each row and seed, in their order.
    """
    kept: Kept = {id(s.distiller): [] for s in rows.values() if isinstance(s, NearestImages)}
    records = {}
    # In the order of the table, but nearest images after what they are near to.
    ordered = sorted(rows, key=lambda key: isinstance(rows[key], NearestImages))
    for number, key in enumerate(ordered, start=1):
        runs = [
            {**dict(zip(titles, key, strict=True)), **facts, **bench.run(fitted, seed)}
            for fitted, seeds, facts in fits(
                rows[key], bench.split, n_seeds, n_selection_seeds, kept
            )
            for seed in seeds
        ]
        records[key] = sorted(runs, key=lambda run: run["seed"])
        name = ", ".join(str(part) for part in key if part is not None)
        mean = np.mean([run["accuracy"] for run in runs])
        report(f"{number} of {len(rows)}: {name}: accuracy {mean:.3f}", verbose)
    return tuple(record for key in rows for record in records[key])


def fits(
    selection: Any, split: Split, n_seeds: int, n_selection_seeds: int | None, kept: Kept
) -> Iterator[tuple[Any, list[int], dict[str, Any]]]:
    """Fit a selection as many times as it needs, one at a time.

    Parameters
    ----------
    selection : estimator or None
        Unfitted; None stands for all images.
    split : Split
        The data.
    n_seeds : int
        Seeds of the probe.
    n_selection_seeds : int or None
        Fits of a selection with a ``random_state``; None is one. Random images without a fixed
        ``random_state`` are drawn for each seed of the probe.
    kept : dict
        Fitted selections that others need, with the seconds they took, by the id of the unfitted
        one. Those that are keys are added.

    Yields
    ------
    fitted : estimator or None
        A fitted clone.
    seeds : list of int
        The seeds of the probe it serves.
    facts : dict
        The seed and the seconds of the selection, for the record.

    Raises
    ------
    ValueError
        If a class has no prototype.
    """
    if selection is None:
        yield None, list(range(n_seeds)), {"selection_seed": None, "select_seconds": None}
        return
    states = _parameters(selection, "random_state")
    names = [name for name, state in states.items() if n_selection_seeds or state is None]
    if isinstance(selection, HerdingImages) or (
        isinstance(selection, ClassCentroids) and selection.prototypes_per_class == 1
    ):
        names = []  # nothing in the choice is random
    n_fits = (n_selection_seeds or 1) if names else 1
    if isinstance(selection, RandomImages) and selection.random_state is None:
        # A draw costs nothing, and a baseline should not be less certain than the rest.
        n_fits = n_seeds
    distilled = None
    if isinstance(selection, NearestImages):
        distilled = kept.get(id(selection.distiller))
    for i in range(n_fits):
        fitted = clone(selection)
        fitted.set_params(**dict.fromkeys(names, i))
        seconds = 0.0
        if distilled:
            distiller, seconds = distilled[i]
            fitted.set_params(distiller=FrozenEstimator(distiller))
        start = time.perf_counter()
        fitted.fit(split.X, split.y)
        seconds += time.perf_counter() - start
        check_same_classes(fitted, split)
        if id(selection) in kept:
            kept[id(selection)].append((fitted, seconds))
        facts = {"selection_seed": i if names else None, "select_seconds": seconds}
        yield fitted, list(range(i, n_seeds, n_fits)), facts


def has_parameter(selection: Any, name: str) -> bool:
    """Return whether a selection, or an estimator inside it, has a parameter."""
    return bool(_parameters(selection, name))


def set_parameter(selection: Any, name: str, value: Any) -> Any:
    """Return a clone with a parameter set, in estimators inside it too."""
    changed = clone(selection)
    changed.set_params(**dict.fromkeys(_parameters(selection, name), value))
    return changed


def _parameters(selection: Any, name: str) -> dict[str, Any]:
    return {
        key: value
        for key, value in selection.get_params(deep=True).items()
        if key == name or key.endswith(f"__{name}")
    }


def report(line: str, verbose: int) -> None:
    """Print a line about what is finished, where the user wants to know."""
    if verbose:
        try:
            from rich import get_console
        except ImportError:
            print(line)  # noqa: T201
        else:
            # Above a progress bar, should one be there.
            get_console().print(line, highlight=False, markup=False, soft_wrap=True)
