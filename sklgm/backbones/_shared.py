"""The process-wide set of backbones: whoever asks for the same one gets the same object."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

_KEPT: dict[Hashable, Any] = {}
_LOCK = threading.Lock()


def shared(key: Hashable, make: Callable[[], Any]) -> Any:
    """Return what is kept under a key, made at the first call."""
    with _LOCK:
        if key not in _KEPT:
            _KEPT[key] = make()
        return _KEPT[key]
