"""Arrays, lists of arrays and what is refused as X."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split

from sklgm.images import ImageSource, check_images

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def stack(source):
    return np.stack(list(source))


def test_uint8_images_are_unchanged_copies():
    source = check_images(PIXELS)
    assert len(source) == 5
    assert source[-1].flags.writeable
    assert not np.shares_memory(source[0], PIXELS)
    np.testing.assert_array_equal(stack(source), PIXELS)


def test_grey_images_are_repeated():
    np.testing.assert_array_equal(
        stack(check_images(PIXELS[..., 0])), PIXELS[..., :1].repeat(3, axis=-1)
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_are_mapped_linearly_and_rounded(dtype):
    X = rng.random((4, 5, 5, 3)).astype(dtype)
    got = stack(check_images(X))
    assert got.dtype == np.uint8
    assert np.abs(got - X.astype(np.float64) * 255).max() <= 0.5001


def test_every_8_bit_value_survives_float32():
    X = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    got = check_images((X / 255).astype(np.float32))[0]
    np.testing.assert_array_equal(got[..., 0], X[0])


def test_rounding_error_beyond_the_range_is_allowed():
    X = np.full((1, 4, 4), np.nextafter(np.float32(1), np.float32(2)))
    assert check_images(X)[0].min() == 255
    assert check_images(-X + 1)[0].max() == 0


def test_read_only_strided_and_mapped_arrays_are_left_alone(tmp_path):
    X = rng.random((6, 8, 8, 3), dtype=np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    frozen = X.copy()
    frozen.flags.writeable = False
    expected = stack(check_images(X))
    np.testing.assert_array_equal(stack(check_images(mapped)), expected)
    np.testing.assert_array_equal(stack(check_images(frozen)), expected)
    np.testing.assert_array_equal(frozen, X)
    strided = check_images(X[::2, :, ::-1])
    np.testing.assert_array_equal(stack(strided), expected[::2, :, ::-1])
    assert strided[0].flags.c_contiguous


def test_big_arrays_are_not_copied():
    X = np.zeros((400, 128, 128, 3), dtype=np.float32)
    tracemalloc.start()
    check_images(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 10


def test_lists_of_arrays_may_differ_in_size_and_dtype():
    images = [PIXELS[0], PIXELS[1, :3, :, 0], PIXELS[2, :, :5] / 255]
    source = check_images(images)
    assert [image.shape for image in source] == [(6, 7, 3), (3, 7, 3), (6, 5, 3)]
    np.testing.assert_array_equal(source[2], images[2] * 255)
    boxed = np.empty(3, dtype=object)
    boxed[:] = images
    assert check_images(boxed).fingerprint() == source.fingerprint()


def test_nested_lists_of_floats_are_an_array():
    X = PIXELS / 255
    np.testing.assert_array_equal(stack(check_images(X.tolist())), PIXELS)


def test_three_grey_images_are_not_taken_for_channels():
    assert check_images(PIXELS[:3, ..., 0])[0].shape == (6, 7, 3)


def test_take_keeps_names_and_pickles_only_its_part():
    source = check_images(np.zeros((1000, 16, 16, 3), dtype=np.uint8))
    part = source.take([7, 3, 3]).take(np.array([1, 0]))
    assert [part.name(i) for i in range(2)] == ["X[3]", "X[7]"]
    mask = np.arange(1000) % 500 == 3
    assert [source.take(mask).name(i) for i in range(2)] == ["X[3]", "X[503]"]
    assert len(source.take([])) == 0
    rows = source.take(slice(3, 5))
    assert rows.items.base is source.items
    assert [rows.name(i) for i in range(len(rows))] == ["X[3]", "X[4]"]
    dumped = pickle.dumps(part)
    assert len(dumped) < 4000
    assert [pickle.loads(dumped).name(i) for i in range(2)] == ["X[3]", "X[7]"]
    with pytest.raises(IndexError):
        part[2]


def test_arrays_and_slices_select_without_decoding():
    source = check_images([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4))])
    source.items[1].close()  # reading it would fail
    assert source.shape == (2,)
    for selected in (source[1:], source[[1]], source[np.array([False, True])], source[[1], ...]):
        assert [selected.name(i) for i in range(len(selected))] == ["X[1]"]
    assert source[0].shape == (4, 4, 3)
    train, test = train_test_split(source, test_size=1, random_state=0)
    assert isinstance(train, ImageSource)
    assert len(train) == len(test) == 1


def test_fingerprints_follow_the_pixels():
    source = check_images(PIXELS)
    assert source.fingerprint() == check_images(np.asfortranarray(PIXELS)).fingerprint()
    assert source.fingerprint() == check_images(PIXELS / 255).fingerprint()
    assert source.take([0, 1]).fingerprint() != source.take([1, 0]).fingerprint()
    changed = PIXELS.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert source.fingerprint() != check_images(changed).fingerprint()
    assert source.fingerprint() != check_images(PIXELS.reshape(5, 7, 6, 3)).fingerprint()


def test_a_source_passes_through():
    source = check_images(PIXELS)
    assert isinstance(source, ImageSource)
    assert check_images(source) is source


def floats(value, image=3):
    X = np.full((5, 4, 4, 3), 0.5)
    X[image, 1, 2, 0] = value
    return X


picture = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((5, 3, 32, 32)), r"X\[0\] of shape \(3, 32, 32\).*np\.moveaxis"),
        (np.zeros((5, 1, 32, 32)), r"np\.moveaxis"),
        (np.zeros((5, 32, 32, 1)), r"a single one by X\[\.\.\., 0\]"),
        (np.zeros((5, 32, 32, 4), np.uint8), "a fourth one"),
        (np.zeros((5, 32, 32, 2)), r"shape \(32, 32, 2\)"),
        (np.zeros((5, 2, 32, 32, 3)), r"shape \(2, 32, 32, 3\)"),
        (np.zeros((20, 10)), "backbone=None"),
        (np.zeros((20, 10)).tolist(), "backbone=None"),
        (np.zeros(20), "backbone=None"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), "backbone=None"),
        ([np.zeros(8), np.zeros(8)], "backbone=None"),
        (np.zeros((32, 31, 3), np.uint8), r"a single image.*X\[None\]"),
        (np.float64(3), "X of kind float64"),
        (np.array(3.0), "X of kind ndarray"),
        (np.zeros((0, 4, 4, 3)), "empty X"),
        ([], "empty X"),
        (np.zeros((5, 0, 4, 3)), r"shape \(0, 4, 3\)"),
        ([np.zeros((4, 4, 3)), np.zeros((0, 4, 3))], r"X\[1\] of shape \(0, 4, 3\)"),
        ([Image.new("RGB", (0, 4))], "Leave out empty images"),
        (np.zeros((5, 4, 4, 3), np.uint16), r"dtype uint16.*astype\(np.uint8\)"),
        (np.zeros((5, 4, 4, 3), bool), r"dtype bool.*astype\(float\)"),
        (np.zeros((5, 4, 4, 3), complex), "dtype complex128"),
        (np.zeros((5, 4, 4, 3), object), "dtype object"),
        (np.zeros((5, 4, 4, 3), np.int32).tolist(), "dtype int64"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 4, 3), int)], r"X\[1\] of dtype int64"),
        ([[[0.0, 1.0], [0.0]], [[1.0]]], "inhomogeneous shape"),
        ([1.0, [2.0]], "a list of float and list"),
        ([None, None], r"X\[0\] .* of kind NoneType"),
        (torch.zeros(2, 4, 4, 3), r"tensor of shape \(2, 4, 4, 3\).*X\.numpy\(\)"),
        (torch.zeros(3, 4, 4), r"a single image or 3 grey ones.*X\[None\]"),
        (torch.full((2, 3, 4, 4), 255.0), r"X\[0\] go from 255 to 255"),
        ([torch.zeros(4, 4, 4)], "channels of a tensor, 1 or 3, come before"),
        (picture, "X of kind Image"),
        ("pictures", "X of kind str.*load_folder"),
        (Path("pictures"), "X of kind .*Path.*load_folder"),
        ([picture, np.zeros((4, 4, 3))], "a list of Image and ndarray"),
        (
            pd.Series(["a.png", np.nan], dtype=object),
            "a list of float and str",
        ),
        (pd.DataFrame({"path": ["a.png", "b.png"]}), "Pass its column of images or paths"),
        (None, "X of kind NoneType"),
        ({"a": picture}, "X of kind dict"),
        (iter([picture]), "iterator"),
        (floats(np.nan), r"finite.*X\[3\] go from nan"),
        (floats(np.inf), r"finite.*X\[3\] go from 0\.5 to inf"),
        (floats(1.5), r"in \[0, 1\], but those of X\[3\] go from 0\.5 to 1\.5"),
        (floats(-0.25).astype(np.float16), r"from -0\.25 to 0\.5"),
        (list(floats(2, image=4)), r"X\[4\] go from"),
    ],
)
def test_everything_else_is_refused(X, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_images(X)


@pytest.mark.parametrize("background", ["no such colour", (0, 0), (0, 0, 256), (0.5, 0, 0), None])
def test_bad_background(background):
    with pytest.raises(ValueError, match=r"background must be a colour|unknown color"):
        check_images(PIXELS, background=background)
