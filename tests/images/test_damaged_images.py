"""Images that cannot be read: all of them in one error, or in a dictionary."""

import _thread
import threading
import time

import numpy as np
import pytest
from PIL import Image

from sklgm import BackboneEmbedder
from sklgm.images import check_images, find_damaged, iter_batches
from tests.tiny_backbones import tiny_backbone

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Eight photographs, of which four are cut short."""
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    for i in (2, 3, 5, 7):
        path = tmp_path / f"{i}.jpg"
        path.write_bytes(path.read_bytes()[: 1000 * (i != 5)])
    return [tmp_path / f"{i}.jpg" for i in range(8)]


@pytest.mark.parametrize("n_jobs", [None, 3])
def test_one_error_names_all(folder, n_jobs):
    embedder = BackboneEmbedder(tiny_backbone(), batch_size=2, n_jobs=n_jobs).fit(folder)
    with pytest.raises(ValueError, match=r"^\S*2\.jpg cannot be read as an image: ") as error:
        embedder.transform(folder)
    first, *others, advice = str(error.value).split("\n")
    assert first.endswith("3 more cannot be read:")
    assert [line.split(".jpg: ")[0][-1] for line in others] == ["3", "5", "7"]
    assert "5.jpg: it is an empty file" in others[1]
    assert "sklgm check FOLDER" in advice
    assert 'load_folder(FOLDER, on_error="skip")' in advice


def test_of_many_the_first_are_named_and_the_others_counted(tmp_path):
    paths = [tmp_path / f"{i:02}.png" for i in range(50)]
    for path in paths:
        path.touch()
    with pytest.raises(ValueError, match=r"^\S*00\.png cannot be read.*49 more") as error:
        list(iter_batches(check_images(paths), np.asarray, batch_size=4))
    lines = str(error.value).split("\n")
    assert len(lines) == 8
    assert lines[6] == "- and 44 more"


def test_pictures_are_named_by_their_place(folder):
    opened = [Image.open(folder[i]) for i in (0, 2, 7)]
    with pytest.raises(ValueError, match=r"(?s)^X\[1\] cannot be.*- X\[2\]: .*find_damaged\(X\)"):
        list(iter_batches(check_images(opened), np.asarray, batch_size=4))
    for picture in opened:
        picture.close()


@pytest.mark.parametrize("n_jobs", [None, 3])
def test_find_damaged(folder, n_jobs):
    found = find_damaged(folder, n_jobs=n_jobs)
    assert list(found) == [2, 3, 5, 7]
    assert "truncated" in found[2]
    assert "empty" in found[5]
    assert find_damaged(PIXELS) == {}
    places = find_damaged(check_images(folder).take([5, 0, 2]))
    assert list(places) == [0, 2]


def test_an_interruption_ends_the_search(tmp_path):
    (tmp_path / "0.png").touch()
    source = check_images([tmp_path / "0.png"] * 2000)

    def is_interrupted_soon():
        start = time.monotonic()
        threading.Timer(0.1, _thread.interrupt_main).start()
        try:
            for _ in range(100):
                find_damaged(source, n_jobs=2)
        except KeyboardInterrupt:
            return time.monotonic() - start < 5
        return False

    # Python loses an interruption that comes while it runs a finaliser, which is rare.
    assert is_interrupted_soon() or is_interrupted_soon()
