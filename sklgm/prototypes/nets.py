"""Which nets prototypes were made on, by provenance that anybody may have written."""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sklgm.backbones import Backbone
from sklgm.backbones._checks import brief, check_preparation
from sklgm.backbones._names import is_here, join_options, place_of
from sklgm.prototypes.provenance import preparation


def facts_of(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a part of provenance that should be a dict, or an empty one in its place."""
    found = provenance.get(name)
    return found if isinstance(found, dict) else {}


def homes_of(provenance: Mapping[str, Any]) -> list[str]:
    """Return what provenance has in place of each net: a name, or the repr of an object."""
    known = facts_of(provenance, "parameters").get("backbone")
    nets = known if isinstance(known, list) else [known]
    return [net for net in nets if isinstance(net, str) and net]


def is_name(net: str) -> bool:
    """Return whether one of :func:`homes_of` is a name."""
    return not net.startswith("Backbone(")


def recorded_nets(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is recorded of each net: how images were prepared for it, beside its name."""
    nets = provenance.get("preprocessing")
    return [facts for facts in nets if isinstance(facts, dict)] if isinstance(nets, list) else []


def own_names(prototypes: Any, n: int | None = None) -> list[str]:
    """Return the names of the nets that prototypes were made on, or of the first n of them.

    A ValueError says if there is none, or if one is not to be loaded because a card names it.
    """
    names = homes_of(prototypes.provenance)[:n]
    if not names:
        raise ValueError(
            "The prototypes do not tell which net they were made on. Name one with --backbone. In "
            "Python, pass backbone=."
        )
    _refuse_places(names)
    return names


def nets_of(
    prototypes: Any, backbones: Sequence[str], image_size: int | None
) -> dict[str, Backbone]:
    """Return nets to look at images with, by name, each at the size that it is to see.

    Without names they are the nets that the prototypes were made on. Without a size, these and nets
    of the same architecture see that of the prototypes, and others their own.
    """
    names = list(dict.fromkeys(backbones)) or own_names(prototypes)
    nets = {}
    for name in names:
        net = Backbone.from_name(name)
        facts = recorded_net(prototypes.provenance, net, name)
        weights, made_on = (str(one).partition("?")[0] for one in (net.name, facts.get("name")))
        if facts and is_here(name) and weights != made_on and len(names) == 1:
            warnings.warn(
                f"{brief(name)} has other weights than the net that the prototypes were made on, "
                f"{brief(facts['name'])}.",
                stacklevel=4,
            )
        if text := difference(facts, net, name):
            warnings.warn(text, stacklevel=4)
        size = image_size or size_made_at(prototypes, net, name) or net.image_size
        nets[name] = net.with_image_size(size)
    return nets


def size_made_at(prototypes: Any, net: Backbone, name: Any) -> int | None:
    """Return the image size of prototypes that were made on a net or its architecture, or None.

    ``name`` is what the user calls the net.
    """
    provenance, largest = prototypes.provenance, max(prototypes.images.shape[1:3])
    facts, homes = recorded_net(provenance, net, name), homes_of(provenance)
    if not (facts or name in homes or _architecture(net.name) in _of_libraries(homes)):
        return None
    usual = net.spec.image_size
    return recorded_size(provenance, facts, largest) or (usual if usual <= largest else None)


def _of_libraries(homes: Sequence[str]) -> set[str]:
    """Return the architectures of nets that libraries know by name."""
    found = set()
    for home in homes:
        if is_name(home) and place_of(home) is None:
            with suppress(ValueError, OSError):  # no net has the name
                found.add(_architecture(Backbone.from_name(home).name))
    return found


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
            f"--backbone{how}. In Python, pass backbone=, the only way for a module of your own."
        )


def recorded_net(provenance: Mapping[str, Any], net: Backbone, name: Any = "") -> dict[str, Any]:
    """Return what is recorded of a net, or else of one with its architecture and other weights.

    Nothing is returned where there is none, nor of a net that is the class of a user's module,
    which tells too little, nor of others where ``name`` is that of a net of a library which the
    prototypes were made on.
    """
    found = recorded_nets(provenance)
    kinds: list[Any] = [] if net.spec.source == "module" else [str, _architecture]
    if name in homes_of(provenance) and place_of(name) is None:
        kinds = kinds[:1]
    for part_of in kinds:
        for facts in found:
            if part_of(facts.get("name")) == part_of(net.name):
                return facts
    return {}


def _architecture(name: Any) -> str:
    return str(name).partition("#")[0].partition("?")[0]


def recorded_size(
    provenance: Mapping[str, Any], facts: Mapping[str, Any], largest: int
) -> int | None:
    """Return the image size that prototypes were made at, if that is known.

    ``facts`` are those of the net by :func:`recorded_net`, and ``largest`` is the side of the
    prototypes. Nets see no more: larger numbers are no sizes.
    """
    sizes = [known.get("image_size") for known in (facts, facts_of(provenance, "parameters"))]
    of_nets = [known.get("image_size") for known in recorded_nets(provenance)]
    if of_nets == of_nets[:1] * len(homes_of(provenance)):  # all are known, and agree
        sizes += of_nets[:1]
    for size in sizes:
        if type(size) is int and 0 < size <= largest:
            return size
    return None


def difference(facts: Mapping[str, Any], net: Backbone, name: Any = None) -> str:
    """Return sentences on how images are prepared for a net, if they were otherwise before.

    ``facts`` are those of the net that made prototypes, by :func:`recorded_net`, and ``net`` is
    the one to look at them with, which the user calls ``name``, if that is a string. Nothing is
    returned where the two are alike, or nothing is known.
    """
    now = preparation(net)
    then = {key: facts[key] for key in now if key in facts and facts[key] != now[key]}
    if not then:
        return ""
    old, new = (", ".join(f"{key} {brief(values[key])}" for key in then) for values in (then, now))
    text = f"The prototypes were made with {old}, but for {brief(net.name)} it is {new}."
    try:
        check_preparation(**then)
    except (KeyError, ValueError, TypeError):  # more than a name can say, or nonsense
        return text
    called = name if isinstance(name, str) else ""
    how = "use the name" if called else "let its name end with"
    return f"{text} To prepare images as before, {how} {join_options(called, then)!r}."
