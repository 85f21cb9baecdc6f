"""PIL images and files of every mode, against what Pillow itself says."""

import gc
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, TiffImagePlugin

from sklgm.images import check_images, find_damaged

rng = np.random.default_rng(1)
PIXELS = rng.integers(0, 256, (10, 14, 3), dtype=np.uint8)


def read(path, **params):
    """Read one file, and require its PIL image to give the same pixels."""
    source = check_images([path], **params)
    image = source[0]
    np.testing.assert_array_equal(np.asarray(source.read(0)), image)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(check_images([opened], **params)[0], image)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    return image


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize(
    "collect",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        lambda paths: pd.Series(paths, index=[4, 4]),
        lambda paths: [Path(path) for path in paths],
        lambda paths: np.array([Path(path) for path in paths]),
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths, dtype=np.dtypes.StringDType()),
    ],
)
def test_paths_come_in_any_sequence(png, collect):
    source = check_images(collect([str(png), str(png)]))
    np.testing.assert_array_equal(source[1], PIXELS)
    assert source.name(1) == str(png)
    assert source.fingerprint() == check_images([png, png]).fingerprint()


def test_pictures_come_in_lists_and_object_arrays():
    pictures = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[:5])]
    boxed = np.empty(2, dtype=object)
    boxed[:] = pictures
    for X in (pictures, tuple(pictures), boxed, pd.Series(pictures)):
        source = check_images(X)
        np.testing.assert_array_equal(source[1], PIXELS[:5])
        assert source.name(1) == "X[1]"
    assert source.fingerprint() == check_images([PIXELS, PIXELS[:5]]).fingerprint()


def test_relative_paths_outlive_a_change_of_folder(png, monkeypatch):
    monkeypatch.chdir(png.parent)
    source = pickle.loads(pickle.dumps(check_images(["image.png"])))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(source[0], PIXELS)


def test_file_fingerprints_follow_the_file_and_the_background(png):
    first = check_images([png]).fingerprint()
    assert first != check_images([png], background="black").fingerprint()
    os.utime(png, ns=(1, 1))
    assert first != check_images([png]).fingerprint()
    source = check_images([png])
    png.unlink()
    with pytest.raises(ValueError, match=r"image\.png"):
        source.fingerprint()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    unturned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.ascontiguousarray(unturned)).save(path, exif=exif)
    np.testing.assert_allclose(read(path), upright, atol=2)


def test_pickled_pictures_keep_their_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "image.jpg", exif=exif)
    with Image.open(tmp_path / "image.jpg") as image:
        source = check_images([image])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[0], source[0])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes(tmp_path, mode):
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(tmp_path / "image.png")
    np.testing.assert_array_equal(read(tmp_path / "image.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
def test_jpeg_modes(tmp_path, mode):
    smooth = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    Image.fromarray(smooth).convert(mode).save(tmp_path / "image.jpg", quality=95)
    expected = Image.fromarray(smooth).convert(mode).convert("RGB")
    np.testing.assert_allclose(read(tmp_path / "image.jpg"), np.asarray(expected), atol=4)


def test_ycbcr_and_hsv_pictures():
    for mode in ("YCbCr", "HSV"):
        image = Image.fromarray(PIXELS).convert(mode)
        np.testing.assert_array_equal(check_images([image])[0], np.asarray(image.convert("RGB")))


def over(colours, alpha, background):
    alpha = alpha[..., None] / 255
    return colours * alpha + np.array(background) * (1 - alpha)


@pytest.mark.parametrize(
    ("background", "colour"),
    [("white", (255, 255, 255)), ("#ff0000", (255, 0, 0)), ((1, 2, 3), (1, 2, 3))],
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited(tmp_path, mode, background, colour):
    alpha = rng.integers(0, 256, (10, 14), dtype=np.uint8)
    image = Image.fromarray(PIXELS)
    image.putalpha(Image.fromarray(alpha))
    image = image.convert(mode)
    image.save(tmp_path / "image.png")
    got = read(tmp_path / "image.png", background=background)
    colours = np.asarray(image.convert("RGBA"))[..., :3]
    np.testing.assert_allclose(got, over(colours, alpha, colour), atol=1.01)


def test_the_first_picture_of_a_camera_is_taken(tmp_path):
    """MPO holds two, of which the second may be another view or what HDR adds."""
    first, second = Image.new("RGB", (16, 16), "black"), Image.new("RGB", (16, 16), "white")
    first.save(tmp_path / "image.mpo", save_all=True, append_images=[second])
    path = (tmp_path / "image.mpo").rename(tmp_path / "image.jpg")
    assert read(path).max() == 0


def test_the_thumbnail_in_a_raw_picture_is_not_taken_for_it(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254], tags[330] = 1, 8  # a copy of reduced size, the others are elsewhere
    Image.fromarray(PIXELS).save(tmp_path / "image.tif", tiffinfo=tags)
    with pytest.raises(ValueError, match=r"image\.tif .*raw picture.*thumbnail.*develop"):
        check_images([tmp_path / "image.tif"])[0]


def test_premultiplied_and_palette_alpha_of_pictures():
    half = Image.new("RGBA", (4, 4), (100, 100, 100, 128))
    coloured = Image.new("PA", (4, 4), (1, 128))
    coloured.putpalette([0, 0, 0, 100, 100, 100])
    expected = check_images([half])[0]
    assert expected[0, 0].tolist() == [177, 177, 177]
    for image in (half.convert("RGBa"), coloured):
        np.testing.assert_allclose(check_images([image])[0], expected, atol=2)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_palette_entry(tmp_path, suffix):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / f"image.{suffix}", transparency=0)
    got = read(tmp_path / f"image.{suffix}")
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[1, 1].tolist() == [40, 50, 60]


@pytest.mark.parametrize(
    ("mode", "clear", "other"), [("L", 7, 9), ("RGB", (7, 8, 9), (9, 9, 9)), ("I;16", 700, 2570)]
)
def test_transparent_colour(tmp_path, mode, clear, other):
    image = Image.new(mode, (4, 4), other)
    image.putpixel((0, 0), clear)
    image.save(tmp_path / "image.png", transparency=clear)
    got = read(tmp_path / "image.png", background="blue")
    assert got[0, 0].tolist() == [0, 0, 255]
    assert got[1, 1].tolist() == ([10, 10, 10] if mode == "I;16" else [9, 9, 9])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path, suffix):
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read(path)[..., 1], np.arange(256).reshape(16, 16))


def test_32_bit_integers_hold_16_bits_or_are_refused(tmp_path):
    values = np.array([[0, 257], [65535, 25700]], np.int32)
    Image.fromarray(values).save(tmp_path / "image.tif")
    assert read(tmp_path / "image.tif")[..., 0].tolist() == [[0, 1], [255, 100]]
    big_endian = Image.fromarray(values.astype(">u2"))
    assert big_endian.mode == "I;16B"
    assert check_images([big_endian])[0][..., 2].tolist() == [[0, 1], [255, 100]]
    with pytest.raises(ValueError, match=r"X\[0\].*from 0 to 65536 are not 16-bit grey"):
        check_images([Image.fromarray(np.array([[0, 65536]], np.int32))])[0]


def test_float_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=r"image\.tif.*mode F .*floats in \[0, 1\]"):
        check_images([tmp_path / "image.tif"])[0]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_animations(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    first, second = Image.new("RGB", (8, 8), "black"), Image.new("RGB", (8, 8), "white")
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second], **lossless)
    assert read(path).max() == 0


def bad_files(folder):
    good = folder / "good.jpg"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good)
    content = good.read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    Image.new("1", (300, 300)).save(folder / "bomb.png")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("empty.png", "an empty file"),
        ("text.png", "a text file"),
        ("header.png", "damaged, or of a variant"),
        ("bomb.png", r"90000 pixels.* bombs.*MAX_IMAGE_PIXELS = 90000.*--max-pixels 90000"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, name, reason, monkeypatch):
    bad_files(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    source = check_images([tmp_path / "good.jpg", tmp_path / name])
    assert source[0].shape == (64, 64, 3)
    with pytest.raises(
        ValueError, match=rf"{name} cannot be read as an image: .*{reason}"
    ) as error:
        source[1]
    assert error.value.__cause__ is not None
    assert str(error.value).count(name) == 1


def test_a_large_image_is_a_warning_and_is_read(tmp_path, monkeypatch):
    bad_files(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.warns(Image.DecompressionBombWarning):
            assert check_images([tmp_path / "bomb.png"])[0].shape == (300, 300, 3)


def test_workers_allow_images_as_large_as_their_parent_does(tmp_path, monkeypatch):
    bad_files(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    sent = pickle.dumps(check_images([tmp_path / "bomb.png"]))
    Image.MAX_IMAGE_PIXELS = 20_000  # as in a process that was just started
    assert pickle.loads(sent)[0].shape == (300, 300, 3)


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied", "image.png"), OSError(116, "Stale file handle")],
)
def test_errors_of_the_system_are_reasons(png, monkeypatch, error):
    def fail(file):
        raise error

    source = check_images([png])
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ValueError, match=rf"image\.png cannot be read.*: {error.strerror}$"):
        source[0]


def test_a_file_that_vanished_is_damaged(png):
    source = check_images([png])
    png.unlink()
    assert find_damaged(source) == {0: "there is no such file"}


def test_missing_files_are_counted_up_front(png):
    with pytest.raises(ValueError, match=r"2 of 3 files cannot be found.*gone_1\.png"):
        check_images([png, png.with_name("gone_1.png"), png.with_name("gone_2.png")])


def test_a_folder_among_the_paths_is_refused(png):
    with pytest.raises(ValueError, match=r"1 of 2 files cannot be found.*load_folder"):
        check_images([png, png.parent])


def test_files_are_closed(png):
    # An open file that is collected is a ResourceWarning, which would fail this test.
    image = check_images([png])[0]
    gc.collect()
    np.testing.assert_array_equal(image, PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_are_left_as_they_were(mode):
    image = Image.new("RGBA", (4, 4), (1, 2, 3, 4)).convert(mode)
    before = image.tobytes()
    check_images([image])[0][:] = 0
    assert (image.mode, image.tobytes()) == (mode, before)
