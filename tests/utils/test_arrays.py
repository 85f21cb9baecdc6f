import tempfile

import numpy as np
import pytest

from sklgm.utils import arrays, files

ROWS = np.arange(60, dtype=np.float32).reshape(10, 3, 2)
PARTS = np.split(ROWS, [4, 7])


@pytest.fixture
def small_memory(tmp_path, monkeypatch):
    """Let arrays above 100 bytes be large ones, and return the folder of temporary files."""
    monkeypatch.setattr(arrays, "_MOST_IN_MEMORY", 100)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def parts(start):
    """Return the parts from a row on, at which one begins."""
    first = [0, 4, 7].index(start)
    return iter(PARTS[first:])


def broken(start):
    """Return a part, or the one after it, and fail."""
    yield PARTS[0] if start == 0 else PARTS[1]
    raise RuntimeError(f"after {start}")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_parts_become_one_array(kind, small_memory, tmp_path):
    def of_kind(start):
        return (part.astype(kind) for part in parts(start))

    for path in (None, tmp_path / "new" / "kept.npy"):
        whole = arrays.gather(of_kind, ROWS.shape, path)
        assert whole.dtype == np.float32
        assert whole.flags.writeable
        np.testing.assert_array_equal(whole, ROWS)
    np.testing.assert_array_equal(np.load(path), ROWS)
    assert list(path.parent.iterdir()) == [path]


def test_temporary_files_have_no_name(small_memory):
    whole = arrays.gather(parts, ROWS.shape)
    assert not list(small_memory.iterdir())
    whole += 1
    np.testing.assert_array_equal(whole, ROWS + 1)
    small = arrays.gather(lambda start: PARTS[:1], PARTS[0].shape)
    np.testing.assert_array_equal(small, PARTS[0])


def test_what_is_kept_does_not_change(tmp_path):
    arrays.gather(parts, ROWS.shape, tmp_path / "kept.npy")[:] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "kept.npy"), ROWS)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_what_was_written_is_not_asked_for_again(seconds, tmp_path, monkeypatch):
    """But for the last minute."""
    monkeypatch.setattr(files, "_SECONDS", seconds)
    monkeypatch.setattr(files, "_LEAST_TIMES", 0)
    path, second = tmp_path / "kept.npy", 4 if seconds == 0 else 0
    with pytest.raises(RuntimeError, match="after 0"):
        arrays.gather(broken, ROWS.shape, path)
    assert not path.exists()
    with pytest.raises(RuntimeError, match=f"after {second}"):
        arrays.gather(broken, ROWS.shape, path)
    np.testing.assert_array_equal(arrays.gather(parts, ROWS.shape, path), ROWS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [False, True])
def test_the_disk_is_looked_at_first(kept, small_memory, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 239})
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: usage)
    path = tmp_path / "kept.npy" if kept else None
    folder = tmp_path if kept else small_memory
    with pytest.raises(OSError, match=f"10 samples.*{folder}.*TMPDIR"):
        arrays.gather(broken, ROWS.shape, path)
    assert not list(folder.glob("*.*"))
    usage.free = 240
    np.testing.assert_array_equal(arrays.gather(parts, ROWS.shape, path), ROWS)
