"""Files that are whole or not there at all."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Seconds between two files of work that goes on.
_SECONDS = 60.0
# If writing takes long, files are written so rarely that it takes a twentieth of the time at most.
_LEAST_TIMES = 20


class WritingInterval:
    """When the next file is to be written: a minute after the last, or later if that took long."""

    def __init__(self) -> None:
        self._due = time.monotonic() + _SECONDS

    def is_over(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() >= self._due

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Time what is written inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self._due = end + max(_SECONDS, _LEAST_TIMES * (end - start))


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path to write to, beside a file whose place it takes at the end.

    So the file is safe for whoever has the old one mapped into memory, and after an error the old
    one is still there. The path is of no other thread or process. The new file is on the disk
    before it has the name, or a loss of power could leave it empty.
    """
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = target.with_name(f".{target.name}.{writer}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def try_writing(target: Path, *inside: str) -> None:
    """Raise OSError unless a file or folder, with folders in it, can be written: by trying.

    Folders above it may be missing. Nothing is left behind: all is made in a folder of its own, in
    the nearest one that is there.
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
