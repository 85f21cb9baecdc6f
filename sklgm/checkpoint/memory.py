"""Results by the content of what they depend on, in the cache that an estimator was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
from sklearn.utils.validation import check_memory

from sklgm._version import __version__


def cached(memory: Any, key: Any, function: Callable[[], Any]) -> Any:
    """Return ``function()``, from the cache where ``key`` was computed before.

    Parameters
    ----------
    memory : None, str, Path or joblib.Memory
        As scikit-learn's ``memory`` parameters; None computes.
    key : object
        Hashed by joblib; all that the result depends on.
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
    key = joblib.hash((__version__, key))
    return _resolve(memory).cache(_call, ignore=["function"])(key, function)


def folder_of_states(memory: Any) -> Path | None:
    """Return the folder for states of interrupted fits; None where nothing is to be kept.

    It is a part of the cache, so that ``Memory.clear`` empties it too.
    """
    backend = None if memory is None else _resolve(memory).store_backend
    return None if backend is None else Path(backend.location) / "sklgm" / "interrupted"


def _resolve(memory: Any) -> joblib.Memory:
    return check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)


def _call(key: str, function: Callable[[], Any]) -> Any:
    return function()
