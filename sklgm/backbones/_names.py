"""What the name of a backbone says beside the net: where its weights are, and options."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


# Parameters of `Backbone.from_name` that may follow in a name, and how each is read.
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "pooling": str,
    "mean": _numbers,
    "std": _numbers,
    "crop_pct": float,
    "interpolation": str,
}
# A path may hold question marks, too, so options are looked for at the end.
_AT_THE_END = re.compile(r"\?(\w+=[^?&]*(?:&\w+=[^?&]*)*)\Z")
# Names of nets in a place that the user names; others are those of a library or of a record.
_ON_HUB = "hf-hub:", "hf_hub:"
_PLACED = (*_ON_HUB, "local-dir:", "transformers:")


def split_options(name: str) -> tuple[str, dict[str, Any]]:
    """Return a name without its options, and these as parameters of `Backbone.from_name`.

    Those of ``"timm:vit@last.pt?mean=0.5&std=0.5"`` are mean and std. An option that does not
    exist, or whose value cannot be read, is a ValueError.
    """
    found = _AT_THE_END.search(name)
    if found is None:
        return name, {}
    options = {}
    for part in found[1].split("&"):
        key, _, text = part.partition("=")
        if key not in _OPTIONS:
            raise ValueError(
                f"Got the option {key!r} in the name {name!r}. After a question mark there may be "
                f"{', '.join(_OPTIONS)}, as in 'timm:resnet50@last.pt?mean=0.5,0.5,0.5&std=0.5'. "
                f"The image size is a parameter of its own, and a classifier is left out."
            )
        try:
            options[key] = _OPTIONS[key](text)
        except ValueError as error:
            raise ValueError(
                f"{key} in the name {name!r} must be a number, or for mean and std three with "
                f"commas between them; got {text!r}."
            ) from error
    return name[: found.start()], options


def join_options(name: str, options: Mapping[str, Any]) -> str:
    """Return a name with other options beside its own; what may not stand there is left out."""
    base, own = split_options(name)
    options = own | {key: options[key] for key in _OPTIONS if key in options}
    parts = []
    for key, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        one = values if len(set(map(str, values))) > 1 else values[:1]
        parts.append(f"{key}={','.join(map(str, one))}")
    return f"{base}?{'&'.join(parts)}" if parts else base


def place_of(name: str) -> str | None:
    """Return the file, folder or repository in a name; None where a library knows the weights."""
    base, _ = split_options(name)
    if base.startswith(_PLACED):
        return base.partition(":")[2]
    return base.partition("@")[2] or None


def is_here(name: str) -> bool:
    """Return whether a name opens a file or a folder that is there, and no repository."""
    place = None if name.startswith(_ON_HUB) else place_of(name)
    return place is not None and Path(place).expanduser().exists()
