"""One backbone or several: what ``backbone=`` and ``backbones=`` mean."""

import contextlib
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch

from sklgm.backbones._backbone import Backbone
from sklgm.backbones._checks import brief


def get_backbone(
    backbone: str | Backbone,
    *,
    image_size: int | None = None,
    device: str | int | torch.device = "auto",
) -> Backbone:
    """Resolve a ``backbone=`` parameter to a loaded backbone on a device.

    Whoever asks for a name gets the same object, and threads that ask at once wait for one load.

    Parameters
    ----------
    backbone : str or Backbone
        A name as for `Backbone.from_name`, or a backbone.
    image_size : int, default=None
        Side of the images that the net sees; None leaves it to the record or the backbone.
    device : str, int or torch.device, default="auto"
        The device that the net is to run on.

    Returns
    -------
    Backbone
        The backbone, loaded and on the device.

    Raises
    ------
    ValueError
        If the name is unknown, the size does not fit, or the device is not there.
    WeightsNotFoundError
        If the weights cannot be had.
    """
    found = _resolve(backbone, image_size).to(device)
    _ = found.module
    _ = found.n_features  # where no record tells, a net unfit for the size is an error now
    return found


def is_several(backbone: Any) -> bool:
    """Return whether a ``backbone=`` parameter is a list, perhaps of one."""
    return isinstance(backbone, list | tuple)


def resolve_backbones(backbone: Any, image_size: int | None) -> list[Backbone]:
    """Turn a ``backbone=`` parameter that is not None into backbones, loaded at first use.

    A list that is empty or has one backbone twice is a ValueError.
    """
    given = _as_list(backbone)
    if not given:
        raise ValueError(
            "backbone is an empty list. List one or more names or Backbones, or set backbone=None "
            "when rows of X are features already."
        )
    found = [_resolve(item, image_size) for item in given]
    for (i, first), (j, second) in combinations(enumerate(found), 2):
        if first.fingerprint() == second.fingerprint():
            raise ValueError(
                f"backbone[{i}] and backbone[{j}] are the same, {given[j]!r}; each backbone may be "
                f"listed once. Leave one of them out."
            )
    return found


def find_backbone(
    asked: str | Backbone, backbone: Any, image_size: int | None
) -> tuple[int, Backbone]:
    """Return the position of one of several backbones, asked for as it was listed, and itself.

    The other parameters are those of :func:`resolve_backbones`. If it is none of these, or several
    have that name, that is a ValueError.
    """
    if backbone is None:
        raise ValueError(f"backbone={asked!r} cannot compare rows of X. Leave it out.")
    found, wanted = resolve_backbones(backbone, image_size), None
    # A net of the user's own has a name that leads to none.
    with contextlib.suppress(ValueError, OSError):
        wanted = _resolve(asked, image_size).fingerprint()
    matches = [i for i, net in enumerate(found) if net.fingerprint() == wanted]
    matches = matches or [i for i, net in enumerate(found) if net.name == asked]
    if len(matches) != 1:
        raise ValueError(
            f"backbone={asked!r} is {'several' if matches else 'none'} of those distilled on: "
            f"{_as_list(backbone)}. Pass one of these objects or names."
        )
    return matches[0], found[matches[0]]


def resolve_first(backbone: Any, image_size: int | None) -> Backbone:
    """Return the first backbone of a checked parameter, and ask for no other."""
    return _resolve(_as_list(backbone)[0], image_size)


def name_backbones(backbones: Any) -> dict[str, str | Backbone]:
    """Turn a ``backbones=`` argument, a list or a dict by name, into a dict of one at least.

    Those of a list have their own names. One name twice is a ValueError.
    """
    if isinstance(backbones, Mapping):
        named = [(str(name), net) for name, net in backbones.items()]
    elif is_several(backbones):
        named = [(getattr(net, "name", net), net) for net in backbones]
    else:
        named = []
    for _, net in named:
        check_backbone(net)
    if not named:
        raise ValueError(
            f"backbones must be a list or a dict of names or Backbones, one at least; got "
            f"{brief(backbones)}."
        )
    if len(dict(named)) < len(named):
        raise ValueError(
            f"backbones holds one name more than once: {[name for name, _ in named]}. Leave one "
            f"out, or tell them apart by a dict from a name of your own to each."
        )
    return dict(named)


def check_backbone(backbone: Any, parameter: str = "backbone") -> None:
    """Raise ValueError for what is neither a name nor a Backbone, without printing a whole net."""
    if not isinstance(backbone, str | Backbone):
        advice = (
            "A net of your own becomes one by Backbone.from_module(net, image_size=224, "
            "mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), with the size and the "
            "normalisation that it was trained with."
        )
        if hasattr(backbone, "fit"):
            advice = "Pass an estimator by its keyword, such as distiller=."
        if hasattr(getattr(backbone, "config", None), "model_type"):
            advice = "A model of transformers becomes one by Backbone.from_transformers(model)."
        raise ValueError(
            f"{parameter} must be a name or a Backbone, or a list of these; got {brief(backbone)}. "
            f"{advice}"
        )


def _as_list(backbone: Any) -> list[Any]:
    return list(backbone) if is_several(backbone) else [backbone]


def _resolve(backbone: Any, image_size: int | None) -> Backbone:
    if isinstance(backbone, str):
        return Backbone.from_name(backbone, image_size=image_size)
    check_backbone(backbone)
    return backbone if image_size is None else backbone.with_image_size(image_size)
