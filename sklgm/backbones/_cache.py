"""Backbones by name in this process: those that are in use, and those kept for the next call."""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

_NAMED: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
_KEPT: set[Any] = set()
_LOCK = threading.Lock()


def find_or_make(kind: Callable[..., Any], *arguments: Hashable) -> Any:
    """Return the one backbone of some arguments, made of them if there is none, and keep it."""
    with _LOCK:
        found = _NAMED.get(arguments) or kind(*arguments)
        _NAMED[arguments] = found
        _KEPT.add(found)
    return found


def clear_backbone_cache() -> None:
    """Forget the backbones that were loaded by name, so that their memory is free.

    One that an estimator or a variable holds stays as it is, and its name still finds it. The
    others are loaded again when they are next asked for.
    """
    _KEPT.clear()
