"""Which nets prototypes were made on, by provenance that anybody may have written."""

from collections.abc import Mapping
from typing import Any

from sklgm.backbones import Backbone
from sklgm.backbones._checks import brief, check_preparation
from sklgm.backbones._names import join_options
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


def recorded_net(provenance: Mapping[str, Any], net: Backbone) -> dict[str, Any]:
    """Return what is recorded of a net, or else of one with its architecture and other weights.

    Nothing is returned where there is none, nor of a net that is the class of a user's module,
    which tells too little.
    """
    found = recorded_nets(provenance)
    for part_of in () if net.spec.source == "module" else (str, _architecture):
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
    for known in (facts, facts_of(provenance, "parameters")):
        size = known.get("image_size")
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
