"""The lock of a checkpoint: held by one process, and by no dead one."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from sklgm.checkpoint.lock import FileLock, _this_process

REFUSED = r"says that process .* uses this checkpoint\. Pass another path, wait for it to end, or"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.lock"


def left_by(path, **changes):
    path.write_text(json.dumps({**_this_process(), "token": "t", **changes}))


def dead_process():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_one_holder_at_a_time(path):
    lock = FileLock(path)
    with pytest.raises(ValueError, match=REFUSED):
        FileLock(path)
    lock.check()
    lock.release()
    assert not path.exists()
    FileLock(path).release()


def test_a_dead_process_holds_nothing(path):
    left_by(path, pid=dead_process())
    lock = FileLock(path)
    lock.check()
    lock.release()
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("changes", [{"started": "1"}, {"boot": "another"}])
def test_nor_does_one_whose_number_came_again(path, changes):
    left_by(path, **changes)
    FileLock(path).release()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nor_one_that_nobody_has_waited_for(path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    time.sleep(0.5)
    left_by(path, pid=process.pid, started=None)
    FileLock(path).release()
    process.wait()


@pytest.mark.parametrize("changes", [{"host": "elsewhere", "pid": 1}, {"host": "elsewhere"}])
def test_of_another_machine_it_is_not_known(path, changes):
    left_by(path, **changes)
    with pytest.raises(ValueError, match="on elsewhere uses this checkpoint"):
        FileLock(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": null}'])
def test_a_lock_that_says_nothing_holds_for_a_moment(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match=r"says that .*process.* uses this checkpoint"):
        FileLock(path)
    os.utime(path, (time.time() - 60,) * 2)
    FileLock(path).release()


def test_what_is_another_ones_is_neither_held_nor_removed(path):
    lock = FileLock(path)
    left_by(path, host="elsewhere")
    with pytest.raises(OSError, match="was removed or replaced while this process held it"):
        lock.check()
    lock.release()
    assert path.exists()
    path.unlink()
    with pytest.raises(OSError, match="was removed or replaced"):
        lock.check()
    lock.release()


def test_one_that_was_taken_over_just_now_is_left(path, monkeypatch):
    """Between a look at the lock of a dead process and its removal another process is quicker."""
    left_by(path, pid=dead_process())
    remove = FileLock._remove_stale

    def late(self):
        left_by(path, host="elsewhere")
        remove(self)

    monkeypatch.setattr(FileLock, "_remove_stale", late)
    with pytest.raises(ValueError, match="on elsewhere uses this checkpoint"):
        FileLock(path)
    assert [file.name for file in path.parent.iterdir()] == ["fit.lock"]
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_a_death_during_the_removal_is_got_over(path):
    left_by(path, pid=dead_process())
    guard = path.with_name("fit.lock.removing")
    guard.touch()
    os.utime(guard, (time.time() - 60,) * 2)
    FileLock(path).release()
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_cannot_be_written_is_not_left(path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        FileLock(path)
    assert not path.exists()


def rush(path, barrier, queue):
    barrier.wait()
    try:
        lock = FileLock(path)
    except ValueError:
        queue.put(False)
        barrier.wait()
        return
    barrier.wait()
    lock.check()
    queue.put(True)


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_gets_it(path, stale):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.interrupted_fits"])
    n = 6
    for _ in range(3):
        path.unlink(missing_ok=True)
        if stale:
            left_by(path, pid=dead_process())
        barrier, queue = context.Barrier(n), context.Queue()
        processes = [context.Process(target=rush, args=(path, barrier, queue)) for _ in range(n)]
        for process in processes:
            process.start()
        got = [queue.get(timeout=60) for _ in range(n)]
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert sum(got) == 1
