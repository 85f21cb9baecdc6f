"""Results by the content of what they depend on, in the cache that an estimator was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.utils.validation import check_memory

from sklgm._version import __version__
from sklgm.utils.arrays import is_large


def cached(memory: Any, key: Any, function: Callable[[], Any]) -> Any:
    """Return ``function()``, from the cache where ``key`` was computed before.

    Parameters
    ----------
    memory : None, str, Path or joblib.Memory
        As scikit-learn's ``memory`` parameters; None computes.
    key : sequence of object
        Everything that the result depends on; see :func:`hash_each`.
    function : callable
        Takes no arguments.

    Returns
    -------
    object
        What ``function`` returned, now or then.
    """
    if memory is None:
        return function()
    # Another version may compute another thing, or keep it in another form.
    name = hash_each([__version__, *key])
    return _resolve(memory).cache(_call, ignore=["function"])(name, function)


def cached_features(
    memory: Any, key: Any, shape: tuple[int, ...], make: Callable[[Path | None], np.ndarray]
) -> np.ndarray:
    """Return features, from the cache where they were computed before; large ones are mapped.

    Parameters
    ----------
    memory, key
        As in :func:`cached`.
    shape : tuple of int
        Shape of the features.
    make : callable
        Takes None, or the path of a file that has or gets them, and returns them.

    Returns
    -------
    ndarray of that shape
        float32. Above 32 MiB they lie in a file: of the cache, or a temporary one without a cache.
    """
    folder = folder_in(memory, "features") if is_large(shape) else None
    if folder is None:
        return cached(memory, key, lambda: make(None))
    return make(folder / f"{hash_each([__version__, *key])}.npy")


def folder_in(memory: Any, name: str) -> Path | None:
    """Return a folder for what joblib does not keep; None where nothing is to be kept.

    It is a part of the cache, so that ``Memory.clear`` empties it too.
    """
    if memory is None:
        return None
    found = _resolve(memory)
    # Another backend may have its files elsewhere than on this machine.
    store = found.store_backend if getattr(found, "backend", None) == "local" else None
    return None if store is None else Path(store.location) / "sklgm" / name


def hash_each(parts: list[Any]) -> str:
    """Return a hash of things by their content.

    They are hashed one by one, since joblib hashes an object that two of them share differently
    from two equal ones.
    """
    return joblib.hash([joblib.hash(part) for part in parts])


def _resolve(memory: Any) -> joblib.Memory:
    return check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)


def _call(key: str, function: Callable[[], Any]) -> Any:
    return function()
