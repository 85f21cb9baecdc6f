"""The runs of a protocol: selections fitted for each seed, probes trained on them and scored."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score

from sklgm.estimators.bank import views_of_each
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import embed_real
from sklgm.estimators.selectors import (
    ClassCentroids,
    HerdingImages,
    KCenterImages,
    NearestImages,
    RandomImages,
)
from sklgm.evaluation._checks import SOFT_LABELS, GivenPrototypes, Split
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.tables import duration
from sklgm.utils.targets import check_same_classes, worst_pair_accuracy

# By the id of an unfitted distiller and the seed of a fit: the fitted one and its seconds.
Kept = dict[int, dict[int, tuple[Any, float]]]
# Seconds after which a line tells of a probe, or of what is to come.
_LONG = 20.0


class Bench:
    """Where selections are probed: one backbone, named where there are several.

    Test images are embedded once.
    """

    def __init__(self, probe: FrozenBackboneProbe, split: Split, column: str | None = None):
        self.probe = probe
        self.split = split
        self.column = column
        self.features = embed_real(probe, split.X_test)
        # What probes on selections have taken, and the views that they have embedded.
        self._seconds, self._n_views = 0.0, 0

    def run(self, selection: Any, seed: int) -> dict[str, Any]:
        """Return the record of a probe that is trained on a fitted selection, or on all images."""
        split = self.split
        probe = clone(self.probe).set_params(random_state=seed)
        if selection is not None:
            # Frozen, so that the probe takes it as it is.
            probe.set_params(distiller=FrozenEstimator(selection))
        start = time.perf_counter()
        probe.fit(split.X, split.y)
        seconds = time.perf_counter() - start
        n_images = len(split.y if selection is None else selection.prototype_labels_)
        if selection is not None:
            self._seconds += seconds
            self._n_views += n_images * self._views_of_each(n_images)
        return {
            **({} if self.column is None else {"backbone": self.column}),
            "seed": seed,
            "n_images": n_images,
            **self._metrics(probe.head_),
            "train_seconds": seconds,
        }

    def tell_of_all_images(self, place: str, n_seeds: int) -> None:
        """Print about how long probes on all images will take, if that is long.

        It is told by the probes so far, whose images are not found in a memory.
        """
        n_images = len(self.split.y)
        n_views = self._views_of_each(n_images)
        seconds = n_seeds * n_images * n_views * self._seconds / max(1, self._n_views)
        if seconds > _LONG:
            on = f" on {self.column}" if self.column else ""
            print(  # noqa: T201
                f"{place}: {n_seeds} probes{on} embed {n_views} views of each of {n_images:,} "
                f"images, in at most about {duration(seconds)}"
            )

    def _views_of_each(self, n_images: int) -> int:
        return views_of_each(self.probe.augmentation, self.probe.n_views, n_images)

    def _metrics(self, head: Any) -> dict[str, float]:
        y, classes = self.split.y_test, self.split.classes
        predicted = head.predict(self.features)
        found = {"accuracy": accuracy_score(y, predicted)}
        method = next((m for m in ("predict_proba", "decision_function") if hasattr(head, m)), None)
        if len(classes) > 5 and method is not None:
            scores = getattr(head, method)(self.features)
            found["top_5_accuracy"] = top_k_accuracy_score(y, scores, k=5, labels=classes)
        # Balanced accuracy, but without a warning for predicted classes that y_test lacks.
        found["balanced_accuracy"] = recall_score(
            y, predicted, labels=np.unique(y), average="macro"
        )
        groups = self.split.groups
        if groups is not None:
            found["worst_group_accuracy"] = worst_pair_accuracy(predicted == y, y, groups)
        return {name: float(value) for name, value in found.items()}


@dataclass(frozen=True, eq=False)
class Row:
    """A selection to be probed.

    Attributes
    ----------
    keys : dict
        What tells its records apart, such as its name.
    selection : estimator or None
        Unfitted; None stands for all images.
    benches : sequence of Bench
        Where it is probed.
    """

    keys: dict[str, Any]
    selection: Any
    benches: Sequence[Bench]


def run_rows(
    rows: Sequence[Row],
    n_seeds: int,
    n_selection_seeds: int | None,
    verbose: int,
    *,
    soft_labels: bool = False,
) -> list[dict[str, Any]]:
    """Fit and probe the selections of a table.

    Parameters
    ----------
    rows : sequence of Row
        What is nearest to the prototypes of another row is chosen without distilling these again.
    n_seeds : int
        Seeds of the probe.
    n_selection_seeds : int or None
        See :func:`fits`.
    verbose : int
        Above 0, print a line for each finished row.
    soft_labels : bool, default=False
        Whether selections are fitted with soft labels, and each that has some then gets a row of
        probes on its classes and one of probes on its soft labels.

    Returns
    -------
    list of dict
        A record for each row, kind of label, bench and seed, in their order.
    """
    selections = [row.selection for row in rows]
    kept: Kept = {id(s.distiller): {} for s in selections if isinstance(s, NearestImages)}
    records: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        split = row.benches[0].split
        place = f"{number} of {len(rows)}" if verbose else ""
        for bench in row.benches if verbose and row.selection is None else ():
            bench.tell_of_all_images(place, n_seeds)
        runs: dict[str, list[list[dict[str, Any]]]] = {}
        for fitted, seeds, facts in fits(
            row.selection, split, n_seeds, n_selection_seeds, kept, soft_labels=soft_labels
        ):
            for ending, chosen in _by_label(fitted, soft_labels).items():
                keys = dict(row.keys)
                if ending:
                    keys["selection"] = f"{keys['selection']}{ending}"
                own = runs.setdefault(ending, [[] for _ in row.benches])
                for bench, found in zip(row.benches, own, strict=True):
                    found += _probe_each(bench, chosen, seeds, keys | facts, place)
        for own in runs.values():
            found = [run for runs in own for run in sorted(runs, key=lambda run: run["seed"])]
            records += found
            if verbose:
                _tell(place, row, found)
    return records


def _by_label(fitted: Any, soft_labels: bool) -> dict[str, Any]:
    """Return what probes are trained on, by what its kind of label adds to the name of a row."""
    if not soft_labels or not hasattr(fitted, "prototype_probabilities_"):
        return {"": fitted}
    hard = PrototypeSet(fitted.prototypes_, fitted.prototype_labels_)
    return {"": GivenPrototypes(hard).fit(None, None), SOFT_LABELS: fitted}


def _probe_each(
    bench: Bench, chosen: Any, seeds: list[int], facts: dict[str, Any], place: str
) -> Iterator[dict[str, Any]]:
    """Yield a record for each seed; with the place of a row, print a line for each long probe."""
    for done, seed in enumerate(seeds, start=1):
        record = facts | bench.run(chosen, seed)
        seconds = record["train_seconds"]
        if place and seconds > _LONG and done < len(seeds):
            print(f"{place}: probe {done} of {len(seeds)} took {seconds:.0f} s")  # noqa: T201
        yield record


def _tell(number: str, row: Row, found: list[dict[str, Any]]) -> None:
    """Print a line about a finished row."""
    name = ", ".join(str(found[0][key]) for key in row.keys if found[0][key] is not None)
    columns = ", ".join(bench.column for bench in row.benches if bench.column)
    where = f"{name} on {columns}" if columns else name
    mean = np.mean([run["accuracy"] for run in found])
    print(f"{number}: {where}: accuracy {mean:.3f}")  # noqa: T201


def fits(
    selection: Any,
    split: Split,
    n_seeds: int,
    n_selection_seeds: int | None,
    kept: Kept,
    *,
    soft_labels: bool,
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
        Fits of a selection with a ``random_state``, at most one for each seed of the probe; None
        is one. Random images without a fixed ``random_state`` are drawn for each seed.
    kept : dict
        Fitted distillers that several rows need, as `Kept`. Fits of those that are keys are added.
    soft_labels : bool
        Whether to make soft labels, where a parameter of that name says so.

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
    reseed = n_selection_seeds is not None
    is_random = bool(_seeded_parameters(selection, reseed))
    n_fits = min(n_selection_seeds or 1, n_seeds) if is_random else 1
    if isinstance(selection, RandomImages) and selection.random_state is None:
        # A draw costs nothing, and a baseline should not be less certain than the rest.
        n_fits = n_seeds
    for i in range(n_fits):
        fitted, seconds = _fit(selection, i, reseed, split, kept, soft_labels)
        check_same_classes(fitted.prototype_labels_, split.classes, "the prototypes", "y")
        facts = {"selection_seed": i if is_random else None, "select_seconds": seconds}
        yield fitted, list(range(i, n_seeds, n_fits)), facts


def _fit(
    selection: Any, seed: int, reseed: bool, split: Split, kept: Kept, soft_labels: bool
) -> tuple[Any, float]:
    """Return a fitted clone of a selection and the seconds that it took, or the one kept."""
    own = kept.get(id(selection), {})
    if seed in own:
        return own[seed]
    fitted = clone(selection)
    fitted.set_params(**dict.fromkeys(_seeded_parameters(selection, reseed), seed))
    if soft_labels:
        fitted.set_params(**dict.fromkeys(_parameters(selection, "soft_labels"), True))
    seconds = 0.0
    if isinstance(selection, NearestImages) and id(selection.distiller) in kept:
        distiller, seconds = _fit(selection.distiller, seed, reseed, split, kept, soft_labels)
        fitted.set_params(distiller=FrozenEstimator(distiller))
    start = time.perf_counter()
    fitted.fit(split.X, split.y)
    if not hasattr(fitted, "prototype_labels_"):
        raise ValueError(
            f"A {type(selection).__name__} has no prototypes to compare. Pass a distiller or a "
            f"selector: of a pipeline its step, of a probe its distiller."
        )
    own[seed] = fitted, seconds + time.perf_counter() - start
    return own[seed]


def _seeded_parameters(selection: Any, reseed: bool) -> list[str]:
    """Return the names of the parameters that take the seed of a fit, none if no fit is random."""
    if isinstance(selection, HerdingImages | KCenterImages) or (
        isinstance(selection, ClassCentroids) and selection.prototypes_per_class == 1
    ):
        return []
    states = _parameters(selection, "random_state")
    return [name for name, state in states.items() if reseed or state is None]


def set_parameter(selection: Any, name: str, value: Any) -> Any:
    """Return a clone with a parameter set, in estimators inside it too."""
    changed = clone(selection)
    found = _parameters(changed, name)
    if not found:
        raise ValueError(
            f"A {type(selection).__name__} has no parameter {name}, which is set here. Omit it."
        )
    return changed.set_params(**dict.fromkeys(found, value))


def _parameters(selection: Any, name: str) -> dict[str, Any]:
    return {
        key: value
        for key, value in selection.get_params(deep=True).items()
        if key == name or key.endswith(f"__{name}")
    }
