"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write to, beside a file whose place it takes at the end.

    So the file is safe for whoever has the old one mapped into memory. After an error the old one
    is still there, and the new one is not.

    Parameters
    ----------
    target : Path
        The file, which may be there or not.

    Yields
    ------
    Path
        A name that no other thread or process uses.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = target.with_name(f".{target.name}.{writer}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
