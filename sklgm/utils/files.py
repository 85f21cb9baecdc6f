"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


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


def try_writing(target: Path, *inside: str) -> None:
    """Raise OSError unless a file or folder can be written there, which is found by trying.

    Nothing is left behind: all is made in a folder of its own, in the nearest one that is there.

    Parameters
    ----------
    target : Path
        What is to be written. Folders above it may be missing.
    *inside : str
        Folders that are to be in it.

    Raises
    ------
    OSError
        With the reason, and the target's name.
    """
    base = next(folder for folder in target.parents if os.path.lexists(folder))
    try:
        with TemporaryDirectory(prefix=".", dir=base) as trial:
            whole = Path(trial) / target.relative_to(base)
            # The name that it is written under first is longer.
            partial = whole.with_name(f".{whole.name}.123456789012.partial").joinpath(*inside)
            partial.mkdir(parents=True)
            (partial / "0000.png").write_bytes(b"0")
    except OSError as error:
        reason = f"{error.strerror}: nothing can be written there, choose another place"
        raise OSError(error.errno, reason, str(target)) from error
