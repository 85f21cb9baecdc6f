"""Which nets prototypes were made on, by provenance that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklgm.backbones import Backbone
from sklgm.backbones._checks import brief, check_preparation
from sklgm.backbones._names import join_options
from sklgm.prototypes.provenance import preparation


def homes_of(provenance: Mapping[str, Any]) -> list[str]:
    """Return what provenance has in place of each net: a name, or the repr of an object."""
    known = _parameters(provenance).get("backbone")
    nets = known if isinstance(known, list) else [known]
    return [net for net in nets if isinstance(net, str) and net]


def is_name(net: str) -> bool:
    """Return whether one of :func:`homes_of` is a name."""
    return not net.startswith("Backbone(")


def recorded_net(provenance: Mapping[str, Any], net: Backbone) -> dict[str, Any]:
    """Return what is recorded of a net: how images were prepared for it, beside its name.

    Parameters
    ----------
    provenance : mapping of str to Any
        Of prototypes.
    net : Backbone
        A net to look at them with.

    Returns
    -------
    dict of str to Any
        Of the same net, or else of one with the same architecture and other weights; nothing where
        there is none. The class of a user's module tells too little.
    """
    nets = provenance.get("preprocessing")
    found = [facts for facts in nets if isinstance(facts, dict)] if isinstance(nets, list) else []
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

    Parameters
    ----------
    provenance, facts : mapping of str to Any
        Of the prototypes, and of the net by :func:`recorded_net`.
    largest : int
        Side of the prototypes. Nets see no more: larger numbers are no sizes.

    Returns
    -------
    int or None
        The size.
    """
    for size in (facts.get("image_size"), _parameters(provenance).get("image_size")):
        if type(size) is int and 0 < size <= largest:
            return size
    return None


def difference(facts: Mapping[str, Any], net: Backbone, name: Any = None) -> str:
    """Return sentences on how images are prepared for a net, if they were otherwise before.

    Parameters
    ----------
    facts : mapping of str to Any
        Of the net that made prototypes, by :func:`recorded_net`.
    net : Backbone
        The net to look at the prototypes with.
    name : Any, default=None
        What the user calls it, if that is a string.

    Returns
    -------
    str
        Nothing where the two are alike, or nothing is known.
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


def _parameters(provenance: Mapping[str, Any]) -> dict[str, Any]:
    found = provenance.get("parameters")
    return found if isinstance(found, dict) else {}
