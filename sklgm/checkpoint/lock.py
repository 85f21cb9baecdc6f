"""A lock file that names its process, so that one left behind by a dead process does not hold."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

# A lock is empty for the moment between its making and its writing, and guarded for that of its
# removal; after these seconds whoever was at it must have died.
_SECONDS_EMPTY = 10


class FileLock:
    """A file that only one process can hold.

    Parameters
    ----------
    path : Path
        The file. Its folder must be there.

    Raises
    ------
    ValueError
        If another process, or another thread of this one, holds it.
    OSError
        If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = {**_this_process(), "token": uuid.uuid4().hex}
        while not self._make():
            found = _read(path)
            if found is None:
                continue  # released just now
            if _may_be_alive(found, path):
                self._refuse(found)
            self._remove_stale()

    def check(self) -> None:
        """Raise an ``OSError`` unless the lock is still held."""
        if _read(self.path) != self._owner:
            raise OSError(
                f"{str(self.path)!r} was removed or replaced while this process held it. Let no "
                f"two fits share a checkpoint."
            )

    def release(self) -> None:
        """Remove the file, if it still is this one's."""
        with contextlib.suppress(OSError):
            if _read(self.path) == self._owner:
                self.path.unlink()

    def _make(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._owner, file)
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _remove_stale(self) -> None:
        """Remove what a dead process left, unless another process is about to do so."""
        guard = self.path.with_name(f"{self.path.name}.removing")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            if _age(guard) > _SECONDS_EMPTY:
                guard.unlink(missing_ok=True)  # its maker died, too
            time.sleep(0.01)
            return
        try:
            # Looked at again, since a lock found here is now removed by nobody else.
            found = _read(self.path)
            if found is not None and not _may_be_alive(found, self.path):
                self.path.unlink(missing_ok=True)
        finally:
            guard.unlink(missing_ok=True)

    def _refuse(self, owner: dict[str, Any]) -> None:
        who = "another process"
        if owner:
            who = f"process {owner.get('pid')} on {owner.get('host')}"
        raise ValueError(
            f"{str(self.path)!r} says that {who} uses this checkpoint. Pass another path, wait for "
            f"it to end, or delete that file if no such process is running."
        )


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot(), "pid": pid, "started": _started(pid)}


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a lock says, nothing of one that says nothing, None without a lock."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _may_be_alive(owner: dict[str, Any], path: Path) -> bool:
    if type(owner.get("pid")) is not int:
        return _age(path) < _SECONDS_EMPTY
    if owner.get("host") != socket.gethostname():
        return True  # which cannot be known from here
    if owner.get("boot") != _boot():
        return False
    return _is_running(owner["pid"]) and owner.get("started") == _started(owner["pid"])


def _age(path: Path) -> float:
    """Return for how many seconds a file has been there; 0 if it is not."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # where asking is a signal that ends processes
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return _stat(pid)[:1] not in (["Z"], ["X"])  # dead, but not yet waited for


def _started(pid: int) -> str | None:
    """Return when a process began, since numbers of processes come again; None if unknown."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else None


def _stat(pid: int) -> list[str]:
    """Return what Linux says of a process, from its state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
