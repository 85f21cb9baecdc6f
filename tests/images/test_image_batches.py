"""Resizing against torchvision, and batches prepared in threads."""

import threading
import time
import tracemalloc
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from sklgm.images import check_images, iter_batches, resize_crop

rng = np.random.default_rng(2)


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (31, 97), (200, 113), (1, 5), (640, 480)])
@pytest.mark.parametrize("size", [1, 56, 64, 225])
def test_resize_crop_is_torchvisions(shape, size):
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = image.copy()
    theirs = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])
    for given in (image, Image.fromarray(image)):
        got = resize_crop(given, size)
        np.testing.assert_array_equal(got, np.asarray(theirs(Image.fromarray(image))))
        np.testing.assert_array_equal(np.asarray(given), before)
        assert got.flags.writeable


def test_files_are_resized_without_a_copy_of_the_whole(tmp_path, monkeypatch):
    """Copies hold Python's lock, and take as long as the decoding of a JPEG."""
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    source = check_images([tmp_path / "a.jpg"])
    expected = resize_crop(source[0], 16)
    exported = []
    export = Image.Image.tobytes

    def count(image, *args):
        exported.append(image.size)
        return export(image, *args)

    monkeypatch.setattr(Image.Image, "tobytes", count)
    monkeypatch.setattr(Image.Image, "copy", lambda image: pytest.fail("a copy"))
    (batch,) = iter_batches(source, partial(resize_crop, size=16), batch_size=1)
    np.testing.assert_array_equal(batch[0], expected)
    assert exported == [(16, 16)]


def test_resize_crop_copies_the_right_size():
    """A sequence may give one buffer again and again, and a batch is made of many images."""
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    got = resize_crop(image, 8)
    np.testing.assert_array_equal(got, image)
    assert not np.shares_memory(got, image)


def numbered(n):
    """Images whose first pixel tells their number."""
    return check_images(np.arange(n, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2))


def first_pixel(image):
    return np.asarray(image)[0, 0, :1]


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 20, 100])
def test_batches_come_in_order(n_jobs, batch_size):
    batches = list(iter_batches(numbered(20), first_pixel, batch_size=batch_size, n_jobs=n_jobs))
    sizes = [len(batch) for batch in batches]
    assert sizes[:-1] == [batch_size] * (len(batches) - 1)
    assert np.concatenate(batches).ravel().tolist() == list(range(20))


def test_images_of_any_size_become_one_batch():
    images = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(5)]
    (batch,) = iter_batches(check_images(images), partial(resize_crop, size=16), batch_size=8)
    np.testing.assert_array_equal(batch, [resize_crop(image, 16) for image in images])


def test_batches_are_copies():
    X = np.zeros((2, 4, 4, 3), np.uint8)
    (batch,) = iter_batches(check_images(X), partial(resize_crop, size=4), batch_size=2)
    batch[:] = 1
    assert X.max() == 0


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    check_images([path])[0]  # plugins are loaded once
    batch_size = 8
    peaks = []
    for n in (40, 400):
        source = check_images([path] * n)
        tracemalloc.start()
        for _ in iter_batches(source, np.asarray, batch_size=batch_size, n_jobs=2):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Fifty batches are read; a few are on their way, and what decodes them takes some room too.
    assert max(peaks) < 10 * batch_size * 64 * 64 * 3


class Counter:
    """A transform that counts its calls and the threads it ran in."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = 0
        self.threads = set()

    def __call__(self, image):
        with self.lock:
            self.calls += 1
            self.threads.add(threading.get_ident())
        return image


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_at_most_two_batches_ahead_of_a_slow_consumer(n_jobs):
    counter = Counter()
    for i, _ in enumerate(iter_batches(numbered(60), counter, batch_size=6, n_jobs=n_jobs)):
        allowed = min((i + 3) * 6, 60)
        deadline = time.monotonic() + 10
        while counter.calls < allowed and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert counter.calls == allowed
    assert threading.get_ident() not in counter.threads
    assert len(counter.threads) <= n_jobs


OTHERS = set()


@pytest.fixture(autouse=True)
def note_other_threads():
    """A test elsewhere that expected an error may still hold some."""
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def threads_at_work():
    own = set(threading.enumerate()) - OTHERS
    return [thread for thread in own if thread.name.startswith("sklgm-images")]


def test_closing_stops_the_threads():
    counter = Counter()
    batches = iter_batches(numbered(200), counter, batch_size=10, n_jobs=2)
    next(batches)
    batches.close()
    assert threads_at_work() == []
    assert counter.calls <= 30


def test_a_batch_in_work_is_left_when_closing():
    def slow(image):
        if image[0, 0, 0] >= 10:
            time.sleep(0.1)
        return image

    batches = iter_batches(numbered(200), slow, batch_size=10, n_jobs=1)
    next(batches)
    start = time.perf_counter()
    batches.close()
    assert time.perf_counter() - start < 0.6


def test_an_unused_iterator_starts_no_thread():
    batches = iter_batches(numbered(5), first_pixel, batch_size=2)
    assert threads_at_work() == []
    batches.close()


def test_the_number_of_threads_follows_joblib():
    counter = Counter()
    with parallel_config(backend="threading", n_jobs=2):
        list(iter_batches(numbered(50), counter, batch_size=10))
    assert len(counter.threads) <= 2


def test_one_bad_file_among_a_thousand(tmp_path):
    content = tmp_path / "good.png"
    Image.new("RGB", (2, 2)).save(content)
    paths = [tmp_path / f"{i:03}.png" for i in range(1000)]
    for path in paths:
        path.write_bytes(content.read_bytes())
    paths[617].write_bytes(content.read_bytes()[:40])
    batches = iter_batches(check_images(paths), first_pixel, batch_size=50, n_jobs=2)
    assert sum(len(next(batches)) for _ in range(12)) == 600
    with pytest.raises(ValueError, match=r"617\.png cannot be read as an image: ") as error:
        next(batches)
    assert error.value.__cause__ is not None
    assert threads_at_work() == []


def test_one_lazily_opened_picture_is_read_safely_by_several_threads(tmp_path):
    pixels = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as image:
        source = check_images([image]).take(np.zeros(16, dtype=int))
        for batch in iter_batches(source, np.asarray, batch_size=16, n_jobs=8):
            assert (batch == pixels).all()
