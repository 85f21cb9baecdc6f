"""Saved prototypes among real images, on the nets they were made on or on others."""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sklgm.backbones import Backbone
from sklgm.backbones._checks import brief
from sklgm.backbones._names import is_here, place_of
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import net_parameters
from sklgm.estimators.selectors import ClassCentroids, RandomImages
from sklgm.evaluation._comparison import SelectionComparison, compare_selections
from sklgm.prototypes.nets import difference, homes_of, is_name, recorded_net, recorded_size
from sklgm.prototypes.prototype_set import PrototypeSet

# What their row is called.
PROTOTYPES = "prototypes"


def nets_of(
    prototypes: PrototypeSet, backbones: Sequence[str], image_size: int | None
) -> dict[str, Backbone]:
    """Return nets to look at images with, by name, each at the size that it is to see.

    Without names they are the nets that the prototypes were made on. Without a size, these and nets
    of the same architecture see that of the prototypes, and others their own.
    """
    homes = homes_of(prototypes.provenance)
    names = list(dict.fromkeys(backbones)) or homes
    if not names:
        raise ValueError(
            "The prototypes do not tell which net they were made on. Name one with --backbone."
        )
    if not backbones:
        _refuse_places(names)
    nets = {}
    for name in names:
        net = Backbone.from_name(name)
        facts = recorded_net(prototypes.provenance, net)
        if facts and name in homes and is_here(name) and facts["name"] != net.name:
            warnings.warn(
                f"The weights of {brief(name)} have changed since the prototypes were made on it. "
                f"Scores are those of the net as it is now.",
                stacklevel=3,
            )
        if text := difference(facts, net, name):
            warnings.warn(text, stacklevel=3)
        own = None
        if facts or name in homes:
            own = recorded_size(prototypes.provenance, facts, max(prototypes.images.shape[1:3]))
        nets[name] = net.with_image_size(image_size or own or net.image_size)
    return nets


def _refuse_places(names: Sequence[str]) -> None:
    """Raise ValueError if a card names files or repositories, which may be of anybody's choice."""
    for name in names:
        if is_name(name) and place_of(name) is None:
            continue
        is_plain = is_name(name) and name.isprintable() and len(name) < 300
        how = f", as in --backbone {shlex.quote(name)}" if is_plain else ""
        raise ValueError(
            f"The prototypes say that they were made on {brief(name)}. Nets of your own, and "
            f"weights in a file or a repository, are only loaded when asked for: name the net with "
            f"--backbone{how}. One without a name can be passed in Python."
        )


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
