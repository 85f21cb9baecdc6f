"""Heads are fitted without scikit-learn's guess that many classes may be a regression."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any


class _InThisThread:
    """A pattern for `warnings.filters` that matches the guess in the thread that made it."""

    pattern = "The number of unique classes"  # what scikit-learn hands to its workers

    def __init__(self) -> None:
        self.thread: int | None = get_ident()

    def match(self, text: str) -> bool:
        return get_ident() == self.thread and text.startswith(self.pattern)


@contextmanager
def no_regression_warning() -> Iterator[None]:
    """Leave out the warning of many unique classes, in this thread alone.

    Prototypes, of which a class may have one, are no regression, and of other labels
    `check_targets` has warned already.
    """
    # Not catch_warnings, which puts back the filters that all threads share.
    pattern = _InThisThread()
    entry: Any = ("ignore", pattern, UserWarning, None, 0)
    filters: Any = warnings.filters
    filters.insert(0, entry)
    try:
        yield
    finally:
        pattern.thread = None  # harmless where another thread puts it back
        with suppress(ValueError):
            filters.remove(entry)
