import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from sklgm.datasets import load_folder
from sklgm.images import check_images


@pytest.fixture
def root(tmp_path):
    """Two classes, with nested, hidden and foreign files among the images."""
    for name in (
        "cat/b.png",
        "cat/a.JPG",
        "cat/more/deeper/c.webp",
        "cat/.hidden.png",
        "cat/.cache/d.png",
        "cat/notes.txt",
        "cat/no_extension",
        "ape/a.bmp",
        ".git/a.png",
        "stray.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_subfolders_are_classes(root):
    data = load_folder(root)
    expected = ["ape/a.bmp", "cat/a.JPG", "cat/b.png", "cat/more/deeper/c.webp"]
    assert data.paths.tolist() == [str(root / name) for name in expected]
    assert data.target.tolist() == ["ape", "cat", "cat", "cat"]
    assert data.target_names.tolist() == ["ape", "cat"]
    paths, target = load_folder(str(root), return_X_y=True)
    assert paths.tolist() == data.paths.tolist()
    assert target.tolist() == data.target.tolist()


def test_result_is_an_X_that_can_be_split(tmp_path):
    for label, value in (("black", 0), ("white", 255)):
        for i in range(4):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (4, 4), value).save(tmp_path / label / f"{i}.png")
    data = load_folder(tmp_path)
    X, _, y, _ = train_test_split(data.paths, data.target, stratify=data.target, random_state=0)
    levels = [image.max() for image in check_images(X)]
    np.testing.assert_array_equal(y == "white", np.array(levels) == 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ((), "No such file"),
        (("set",), "Not a directory"),
        (("set/a.png", "set/.hidden/a.png"), "has no subfolders"),
        (("set/cat/a.png", "set/dog/a.txt"), "dog' holds no image"),
    ],
)
def test_errors(tmp_path, make, message):
    for name in make:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises((ValueError, OSError), match=message):
        load_folder(tmp_path / "set")
