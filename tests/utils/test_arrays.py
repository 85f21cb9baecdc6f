import tempfile

import numpy as np
import pytest

from sklgm.utils import arrays

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


def parts_then_error():
    yield PARTS[0]
    raise RuntimeError("no more")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_parts_become_one_array(kind, small_memory, tmp_path):
    parts = [part.astype(kind) for part in PARTS]
    kept = tmp_path / "new" / "kept.npy"
    for path, shape in ((None, ROWS.shape), (None, (4, 3, 2)), (kept, ROWS.shape)):
        whole = arrays.gather(parts[: 1 if shape[0] == 4 else None], shape, path)
        assert whole.dtype == np.float32
        assert whole.flags.writeable
        np.testing.assert_array_equal(whole, ROWS[: shape[0]])
    np.testing.assert_array_equal(np.load(kept), ROWS)


def test_temporary_files_have_no_name(small_memory):
    whole = arrays.gather(PARTS, ROWS.shape)
    assert not list(small_memory.iterdir())
    whole += 1
    np.testing.assert_array_equal(whole, ROWS + 1)


def test_what_is_kept_does_not_change(tmp_path):
    arrays.gather(PARTS, ROWS.shape, tmp_path / "kept.npy")[:] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "kept.npy"), ROWS)


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError, match="no more"):
        arrays.gather(parts_then_error(), ROWS.shape, tmp_path / "kept.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [False, True])
def test_the_disk_is_looked_at_first(kept, small_memory, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 239})
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda folder: usage)
    path = tmp_path / "kept.npy" if kept else None
    folder = tmp_path if kept else small_memory
    with pytest.raises(OSError, match=f"10 samples.*{folder}.*TMPDIR"):
        arrays.gather(parts_then_error(), ROWS.shape, path)
    assert not list(folder.glob("*.*"))
    usage.free = 240
    np.testing.assert_array_equal(arrays.gather(PARTS, ROWS.shape, path), ROWS)
