"""Weights in a file of one's own: read without running code, loaded in full or not at all."""

import contextlib
import functools
import hashlib
import math
import pickle
import pickletools
import re
import textwrap
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sklgm.backbones._file_kinds import kind_of_file
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._state_dicts import find_state_dict


def content_digest(*paths: str) -> str:
    """Return the SHA-256 of the content of one file, or one of several files together."""
    digests = []
    for path in paths:
        if not Path(path).is_file():  # a pipe would be waited for
            raise FileNotFoundError(
                f"There is no file {path} to take weights from. A folder that timm or open_clip "
                f"saved goes by the name 'local-dir:<path>'."
            )
        status = Path(path).stat()
        digests.append(_digest(path, status.st_mtime_ns, status.st_size))
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    """Return the SHA-256 of a file, computed once for each state of it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OBJECTS = "it holds code or Python objects, not tensors alone, and those are not loaded"


def read_state_dict(path: str, expected: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the tensors of a net from a file, whatever its name, and run nothing of it.

    It is a safetensors file, one that `torch.save` wrote, or an ``.npz`` archive of arrays. What is
    found in it is said at :func:`find_state_dict`. Objects other than tensors, plain values and
    containers of these are left out; what cannot be read so is a ValueError.
    """
    try:
        content, left_blank = _read(path)
    except pickle.UnpicklingError as error:
        raise _unreadable(path, f"{_OBJECTS}; or it is damaged") from error
    except Exception as error:  # a damaged pickle raises anything
        raise _unreadable(path, str(error).strip().partition("\n")[0].rstrip(".")) from error
    try:
        return find_state_dict(content, expected)
    except LookupError as error:
        classes = f"{_OBJECTS} ({', '.join(left_blank[:3])})"
        raise _unreadable(path, classes if left_blank else str(error)) from error
    except ValueError as error:
        raise ValueError(f"Of the weights in the checkpoint {path} {error}") from error


def _unreadable(path: str, reason: str) -> ValueError:
    return ValueError(
        f"The checkpoint {path} cannot be read: {reason}. What can be: a .safetensors file, or "
        f"what torch.save(net.state_dict(), path) writes."
    )


def _read(path: str) -> tuple[Any, list[str]]:
    """Return what a file holds, on the CPU, and the classes of objects in it that are blank."""
    kind = kind_of_file(path)
    if kind == "safetensors":
        return safetensors.torch.load_file(path), []
    if kind == "npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}, []
    if kind == "torch":
        return _read_torch(path)
    raise ValueError(kind)


class _Blank:
    """Stands in for every object that is no tensor, so that no code of the object's class runs.

    It is a dict, since the pickles of many classes go on to fill one.
    """

    def __new__(cls, *args: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _BlankWithState:
    """Stands in for NumPy's numbers and partial functions, whose pickles go on to set a state."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_LOCK = threading.Lock()


def _read_torch(path: str) -> tuple[Any, list[str]]:
    """Read what `torch.save` wrote, and return it with the classes that were left blank."""
    try:
        if zipfile.is_zipfile(path):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        else:
            names = _globals_of_old_file(path)
        blanks: list[Any] = [
            (_BlankWithState if name.startswith(("numpy", "functools.partial")) else _Blank, name)
            for name in names
        ]
        # A file, since by a path torch would go by its suffix. Its list is the whole process's.
        with Path(path).open("rb") as file, _LOCK, torch.serialization.safe_globals(blanks):
            return torch.load(file, map_location="cpu", weights_only=True), sorted(names)
    except (TypeError, ValueError) as error:  # of a blank that was to be filled
        raise pickle.UnpicklingError from error


def _globals_of_old_file(path: str) -> list[str]:
    """Return the names of all that the pickles of a file in torch's old format import.

    Among them is what torch itself knows; it then ignores a blank of that name.
    """
    with Path(path).open("rb") as file:
        # A number, a version, a description of the machine, and what was saved.
        operations = [each for _ in range(4) for each in pickletools.genops(file)]
    found = {str(name).replace(" ", ".") for code, name, _ in operations if code.name == "GLOBAL"}
    # The names of Python 2, which torch translates too.
    return [name.replace("__builtin__.", "builtins.") for name in found]


@contextlib.contextmanager
def loading(path: str, architecture: str) -> Iterator[None]:
    """Turn torch's long error about keys that do not match into a short one."""
    try:
        yield
    except (RuntimeError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ValueError(
            f"The weights in {path} do not fit architecture {architecture!r}, and nothing was "
            f"loaded: {_shortened(str(error))}. Take the architecture they were trained with."
        ) from error


def _shortened(text: str) -> str:
    """Return a few of the keys that torch lists as missing, too much, or of another shape."""
    shapes = re.findall(r"size mismatch for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)", text)
    parts = [f"{key} is {theirs} in the file and {ours} in the net" for key, theirs, ours in shapes]
    parts = [*parts[:2], *([f"{len(parts) - 2} more have another shape"] if parts[2:] else [])]
    for kind, keys in re.findall(r"(Missing|Unexpected) key\(s\) in state_dict: (.*)", text):
        names = re.findall(r'"(.*?)"', keys)
        owner = "file" if kind == "Missing" else "net"
        some = ", ".join(names[:2])
        many = f"{len(names)} tensors, such as " if len(names) > 2 else ""
        parts.append(f"the {owner} lacks {many}{some}")
    return "; ".join(parts) or textwrap.shorten(text, 200).rstrip(".")


# Embeddings of positions, and biases by the distance of two.
_POSITIONS = re.compile(r"pos(ition(al)?)?_(embed|bias)")


def warn_of_resizing(
    spec: BackboneSpec, image_size: int, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Warn if the state in a user's file was trained at another image size than the net's.

    Its library then interpolates the position embeddings. If the user has asked for another size
    than that of the record, there is nothing to say.
    """
    if not spec.checkpoint or image_size != spec.image_size:
        return
    for key in filter(_POSITIONS.search, expected):
        ours = _grid_side(expected[key])
        theirs = _grid_side(state.get(key, expected[key]))
        if theirs != ours:
            warnings.warn(
                f"The weights in {spec.checkpoint} were trained at another image size than the net "
                f"has: {key} is interpolated from {theirs} x {theirs} positions to {ours} x "
                f"{ours}. Pass the image_size of the training, unless you mean this.",
                stacklevel=2,
            )
            return


def _grid_side(positions: Tensor) -> int:
    """Return the side of a square of positions, of which a class token and registers are none."""
    return math.isqrt(positions.numel() // positions.shape[-1])
