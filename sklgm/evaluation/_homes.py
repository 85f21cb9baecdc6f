"""Saved prototypes among real images, on the nets they were made on or on others."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import net_parameters
from sklgm.estimators.selectors import ClassCentroids, RandomImages
from sklgm.evaluation._comparison import SelectionComparison, compare_selections
from sklgm.prototypes.nets import homes_of, recorded_net
from sklgm.prototypes.prototype_set import PrototypeSet

# What their row is called.
PROTOTYPES = "prototypes"


def made_them(prototypes: PrototypeSet, nets: Mapping[str, Backbone]) -> list[str]:
    """Return the names of those nets, out of several, that prototypes were made on."""
    provenance = prototypes.provenance
    homes = homes_of(provenance)
    return [
        name
        for name, net in nets.items()
        if name in homes or recorded_net(provenance, net).get("name") == net.name
    ]


def compare_prototypes(
    prototypes: PrototypeSet,
    train: tuple[Any, Any] | None,
    test: tuple[Any, Any],
    nets: dict[str, Backbone],
    *,
    probe: FrozenBackboneProbe,
    n_seeds: int,
    groups: Any = None,
    verbose: int = 0,
) -> dict[str, SelectionComparison]:
    """Compare prototypes that are images with as many random images, centroids and all, by net.

    Real images share the settings of the probe. Without training images there is a row for the
    prototypes alone. A class that the test images lack is warned of. Where prototypes have soft
    labels, there are rows of these for all but the last, "all".
    """
    # Without training images the prototypes stand in for them, since they know every class.
    X, y = (prototypes.images, prototypes.labels) if train is None else train
    shared: dict[str, Any] = {"probe": probe, "n_probe_seeds": n_seeds, "groups": groups}
    shared |= {"soft_labels": prototypes.probabilities is not None, "verbose": verbose}
    warn_of_missing(prototypes.classes, test[1])
    few = int(np.unique(prototypes.labels, return_counts=True)[1].min())
    results = {}
    for name, net in nets.items():
        if verbose:
            print(f"{len(test[1]):,} test images pass {net.name}")  # noqa: T201
        selections: dict[str, Any] = {PROTOTYPES: prototypes}
        if train is not None:
            real = {**net_parameters(probe), "backbone": net, "prototypes_per_class": few}
            chosen = {"random": RandomImages(**real), "centroid": ClassCentroids(**real)}
            selections = {**chosen, **selections, "all": None}
        results[name] = compare_selections(
            X, y, *test, backbone=net, selections=selections, **shared
        )
    return results


def warn_of_missing(classes: Any, y_test: Any) -> None:
    """Warn of the classes that have no test image."""
    if missing := np.setdiff1d(classes, y_test).tolist():
        warnings.warn(
            f"There is no test image of {missing[:10]}, {len(missing)} of {len(np.unique(classes))}"
            f" classes. Scores are those of the others.",
            stacklevel=3,
        )
