"""Results by the content of what they depend on, in the cache that an estimator was given."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.utils.validation import check_memory

from sklgm._version import __version__
from sklgm.utils.arrays import is_large


def cached(memory: Any, key: Callable[[], Sequence[Any]], function: Callable[[], Any]) -> Any:
    """Return ``function()``, from the cache where it was computed for an equal key before.

    ``memory`` is what scikit-learn's estimators take; None computes. With one, ``key`` is called
    and returns everything that the result depends on.
    """
    if memory is None:
        return function()
    return _resolve(memory).cache(_call, ignore=["function"])(_name(key), function)


def cached_features(
    memory: Any,
    key: Callable[[], Sequence[Any]],
    shape: tuple[int, ...],
    make: Callable[[Path | None], np.ndarray],
) -> np.ndarray:
    """Return float32 features of a shape, from the cache where they were computed before.

    Above 32 MiB they lie in a file: ``make`` takes the path of one that has or gets them, or None
    where they fit into memory or nothing is kept.
    """
    folder = folder_in(memory, "features") if is_large(shape) else None
    if folder is None:
        return cached(memory, key, lambda: make(None))
    return make(folder / f"{_name(key)}.npy")


def folder_in(memory: Any, name: str) -> Path | None:
    """Return a folder for what joblib does not keep; None where nothing is to be kept.

    It is a part of the cache, so that ``Memory.clear`` empties it too.
    """
    found = _resolve(memory)
    # Another backend may have its files elsewhere than on this machine.
    store = found.store_backend if getattr(found, "backend", None) == "local" else None
    return None if store is None else Path(store.location) / "sklgm" / name


def hash_each(parts: Sequence[Any]) -> str:
    """Return a hash of things by their content.

    They are hashed one by one, since joblib hashes an object that two of them share differently
    from two equal ones.
    """
    return joblib.hash([joblib.hash(part) for part in parts])


def _name(key: Callable[[], Sequence[Any]]) -> str:
    # Another version may compute another thing, or keep it in another form.
    return hash_each([__version__, *key()])


def _resolve(memory: Any) -> joblib.Memory:
    return check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)


def _call(key: str, function: Callable[[], Any]) -> Any:
    return function()
