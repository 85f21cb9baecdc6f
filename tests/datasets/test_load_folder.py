import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from sklgm import PrototypeSet
from sklgm.datasets import _listing, load_folder
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


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def classes_of(root):
    return load_folder(root).target_names.tolist()


@pytest.fixture
def without_heif(monkeypatch):
    """Have pillow-heif look as if it were not installed, whatever other tests did."""
    monkeypatch.setattr(_listing, "register_plugins", lambda: None)
    for extension in _listing._HEIF:
        monkeypatch.delitem(Image.EXTENSION, extension, raising=False)


def test_what_is_left_out_is_counted(tmp_path, without_heif):
    phone = [f"{name}/IMG_{i}.HEIC" for name in "ab" for i in range(5)]
    others = ["a/x.svg", "a/y.CR2", "a/z.dcm", "b/w.eps", "b/thumbs/0.png"]
    no_images = ["a/notes.txt", "a/labels.json", "b/Thumbs.db", "b/film.mpg", "b/features.h5"]
    touch(tmp_path, "a/0.png", "b/0.png", *phone, *others, *no_images)
    expected = r"15 of 17 image files .* 10 \.heic, 1 .*pip install 'sklgm\[heif\]'.*Convert"
    with pytest.warns(UserWarning, match=expected):
        data = load_folder(tmp_path)
    assert [Path(path).name for path in data.paths] == ["0.png", "0.png"]
    kinds = dict.fromkeys([".svg", ".cr2", ".dcm", ".eps", "thumbnails"], 1)
    assert data.left_out == {".heic": 10, **kinds}
    touch(tmp_path, "c/0.heic")
    with pytest.raises(ValueError, match=r"c' holds no image .*1 \.heic.*sklgm\[heif\]"):
        load_folder(tmp_path)


def test_images_without_an_extension_are_counted(tmp_path):
    touch(tmp_path, "a/0.png", "b/0.png", "b/README")
    Image.new("RGB", (4, 4)).save(tmp_path / "b" / "photo", "jpeg")
    with pytest.warns(UserWarning, match="1 without extension.*Give files their extension"):
        assert load_folder(tmp_path).left_out == {"without extension": 1}


def test_heic_is_listed_where_it_can_be_read(tmp_path):
    pytest.importorskip("pillow_heif")
    data = load_folder(touch(tmp_path, "a/0.png", "a/1.HEIC", "b/0.heif"))
    assert data.target.tolist() == ["a", "a", "b"]
    assert data.left_out == {}


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/dog/0.png"], "train"),
        (["Training/cat/0.png", "VALID/cat/0.png", "extra/fox/0.png"], "Training"),
        (["seg_train/cat/0.png", "seg_test/cat/0.png", "seg_pred/0.png"], "seg_train"),
        (["train_v2/cat/0.png", "test_v2/cat/0.png"], "train_v2"),
        (["FinalTrain/cat/0.png", "FinalTest/cat/0.png"], "FinalTrain"),
        (["train_64x64/cat/0.png", "val_64x64/cat/0.png"], "train_64x64"),
        (["development/cat/0.png", "evaluation/cat/0.png"], "development"),
        (["images/train/cat/0.png", "images/val2017/cat/0.png", "labels.csv"], "images/train"),
        (["train/cat/0.png", "train/dog/0.png", "notes.txt"], "train"),
        (["train/cat/0.png", "test/0.png", "test/1.png"], "train"),
        (["train/0.png", "test/cat/0.png", "test/dog/0.png"], "test"),
        (["dev/cat/0.png", "test/cat/0.png"], "dev"),
        (["train/cat/0.png", "train/dog/0.png", "train/all.png", "val/cat/0.png", "val/dog/0.png"],
         "train"),
    ],
)  # fmt: skip
def test_splits_are_no_classes(tmp_path, names, meant):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=f"Pass '{tmp_path / meant}' in its place"):
        load_folder(tmp_path)
    assert classes_of(tmp_path / meant)[0] == "cat"


@pytest.mark.parametrize(
    "names",
    [
        ["test/0.png", "train/0.png"],
        ["cat/0.png", "test/0.png"],
        ["bullet train/day/0.png", "freight_train/day/0.png"],
        ["bus/photo/0.png", "bus/sketch/0.png", "train/photo/0.png", "train/sketch/0.png"],
    ],
)
def test_classes_may_be_called_like_splits(tmp_path, names):
    assert classes_of(touch(tmp_path, *names)) == sorted({name.split("/")[0] for name in names})


def test_what_the_package_wrote_is_no_class(tmp_path):
    touch(tmp_path, "cat/0.png", "dog/0.png")
    made = PrototypeSet(np.zeros((2, 4, 4, 3)), ["cat", "dog"])
    for place in ("prototypes", "cat/prototypes", "sklgm-demo/prototypes"):
        made.save(tmp_path / place)
    touch(tmp_path, "sklgm-demo/embedding.png", "sklgm-demo/prototypes.png")
    touch(tmp_path, "p.work/joblib/sklgm/output.pkl", "p.work/.gitignore")
    data = load_folder(tmp_path)
    assert (data.target.tolist(), data.left_out) == (["cat", "dog"], {})
    with pytest.raises(ValueError, match=r"pass .*images' to take their pictures"):
        load_folder(tmp_path / "prototypes")
    assert classes_of(tmp_path / "prototypes" / "images") == ["cat", "dog"]
    touch(tmp_path, "fox/card.json", "fox/0.png")  # a card of somebody else's
    assert classes_of(tmp_path) == ["cat", "dog", "fox"]


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", ".thumbnails", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"),
        *("lost+found", "#recycle", ".AppleDouble", ".ipynb_checkpoints", ".@__thumb"),
        *("~snapshot", "FOUND.000", "Previews.lrdata"),
    ],
)
def test_folders_that_machines_keep_are_left_out(tmp_path, name):
    touch(tmp_path, "cat/0.png", "dog/0.png", "cat/._0.png", f"{name}/0.png", f"cat/{name}/1.png")
    data = load_folder(tmp_path)
    assert [Path(path).name for path in data.paths] == ["0.png", "0.png"]


def test_links_are_followed_and_loops_are_not(tmp_path):
    root = touch(tmp_path / "set", "cat/0.png", "dog/0.png", "dog/in/1.png")
    touch(tmp_path / "other", "more/2.png", "fox/3.png")
    (root / "cat" / "more").symlink_to(tmp_path / "other" / "more")
    (root / "fox").symlink_to(tmp_path / "other" / "fox")
    datasets = pytest.importorskip("torchvision.datasets")
    expected = sorted(path for path, _ in datasets.ImageFolder(root).samples)
    assert sorted(load_folder(root).paths) == expected
    (root / "cat" / "itself").symlink_to(".")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "in" / "up").symlink_to("../../..")
    (tmp_path / "other" / "more" / "again").symlink_to(tmp_path / "other" / "more")
    (root / "whole").symlink_to(".")
    (root / "ring").symlink_to("ring")
    assert sorted(load_folder(root).paths) == expected
    (root / "cat" / "dog").symlink_to(root / "dog")
    (root / "dog" / "cat").symlink_to(root / "cat")
    data = load_folder(root)
    for name in ("cat", "dog"):
        own = [Path(path).resolve().name for path in data.paths[data.target == name]]
        assert sorted(own) == ["0.png", "0.png", "1.png", "2.png"]


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cafe\u0301".encode(), "caf\u00e9".encode()], "look the same: .*Unicode form"),
        ([b"cat", b"caf\xe9"], r"caf\\xe9.*is not UTF-8.*Rename"),
    ],
)
def test_classes_that_cannot_be_told_apart_or_saved(tmp_path, names, message):
    for name in names:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        touch(folder, "0.png")
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


def test_damaged_files_are_left_out_on_demand(tmp_path):
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.effect_noise((40, 40), 50).save(tmp_path / f"{name}.jpg")
    for name in ("a/1", "b/0"):
        file = tmp_path / f"{name}.jpg"
        file.write_bytes(file.read_bytes()[:300])
    assert len(load_folder(tmp_path).paths) == 5
    with pytest.warns(UserWarning, match=r"2 of 5 files .*a/1\.jpg: .*b/0\.jpg: "):
        data = load_folder(tmp_path, on_error="skip", n_jobs=2)
    assert [path[-7:] for path in data.paths] == ["a/0.jpg", "a/2.jpg", "b/1.jpg"]
    assert data.target.tolist() == ["a", "a", "b"]
    assert data.left_out == {"damaged": 2}
    (tmp_path / "b" / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"No image of \['b'\] is left\. 3 of 5"):
        load_folder(tmp_path, on_error="skip")
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        load_folder(tmp_path, on_error="ignore")
