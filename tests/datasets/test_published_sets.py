"""Data sets of others, in small fakes of the layouts they are published in."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from sklgm.datasets import load_spawrious, load_waterbirds

BREEDS = ["bulldog", "corgi", "dachshund", "labrador"]
PLACES = ["beach", "desert", "dirt", "jungle", "mountain", "snow"]


@pytest.fixture
def spawrious(tmp_path):
    for environment, place, breed in itertools.product("01", PLACES, BREEDS):
        folder = tmp_path / "spawrious224" / environment / place / breed
        folder.mkdir(parents=True)
        for i in range(3):
            (folder / f"{breed}_{i}.png").touch()
        (folder / "notes.txt").touch()
    return tmp_path


def pairs(data):
    """Return the places of each breed."""
    found = {breed: set() for breed in BREEDS}
    for label, group in zip(data.target, data.groups, strict=True):
        found[data.target_names[label]].add(str(data.group_names[group]))
    return found


def test_spawrious_one_to_one(spawrious):
    train = load_spawrious(str(spawrious))
    assert pairs(train) == {
        "bulldog": {"desert", "beach"},
        "dachshund": {"jungle", "beach"},
        "labrador": {"dirt", "beach"},
        "corgi": {"snow", "beach"},
    }
    assert len(train.paths) == 2 * 4 * 2 * 3
    test = load_spawrious(spawrious, subset="test")
    assert pairs(test) == {
        "bulldog": {"dirt"},
        "dachshund": {"snow"},
        "labrador": {"desert"},
        "corgi": {"jungle"},
    }
    assert len(test.paths) == 2 * 4 * 3
    assert not set(train.paths) & set(test.paths)


def test_spawrious_labels_are_what_the_paths_say(spawrious):
    data = load_spawrious(spawrious, challenge="o2o_hard")
    for path, label, group, environment in zip(
        data.paths, data.target, data.groups, data.environments, strict=True
    ):
        expected = [str(environment), data.group_names[group], data.target_names[label]]
        assert path.split("/")[-4:-1] == expected
        assert path.endswith(".png")
    paths, target = load_spawrious(spawrious, challenge="o2o_hard", return_X_y=True)
    assert paths.tolist() == data.paths.tolist()
    np.testing.assert_array_equal(target, data.target)


def test_spawrious_many_to_many(spawrious):
    train = load_spawrious(spawrious, challenge="m2m_hard")
    test = load_spawrious(spawrious, challenge="m2m_hard", subset="test")
    first, second = {"dirt", "jungle"}, {"snow", "beach"}
    assert pairs(train) == {
        "bulldog": first, "dachshund": first, "labrador": second, "corgi": second
    }  # fmt: skip
    assert pairs(test) == {
        "bulldog": second, "dachshund": second, "labrador": first, "corgi": first
    }  # fmt: skip
    assert set(train.environments) == {0}


def test_spawrious_takes_the_published_numbers(spawrious):
    top = spawrious / "spawrious224"
    for environment, place in (("0", "beach"), ("1", "beach"), ("0", "desert")):
        for i in range(3168):
            (top / environment / place / "bulldog" / f"{i:05d}.png").touch()
    data = load_spawrious(spawrious)
    bulldogs = data.target == 0
    counts = {
        (place, environment): int(
            (bulldogs & (data.groups == PLACES.index(place)) & (data.environments == environment))
            .sum()
        )
        for place in ("beach", "desert")
        for environment in (0, 1)
    }  # fmt: skip
    assert counts == {
        ("beach", 0): 3168 - 3072,
        ("beach", 1): 3168 - 2756,
        ("desert", 0): 3072,
        ("desert", 1): 3,
    }


def test_spawrious_errors(spawrious, tmp_path):
    with pytest.raises(ValueError, match=r"challenge must be one of o2o_easy.*got 'o2o'"):
        load_spawrious(spawrious, challenge="o2o")
    with pytest.raises(ValueError, match="subset must be 'train' or 'test'"):
        load_spawrious(spawrious, subset="val")
    with pytest.raises(ValueError, match=r"missing or holds no pictures.*github\.com"):
        load_spawrious(tmp_path / "nowhere")
    for file in (spawrious / "spawrious224/1/dirt/labrador").iterdir():
        if file.suffix == ".png":
            file.unlink()
    with pytest.raises(ValueError, match=r"dirt/labrador' is missing or holds no pictures"):
        load_spawrious(spawrious)


ROWS = [
    # img_id, img_filename, y, split, place, place_filename
    (1, "001.Black_footed_Albatross/a.jpg", 1, 0, 1, "/o/ocean/1.jpg"),
    (2, "001.Black_footed_Albatross/b.jpg", 1, 2, 0, "/b/bamboo_forest/2.jpg"),
    (3, "004.Groove_billed_Ani/c.jpg", 0, 0, 0, "/f/forest/broadleaf/3.jpg"),
    (4, "004.Groove_billed_Ani/d.jpg", 0, 1, 1, "/l/lake/natural/4.jpg"),
    (5, "004.Groove_billed_Ani/e.jpg", 0, 0, 1, "/l/lake/natural/5.jpg"),
    (6, "001.Black_footed_Albatross/f.jpg", 1, 1, 1, "/o/ocean/6.jpg"),
]
COLUMNS = ["img_id", "img_filename", "y", "split", "place", "place_filename"]


def write_waterbirds(folder, rows=ROWS, columns=COLUMNS):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(row[: len(columns)] for row in rows)
    for row in rows:
        path = folder / row[1]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return folder


def test_waterbirds(tmp_path):
    folder = write_waterbirds(tmp_path)
    data = load_waterbirds(tmp_path)
    assert data.paths.tolist() == [str(folder / ROWS[i][1]) for i in (0, 2, 4)]
    assert data.target_names[data.target].tolist() == ["waterbird", "landbird", "landbird"]
    assert data.group_names[data.groups].tolist() == ["water", "land", "water"]
    splits = {name: load_waterbirds(tmp_path, subset=name) for name in ("train", "val", "test")}
    assert [len(split.paths) for split in splits.values()] == [3, 2, 1]
    assert splits["test"].target.tolist() == [1]
    assert splits["test"].groups.tolist() == [0]
    paths, target = load_waterbirds(str(tmp_path), return_X_y=True)
    assert paths.tolist() == data.paths.tolist()
    assert target.tolist() == [1, 0, 0]


def test_waterbirds_errors(tmp_path):
    with pytest.raises(ValueError, match="subset must be one of train, val, test"):
        load_waterbirds(tmp_path, subset="all")
    with pytest.raises(ValueError, match=r"no file.*metadata\.csv"):
        load_waterbirds(tmp_path)
    folder = write_waterbirds(tmp_path, columns=COLUMNS[:3])
    with pytest.raises(ValueError, match=r"Line 1 of .* must name the columns img_filename"):
        load_waterbirds(folder)
    write_waterbirds(tmp_path, rows=[(1, "a/a.jpg", 2, 0, 0, "")])
    with pytest.raises(ValueError, match=r"line 2: .* y and place must be 0 or 1; got .*'2'"):
        load_waterbirds(folder)
    write_waterbirds(tmp_path, rows=ROWS[:1])
    with pytest.raises(ValueError, match=r"no line of split 2 \(test\)"):
        load_waterbirds(folder, subset="test")
    (folder / ROWS[0][1]).unlink()
    with pytest.raises(ValueError, match=r"line 2: img_filename must name a file"):
        load_waterbirds(folder)
