"""All that the result of a distillation depends on, as JSON that compares equal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator

from sklgm._version import __version__
from sklgm.images import ImageSource
from sklgm.matching import RealGradients
from sklgm.passes.encoder import Encoder

# Parameters that change no result, or stand here in another form.
_LEFT_OUT = ("backbone", "checkpoint", "device", "memory", "n_jobs", "random_state", "verbose")


def fit_settings(
    params: Mapping[str, Any],
    encoders: Sequence[Encoder | None],
    *,
    data: Mapping[str, str],
    seeds: Sequence[int] | None,
    device: torch.device,
    n_processes: int,
) -> dict[str, Any]:
    """Return what two fits must share for one to go on where the other was.

    Parameters
    ----------
    params : mapping of str to object
        Parameters of the distiller.
    encoders : sequence of Encoder or None
        Of each backbone.
    data : mapping of str to str
        Hashes of what was given to ``fit``.
    seeds : sequence of int or None
        Those that follow from ``random_state``; None when it is None.
    device : torch.device
        Where the work is done.
    n_processes : int
        Among which it is shared out.

    Returns
    -------
    dict of str to object
        As JSON gives it back. What is no value of its own is ``{"hash": ...}``.
    """
    keys = [
        None if encoder is None else (encoder.backbone.name, *encoder.key) for encoder in encoders
    ]
    settings = {
        **{name: _plain(value) for name, value in params.items() if name not in _LEFT_OUT},
        **{name: {"hash": value} for name, value in data.items()},
        "backbone": {"hash": joblib.hash(keys)},
        "precision": [str(e.autocast or "float32") for e in encoders if e is not None],
        "random_state": None if seeds is None else {"hash": joblib.hash(list(seeds))},
        "device": device.type,
        "number of processes": n_processes,
        "number of threads": torch.get_num_threads(),
        "version of sklgm": __version__,
        "version of torch": torch.__version__,
    }
    return json.loads(json.dumps(settings))


def data_hashes(source: ImageSource | np.ndarray, classes: np.ndarray, y: np.ndarray) -> dict:
    """Return hashes of X and y; of files their paths, sizes and times are hashed."""
    if isinstance(source, ImageSource):
        return {"X": source.fingerprint(), "y": joblib.hash((classes, y))}
    return {"X": joblib.hash(np.ascontiguousarray(source)), "y": joblib.hash((classes, y))}


def gradient_hashes(gradients: Sequence[RealGradients]) -> dict[str, str]:
    """Return a hash of statistics, with their contents."""
    parts = [
        (one.settings, {name: tensor.numpy() for name, tensor in one.tensors().items()})
        for one in gradients
    ]
    return {"set of gradients": joblib.hash(parts)}


def describe_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the settings in which two fits differ.

    Parameters
    ----------
    then, now : mapping of str to object
        From :func:`fit_settings`.

    Returns
    -------
    str
        Empty if there is none.
    """
    parts = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        if any(isinstance(value, dict) and "hash" in value for value in (before, after)):
            parts.append(f"{name} is another")
        else:
            parts.append(f"{name} was {before!r} and is {after!r}")
    return ", ".join(parts)


def _plain(value: Any) -> Any:
    """Return a parameter as JSON: numpy's numbers as Python's, estimators by their parameters."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, BaseEstimator):
        params = value.get_params(deep=False)
        return {"": type(value).__name__, **{name: _plain(v) for name, v in params.items()}}
    if isinstance(value, Mapping):
        # Labels are no strings, and their order does not matter.
        return sorted([repr(_plain(label)), _plain(weight)] for label, weight in value.items())
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)
