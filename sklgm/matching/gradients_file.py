"""The file of `RealGradients`: a header and tensors that fit it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sklgm.matching.files import write_tensors
from sklgm.utils.files import replacing

_FORMAT = 1
_KEY = "sklgm.RealGradients"
# The first files hold no sums of weights, which are the counts where all weights are 1.
_COUNTS = {"row_weights": "rows_seen", "image_weights": "images_seen"}
# Errors that arise when JSON of another program is read as a header.
_OTHER_JSON = (TypeError, AttributeError, RecursionError)


def write_gradients(path: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a file in place of the one that is there, which an error leaves as it was."""
    header = {**settings, "classes_dtype": settings["classes"].dtype.kind}
    if isinstance(header["class_weight"], Mapping):  # of keys that JSON would make strings
        header["class_weight"] = list(header["class_weight"].items())
    # Arrays and scalars of numpy become what JSON knows.
    text = json.dumps({"format": _FORMAT, **header}, default=lambda value: value.tolist())
    with replacing(path) as partial:
        write_tensors(partial, tensors, {_KEY: text})


def as_settings(header: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that `write_gradients` made a header of."""
    # numpy would not guess these kinds of labels from the values.
    dtype = {"O": object, "u": np.uint64}.get(header["classes_dtype"])
    settings = {**header, "classes": np.asarray(header["classes"], dtype=dtype)}
    del settings["classes_dtype"]
    if isinstance(header["class_weight"], list):
        settings["class_weight"] = dict(header["class_weight"])
    return settings


def read_gradients(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return header and tensors, unchecked; another file, or another format, is a ValueError."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is a folder, a pipe or a device. Pass the path of a file.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            version = header.pop("format")
            known = file.keys() if version == _FORMAT else ()
            tensors = {name: file.get_tensor(name) for name in known}
    except (SafetensorError, LookupError, ValueError, *_OTHER_JSON) as error:
        raise ValueError(f"{path} is not a file written by RealGradients.save.") from error
    if version != _FORMAT:
        raise ValueError(
            f"{path} has format {version!r}, but this version of sklgm reads format {_FORMAT}. "
            f"Update sklgm to read it."
        )
    return header, tensors


def restore(gradients: Any, tensors: Mapping[str, Tensor]) -> None:
    """Set all that gradients add up to what ``tensors()`` of others with their settings returned.

    The tensors are not copied. Those that do not fit are a ValueError.
    """
    # Without memory, since a damaged file may have any number of features.
    gradients._allocate(len(tensors["feature_sum"]), "meta")
    for name in gradients._sums:
        value = tensors[name] if name in tensors else tensors[_COUNTS[name]].double()
        expected = torch.as_tensor(getattr(gradients, name))
        if (value.shape, value.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"its {name} do not fit its header.")
        is_tensor = isinstance(getattr(gradients, name), Tensor)
        setattr(gradients, name, value if is_tensor else value.numpy())
