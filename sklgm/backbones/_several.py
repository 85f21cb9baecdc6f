"""One backbone or several: what ``backbone=`` and ``backbones=`` mean."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from sklgm.backbones import Backbone


def is_several(backbone: Any) -> bool:
    """Return whether a ``backbone=`` parameter is a list, perhaps of one."""
    return isinstance(backbone, list | tuple)


def resolve_backbones(backbone: Any, image_size: int | None) -> list[Backbone]:
    """Turn a ``backbone=`` parameter that is not None into backbones.

    Parameters
    ----------
    backbone : str, Backbone, or list or tuple of these
        The parameter.
    image_size : int or None
        Side of what each net sees; None leaves it to the record or the backbone.

    Returns
    -------
    list of Backbone
        The backbones in the order given. Each is loaded at its first use.

    Raises
    ------
    ValueError
        If a list is empty, holds something else, or one backbone twice.
    """
    given = _as_list(backbone)
    if not given:
        raise ValueError(
            f"backbone is an empty {type(backbone).__name__}. List one or more names or Backbones, "
            f"or set backbone=None when rows of X are features already."
        )
    for i, item in enumerate(given):
        if not isinstance(item, str | Backbone):
            raise ValueError(
                f"backbone[{i}] is {item!r}, and a list may hold names and Backbones only. Leave "
                f"it out; backbone=None, by itself, is for rows of X that are features already."
            )
    found = [_resolve(item, image_size) for item in given]
    for (i, first), (j, second) in combinations(enumerate(found), 2):
        if first.fingerprint() == second.fingerprint():
            raise ValueError(
                f"backbone[{i}] and backbone[{j}] are the same, {given[j]!r}; each backbone may be "
                f"listed once. Leave one of them out."
            )
    return found


def find_backbone(asked: str | Backbone, backbone: Any, image_size: int | None) -> int:
    """Return the position of one of several backbones.

    Parameters
    ----------
    asked : str or Backbone
        The backbone as it was listed, or its name.
    backbone, image_size
        The parameters that :func:`resolve_backbones` takes.

    Returns
    -------
    int
        0 where there is just one.

    Raises
    ------
    ValueError
        If it is none of them, or several have that name.
    """
    if backbone is None:
        raise ValueError(
            f"backbone={asked!r} cannot compare rows of X that are features already, as "
            f"backbone=None says they are. Leave it out."
        )
    given, found = _as_list(backbone), resolve_backbones(backbone, image_size)
    wanted = None
    if isinstance(asked, str | Backbone):
        # A net of the user's own has a name that leads to none.
        with contextlib.suppress(ValueError, OSError):
            wanted = _resolve(asked, image_size).fingerprint()
    matches = [i for i, net in enumerate(found) if net.fingerprint() == wanted]
    matches = matches or [i for i, net in enumerate(found) if net.name == asked]
    if len(matches) != 1:
        raise ValueError(
            f"backbone={asked!r} is {'several' if matches else 'none'} of those distilled on: "
            f"{given}. Pass one of them{', as an object' if matches else ''}."
        )
    return matches[0]


def resolve_first(backbone: Any, image_size: int | None) -> Backbone:
    """Return the first backbone of a checked parameter, and ask for no other."""
    return _resolve(_as_list(backbone)[0], image_size)


def name_backbones(backbones: Any) -> dict[str, str | Backbone]:
    """Turn a ``backbones=`` argument into backbones by name.

    Parameters
    ----------
    backbones : list of str or Backbone, or dict of str to str or Backbone
        The argument.

    Returns
    -------
    dict of str to str or Backbone
        At least one backbone, in the order given. Those of a list have their own names.

    Raises
    ------
    ValueError
        If it is neither, holds something else or nothing, or one name twice.
    """
    if isinstance(backbones, str | Backbone) or not hasattr(backbones, "__iter__"):
        raise ValueError(
            f"backbones must be a list or a dict of names or Backbones; got {backbones!r}."
        )
    if not isinstance(backbones, Mapping):
        given = list(backbones)
        names = [getattr(item, "name", item) for item in given]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(
                f"backbones holds {repeated[0]!r} more than once. Leave one out, or tell them "
                f"apart by a dict from a name of your own to each."
            )
        backbones = dict(zip(names, given, strict=True))
    if not backbones:
        raise ValueError("backbones is empty. List two or more names or Backbones.")
    for name, net in backbones.items():
        if not isinstance(name, str) or not isinstance(net, str | Backbone):
            raise ValueError(
                f"backbones may hold names and Backbones, under names that are strings; got "
                f"{name!r}: {net!r}."
            )
    return dict(backbones)


def _as_list(backbone: Any) -> list[Any]:
    return list(backbone) if is_several(backbone) else [backbone]


def _resolve(item: str | Backbone, image_size: int | None) -> Backbone:
    if isinstance(item, str):
        return Backbone.from_name(item, image_size=image_size)
    return item if image_size is None else item.with_image_size(image_size)
