"""Photographs of phones, with and without the package that reads them."""

import functools
import sys

import numpy as np
import pytest
from PIL import Image

from sklgm.images import check_images, decoding

UPRIGHT = np.zeros((48, 96, 3), np.uint8)
UPRIGHT[:24, :24] = 255


@pytest.fixture
def photographs(tmp_path):
    """The same photograph as HEIC, and under the name of a JPEG."""
    decoding.register_plugins()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(UPRIGHT)))
    paths = [tmp_path / "IMG_0.HEIC", tmp_path / "IMG_1.jpg"]
    for path in paths:
        with path.open("wb") as file:
            turned.save(file, "HEIF", quality=95, exif=exif.tobytes())
    return paths


def test_they_are_read_and_stand_upright(photographs):
    for image in check_images(photographs):
        np.testing.assert_allclose(image, UPRIGHT, atol=12)


def test_without_the_package_the_message_names_the_extra(photographs, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    anew = functools.cache(decoding.register_plugins.__wrapped__)
    monkeypatch.setattr(decoding, "register_plugins", anew)
    monkeypatch.setattr(Image, "OPEN", {k: v for k, v in Image.OPEN.items() if k != "HEIF"})
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    source = check_images(photographs)
    for i, path in enumerate(photographs):
        with pytest.raises(
            ValueError, match=r'HEIC.*pillow-heif.*pip install "sklgm\[heif\]"'
        ) as error:
            source[i]
        assert str(error.value).count(path.name) == 1
