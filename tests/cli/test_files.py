"""The command on the files that people have, and where they have it write."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sklgm import FrozenBackboneProbe, PrototypeSet
from sklgm.cli.app import app
from sklgm.datasets import _listing

# They are shown as Python shows them by default, and are no errors.
pytestmark = pytest.mark.filterwarnings("default")
NET = ("--backbone", "efficientnet_lite0", "--image-size", 32)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def pictures(root, *classes, n=3):
    rng = np.random.default_rng(0)
    for value, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(80 * value, 80 * value + 60, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def damage(file):
    file.write_bytes(file.read_bytes()[:100])


@pytest.fixture
def no_fit(monkeypatch):
    """Have a fit be a failure of the test, since what is wrong must be told before it."""

    def fit(*args, **kwargs):
        raise AssertionError("the work was begun")

    monkeypatch.setattr("sklgm.LGMDistiller.fit", fit)
    monkeypatch.setattr(FrozenBackboneProbe, "fit", fit)


@pytest.fixture
def fitted_data(monkeypatch):
    """Return the X of what is fitted, in place of fitting it."""
    seen = []

    def fit(self, X, y):
        seen.append(X)
        raise ValueError("seen")

    monkeypatch.setattr("sklgm.LGMDistiller.fit", fit)
    return seen


@pytest.mark.real
def test_distill_counts_what_it_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(_listing, "register_plugins", lambda: None)
    for extension in _listing._HEIF:
        monkeypatch.delitem(Image.EXTENSION, extension, raising=False)
    root = pictures(tmp_path / "data", "a", "b", n=2)
    for i in range(5):
        (root / "a" / f"IMG_{i}.HEIC").touch()
    damage(root / "b" / "1.png")
    options = (*NET, "--max-iter", 1, "--json", "--skip-damaged")
    result = run("distill", root, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["n_images"], record["n_left_out"]) == (3, 6)
    left_out, damaged = result.stderr.splitlines()
    assert left_out.startswith("Warning: 5 of 9 image files in ")
    assert "5 .heic. Install pillow-heif" in left_out
    assert "1 of 4 files" in damaged
    assert str(root / "b" / "1.png") in damaged


def test_a_second_run_does_not_take_the_output_of_the_first(tmp_path, monkeypatch, fitted_data):
    monkeypatch.chdir(pictures(tmp_path, "cat", "dog"))
    PrototypeSet(np.zeros((2, 4, 4, 3)), ["cat", "dog"]).save("prototypes")
    run("distill", ".", "--overwrite")
    assert {Path(path).parts[0] for path in fitted_data[0]} == {"cat", "dog"}


def test_paths_of_windows_find_their_files(tmp_path, fitted_data):
    root = pictures(tmp_path, "a", "b")
    (root / "table.csv").write_text("path,label\na\\0.png,x\nb\\0.png,y\n")
    run("distill", root / "table.csv", "--out", root / "out")
    assert fitted_data[0].tolist() == [str(root / "a" / "0.png"), str(root / "b" / "0.png")]


def test_the_folder_above_train_and_test_is_refused(tmp_path, no_fit):
    for part in ("train", "test"):
        pictures(tmp_path / "data" / part, "cat", "dog")
    result = run("distill", tmp_path / "data", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"Pass '{tmp_path / 'data' / 'train'}'" in result.stderr


def blocked_places(root):
    """Yield places that cannot be written to, each with what the error says."""
    (root / "file").write_text("x")
    (root / "ring").symlink_to(root / "ring")
    yield root / "file" / "deep" / "out", "Not a directory"
    yield root / "file", "Not a directory"
    yield root / "ring", "symbolic links"
    yield root / ("n" * 250), "name too long"
    yield Path("/proc/nothing/out"), "nothing can be written there"


@pytest.mark.skipif(sys.platform != "linux", reason="has other limits")
def test_distill_tries_to_write_before_the_work(tmp_path, no_fit):
    root = pictures(tmp_path / "data", "a", "b")
    for out, message in blocked_places(tmp_path):
        before = sorted(path.name for path in tmp_path.iterdir())
        result = run("distill", root, "--out", out)
        assert (result.exit_code, message in result.stderr) == (1, True), result.output
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_demo_tries_to_write_before_the_work(tmp_path, no_fit):
    (tmp_path / "file").write_text("x")
    result = run("demo", "--data", "digits", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_before_the_work(tmp_path, no_fit):
    root = pictures(tmp_path / "data", "a", "b")
    root.chmod(0o555)
    result = run("distill", root, "--out", root / "out")
    assert "Permission denied" in result.stderr
    assert f"{root / 'out'}" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_a_class_that_is_not_utf8_is_told_before_the_work(tmp_path, no_fit):
    root = pictures(tmp_path / "data", "a", "b")
    shutil.copytree(root / "a", os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
    result = run("distill", root, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert r"b'caf\xe9'" in result.stderr
    assert "not UTF-8" in result.stderr


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_other_names_that_are_not_utf8_are_no_hindrance(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    root = pictures(odd, "a", "b")
    (root / "a" / "0.png").rename(os.fsdecode(os.fsencode(root) + b"/a/\xe9.png"))
    result = run("distill", root, "--out", f"{odd}-p", *NET, "--max-iter", 1)
    assert result.exit_code == 0, result.output
    assert PrototypeSet.load(f"{odd}-p").provenance["data"]["name"] == odd.name
    assert r"caf\udce9-p" in result.output.replace("\n", "")


@pytest.mark.real
def test_a_test_folder_may_lack_a_class(tmp_path, quick_probes):
    train = pictures(tmp_path / "train", "cat", "dog", "fox")
    test = pictures(tmp_path / "test", "cat", "dog")
    PrototypeSet(
        np.random.default_rng(0).random((3, 36, 36, 3)),
        ["cat", "dog", "fox"],
        {"parameters": {"backbone": "efficientnet_lite0", "image_size": 32}},
    ).save(tmp_path / "p")
    for more in ((), ("--train", train)):
        result = run("evaluate", tmp_path / "p", "--test", test, *more, "--seeds", 1, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr.startswith(
            "Warning: There is no test image of ['fox'], 1 of 3 classes"
        )
    (row,) = [
        row
        for row in json.loads(result.stdout)["efficientnet_lite0"]
        if row["selection"] == "prototypes"
    ]
    assert row["n_images"] == 3
    nets = ("--backbone", "efficientnet_lite0", "--seeds", 1, "--max-iter", 1, "--image-size", 32)
    result = run("transfer", train, "--test", test, *nets, "--set", "n_views=1", "--json")
    assert result.exit_code == 0, result.output
    assert "no test image of ['fox']" in result.stderr
    page = tmp_path / "page.html"
    shown = ("--train", train, "--test", test, "--seeds", 1, "--out", page)
    result = run("report", tmp_path / "p", *shown)
    assert result.exit_code == 0, result.output
    assert "no test image of ['fox']" in result.stderr
    pictures(tmp_path / "test", "owl")
    result = run("evaluate", tmp_path / "p", "--test", test, "--seeds", 1)
    assert result.exit_code == 1
    assert "include ['owl']" in result.stderr


def test_check_lists_every_damaged_file(tmp_path):
    root = pictures(tmp_path / "data", "a", "b", n=4)
    assert run("check", root).output == "8 images of 2 classes, 0 of them damaged\n"
    bad = [root / "a" / "2.png", root / "b" / "0.png", root / "b" / "3.png"]
    for file in bad:
        damage(file)
    (root / "a" / "x.svg").touch()
    result = run("check", root, "--json", "--jobs", 2)
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert list(record.pop("damaged")) == list(map(str, bad))
    assert record == {
        "n_images": 8,
        "classes": {"a": 4, "b": 4},
        "left_out": {".svg": 1},
    }
    (root / "t.csv").write_text("path,label\na/2.png,x\nb/1.png,y\nb/9.png,y\n")
    result = run("check", root / "t.csv")
    assert result.exit_code == 1
    first, second, last = result.stdout.splitlines()
    assert first.startswith(str(bad[0]))
    assert second == f"{root / 'b' / '9.png'}: there is no such file"
    assert last.startswith("3 images of 2 classes, 2 of them damaged")


def test_very_large_images_are_read_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    root = pictures(tmp_path, "a", "b", n=1)
    assert run("check", root).exit_code == 1
    assert run("check", root, "--max-pixels", 480).exit_code == 0
    assert Image.MAX_IMAGE_PIXELS == 200


def test_quiet_prints_no_result(tmp_path, monkeypatch):
    class Fitted:
        prototypes_ = np.zeros((2, 4, 4, 3))
        prototype_labels_ = classes_ = np.array(["a", "b"])
        loss_curve_, n_iter_ = [1.0], 1

    monkeypatch.setattr(
        "sklgm.LGMDistiller.fit", lambda self, X, y: vars(self).update(vars(Fitted))
    )
    result = run("distill", pictures(tmp_path, "a", "b"), "--out", tmp_path / "p", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
