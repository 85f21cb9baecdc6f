"""Backbones by name in this process: those that are in use, and those kept for the next call."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

_NAMED: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
_KEPT: set[Any] = set()
_LOCK = threading.Lock()


def find_or_make(key: Hashable, make: Callable[[], Any]) -> Any:
    """Return the one backbone of a key, which is made if there is none, and keep it."""
    with _LOCK:
        found = _NAMED.get(key) or make()
        _NAMED[key] = found
        _KEPT.add(found)
    return found


def clear_backbone_cache() -> None:
    """Forget the backbones that were loaded by name, so that their memory is free.

    One that an estimator or a variable holds stays as it is, and its name still finds it. The
    others are loaded again when they are next asked for.
    """
    _KEPT.clear()
