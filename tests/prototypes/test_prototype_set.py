import importlib.metadata
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import DatasetCard
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import sklgm
from sklgm import Backbone, RandomImages
from sklgm.estimators import selectors
from sklgm.prototypes.folder import check_target
from sklgm.prototypes.prototype_set import PrototypeSet
from tests.tiny_backbones import TinyConvNet


def make_set(labels, *, seed=0, provenance=None):
    images = np.random.default_rng(seed).random((len(labels), 6, 5, 3), dtype=np.float32)
    return PrototypeSet(images, np.asarray(labels), provenance or {})


def test_it_shows_its_pictures_in_a_notebook():
    shown = make_set(["cat", "a & b"])._repr_html_()
    assert shown.count("data:image/png") == 2
    assert "image_shape=(6, 5, 3)" in shown
    assert "a &amp; b" in shown
    rows = PrototypeSet(np.zeros((2, 5)), ["cat", "dog"])._repr_html_()
    assert "row_shape=(5,)" in rows
    assert "<img" not in rows


def folders(directory):
    return sorted(path.name for path in (directory / "images").iterdir())


class Distiller(BaseEstimator):
    def __init__(self, backbone="tiny", max_iter=3, module=None, sizes=(1, 2)):
        self.backbone = backbone
        self.max_iter = max_iter
        self.module = module
        self.sizes = sizes

    def fit(self):
        self.prototypes_ = np.full((2, 4, 4, 3), 0.25, dtype=np.float32)
        self.prototype_labels_ = np.array(["cat", "dog"])
        self.n_iter_ = 5
        return self


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, 1, 3, 10]),
        np.array([3, 1, 2], dtype=np.uint8),
        np.array([-1, 1]),
        np.array(["cat", "dog", "cat"]),
        np.array(["cat", "dog"], dtype=object),
        np.array([True, False]),
        np.array([0.1, 1 / 3, 2.0]),
        np.array([0.1, 2.5], dtype=np.float32),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_round_trip_is_exact_and_keeps_label_types(tmp_path, labels):
    saved = make_set(labels, provenance={"backbone": "tiny", "sizes": [1, 2], "tol": None})
    saved.save(tmp_path / "set")
    loaded = PrototypeSet.load(tmp_path / "set")
    np.testing.assert_array_equal(loaded.images, saved.images)
    assert loaded.images.dtype == np.float32
    np.testing.assert_array_equal(loaded.labels, labels)
    assert loaded.labels.dtype == saved.labels.dtype
    assert saved.labels.dtype == labels.dtype
    assert loaded.provenance == saved.provenance


SOFT = np.array([[0.9, 0.1, 0], [0.25, 0.25, 0.5], [1 / 3] * 3, [0, 1, 0]])


@pytest.mark.parametrize("labels", [[3, 1, 2, 1], ["b", "a", "c", "b"]])
def test_soft_labels_round_trip(tmp_path, labels):
    images = make_set(labels).images
    saved = PrototypeSet(images, labels, probabilities=SOFT)
    assert repr(saved).endswith("n_classes=3, image_shape=(6, 5, 3), soft_labels=True)")
    assert saved.probabilities.dtype == np.float32
    np.testing.assert_array_equal(saved.probabilities, SOFT.astype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        saved.probabilities[0] = 0
    saved.save(tmp_path / "set")
    loaded = PrototypeSet.load(tmp_path / "set")
    np.testing.assert_array_equal(loaded.probabilities, saved.probabilities)
    assert not loaded.probabilities.flags.writeable
    make_set(labels).save(tmp_path / "set", overwrite=True)
    assert PrototypeSet.load(tmp_path / "set").probabilities is None


def test_an_estimators_soft_labels_are_taken():
    fitted = Distiller().fit()
    assert PrototypeSet.from_estimator(fitted).probabilities is None
    fitted.prototype_probabilities_ = np.array([[0.75, 0.25], [0, 1]])
    taken = PrototypeSet.from_estimator(fitted).probabilities
    np.testing.assert_array_equal(taken, fitted.prototype_probabilities_)
    fitted.prototype_probabilities_[:] = 0
    assert taken.max() == 1


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.full((2, 3), 1 / 3), r"which is \(2, 2\).*got \(2, 3\)"),
        ([0.5, 0.5], r"got \(2,\)"),
        ([[1, 0], [0.5, 0.498]], "must sum to 1 within"),
        ([[1, 0], [1.5, -0.5]], "not negative"),
        ([[1, 0], [np.nan, 1]], "finite"),
        ([[1, 0], [np.inf, 1]], "finite"),
    ],
)
def test_bad_probabilities_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        PrototypeSet(np.zeros((2, 4)), ["a", "b"], probabilities=probabilities)


def test_the_card_lists_the_likeliest_classes(tmp_path):
    labels = np.array([0, 1, 2, 3] * 30)
    soft = np.tile([[0.7, 0.2, 0.06, 0.04], [0.1, 0.9, 0, 0], [0, 0, 1, 0], [0.25] * 4], (30, 1))
    PrototypeSet(np.zeros((120, 4)), labels, probabilities=soft).save(tmp_path / "set")
    _, text = card_of(tmp_path / "set")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text]
    assert ["0", "0", "0 0.700, 1 0.200, 2 0.060"] in table
    assert ["3", "3", "0 0.250, 1 0.250, 2 0.250"] in table
    assert ["99", "3", "0 0.250, 1 0.250, 2 0.250"] in table
    assert not any(row[:1] == ["100"] for row in table)
    assert any("first 100 prototypes" in line for line in text)
    make_set([0, 1]).save(tmp_path / "hard")
    assert "## Soft labels" in text
    assert "## Soft labels" not in card_of(tmp_path / "hard")[1]


def test_rows_round_trip_without_pictures(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    PrototypeSet(rows, [0, 1, 2]).save(tmp_path)
    np.testing.assert_array_equal(PrototypeSet.load(tmp_path).images, rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "card.json",
        "prototypes.safetensors",
    ]


def test_pictures_are_the_rounded_images_named_by_row(tmp_path):
    saved = make_set(["b", "a", "b"])
    saved.save(tmp_path)
    pictures = sorted((tmp_path / "images").rglob("*"))
    assert [path.relative_to(tmp_path / "images").as_posix() for path in pictures] == [
        "a",
        "a/0001.png",
        "b",
        "b/0000.png",
        "b/0002.png",
    ]
    pixels = np.asarray(Image.open(tmp_path / "images/b/0002.png"))
    np.testing.assert_array_equal(pixels, np.rint(saved.images[2] * 255).astype(np.uint8))


def test_image_folder_reads_the_pictures(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    saved = make_set(np.arange(12))
    saved.save(tmp_path)
    folder = datasets.ImageFolder(tmp_path / "images")
    assert folder.targets == list(range(12))
    np.testing.assert_allclose(np.asarray(folder[7][0]) / 255, saved.images[7], atol=0.5 / 255)


def test_others_may_read_what_they_may_read_of_other_files(tmp_path):
    (tmp_path / "any file").touch()
    make_set([1, 2]).save(tmp_path / "set")
    modes = {path.stat().st_mode for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "any file").stat().st_mode}


LOAD = """
import sys
from datasets import load_dataset

builder, folder = sys.argv[1:]
data = load_dataset(builder, data_dir=folder or None, split="train")
print(*data.features["label"].names)
print(*sorted(f"{row['image'].size}:{row['label']}" for row in data))
"""


@pytest.mark.parametrize("arguments", [("set", ""), ("imagefolder", "set/images")])
def test_hugging_face_reads_the_folder(tmp_path, arguments):
    """By its README, or the pictures alone."""
    make_set(["b", "a", "b"]).save(tmp_path / "set")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments],
        cwd=tmp_path,
        # Which the library reads when it is imported.
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["a b", "(5, 6):0 (5, 6):1 (5, 6):1"]


def card_of(folder):
    card = DatasetCard.load(folder / "README.md")
    return card.data.to_dict(), [" ".join(line.split()) for line in card.text.splitlines()]


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        (None, {"license": "unknown"}),
        ("cc-by-sa-4.0", {"license": "cc-by-sa-4.0"}),
        (
            "All: rights\n'reserved'",
            {"license": "other", "license_name": "All: rights\n'reserved'"},
        ),
        ('"№ 1" --- 猫', {"license": "other", "license_name": '"№ 1" --- 猫'}),
        ("\n---\n", {"license": "other", "license_name": "\n---\n"}),
        ("no", {"license": "no"}),
        ("1.0", {"license": "1.0"}),
        (["MIT"], {"license": "other", "license_name": "['MIT']"}),
    ],
)
def test_the_readme_is_a_card(tmp_path, license, expected):
    data = {"name": "pets | toys", "license": license}
    estimator = Distiller(backbone="<b>*").fit()
    PrototypeSet.from_estimator(estimator, data=data).save(tmp_path)
    head, text = card_of(tmp_path)
    assert expected.items() <= head.items()
    assert head["configs"] == [{"config_name": "default", "data_dir": "images"}]
    assert any(line.startswith("2 prototypes (4 x 4 pixels) of 2 classes") for line in text)
    assert r"| name | pets \| toys |" in text
    assert r"| backbone | \<b\>\* |" in text
    assert "| n\\_iter | 5 |" in text
    assert "| 1 | dog |" in text


def test_the_card_says_how_images_are_prepared_for_a_net_of_ones_own(tmp_path):
    made = {"image_size": 14, "mean": (0.1, 0.2, 0.3), "std": 0.5, "crop_pct": 0.7, "name": "own"}
    net = Backbone.from_module(TinyConvNet(), **made)
    PrototypeSet.from_estimator(Distiller(backbone=["clip", net]).fit()).save(tmp_path)
    (facts,) = PrototypeSet.load(tmp_path).provenance["preprocessing"]
    theirs = Backbone.from_module(TinyConvNet(), **{name: facts[name] for name in made})
    assert theirs.fingerprint() == net.fingerprint()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    canvas = math.floor(facts["image_size"] / facts["crop_pct"])
    resized = picture.resize((canvas, canvas), Image.Resampling[facts["interpolation"].upper()])
    crop = np.asarray(resized)[3:-3, 3:-3]
    np.testing.assert_array_equal(crop, net.resize(np.asarray(picture)))
    _, text = card_of(tmp_path)
    assert {r"| name | own |", r"| mean | \[0.1, 0.2, 0.3\] |", r"| crop\_pct | 0.7 |"} <= {*text}


def test_what_is_said_of_a_net_of_timm_is_timms():
    net = Backbone.from_timm("test_resnet", pretrained=False)
    X = np.zeros((2, 8, 8, 3), np.uint8)
    fitted = RandomImages(net, image_size=np.int64(48), random_state=0).fit(X, ["cat", "dog"])
    (facts,) = PrototypeSet.from_estimator(fitted).provenance["preprocessing"]
    config = timm.get_pretrained_cfg("test_resnet")
    expected = {
        name: getattr(config, name) for name in ("mean", "std", "crop_pct", "interpolation")
    }
    expected |= {"resize": config.crop_mode, "image_size": 48}
    assert json.loads(json.dumps(expected)).items() <= facts.items()
    # Of a net that is known by its name there is nothing to say.
    assert "preprocessing" not in PrototypeSet.from_estimator(Distiller().fit()).provenance


def test_a_net_in_a_folder_or_a_file_is_described_while_it_is_there(tmp_path):
    net = timm.create_model("test_resnet", num_classes=3)
    seen = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "crop_pct": 0.8}
    timm.models.save_for_hf(net, tmp_path / "net", model_config={"pretrained_cfg": seen})
    torch.save(net.state_dict(), tmp_path / "net.pth")
    names = f"local-dir:{tmp_path}/net", f"timm:test_resnet@{tmp_path}/net.pth?pooling=avg"
    fitted = Distiller(backbone=["clip", *names]).fit()
    of_folder, of_file = PrototypeSet.from_estimator(fitted).provenance["preprocessing"]
    assert (of_folder["image_size"], of_folder["mean"], of_folder["crop_pct"]) == (
        48,
        [0.1, 0.2, 0.3],
        0.8,
    )
    assert of_file["mean"] == list(timm.get_pretrained_cfg("test_resnet").mean)
    assert "#" in of_file["name"]  # a digest of the weights
    (tmp_path / "net.pth").unlink()
    assert PrototypeSet.from_estimator(fitted).provenance["preprocessing"] == [of_folder]


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ({"backbone": "clip", "image_size": None}, "'clip'"),
        ({"backbone": ["dinov2", "clip"], "image_size": 112}, "'dinov2', image_size=112"),
        ({"backbone": "Backbone('own#0')"}, "backbone"),
        ({"backbone": None}, None),
        ({"backbone": []}, None),
    ],
)
def test_the_card_says_how_to_train_on_them(tmp_path, parameters, given):
    PrototypeSet(np.zeros((2, 4, 4, 3)), [0, 1], {"parameters": parameters}).save(tmp_path)
    _, text = card_of(tmp_path)
    code = [line for line in text if "FrozenBackboneProbe(" in line]
    assert code == (
        [] if given is None else [f"probe = FrozenBackboneProbe({given}).fit(prototypes)"]
    )


@pytest.mark.parametrize("given", ["x", {}, [], [1], [{}, {"mean": {"a": None}}, "x"]])
def test_preprocessing_that_others_wrote_may_be_anything(tmp_path, given):
    PrototypeSet(np.zeros((2, 3)), [0, 1], {"preprocessing": given}).save(tmp_path)
    _, text = card_of(tmp_path)
    assert ("## Preprocessing" in text) == (len(given) == 3)


OPTIMISED, KEPT, CHOSEN = (
    "They are no photographs",
    "optimised from real samples of the data",
    "They are samples of the data itself, whose licence and privacy",
)


def told(folder, provenance):
    """Save prototypes of this origin: the card's tags, title, and what it claims of them."""
    soft = np.full((2, 2), 0.5)
    PrototypeSet(np.zeros((2, 4, 4, 3)), [0, 1], provenance, soft).save(folder, overwrite=True)
    head, lines = card_of(folder)
    text = " ".join(lines)
    claims = {claim for claim in (OPTIMISED, KEPT, CHOSEN) if claim in text}
    assert ("discriminant analysis" in text) == ("other half is the class" in text) == bool(claims)
    assert ("Linear Gradient Matching" in text) == bool(claims & {OPTIMISED, KEPT})
    return set(head["tags"]), next(line for line in lines if line.startswith("# ")), claims


@pytest.mark.parametrize(
    ("parameters", "claim"),
    [
        ({"init": "nearest"}, KEPT),
        ({"init": "mean"}, OPTIMISED),
        ({"init": ["nearest"]}, OPTIMISED),
        ({}, OPTIMISED),
        ("nearest", OPTIMISED),
    ],
)
def test_the_card_of_distilled_images(tmp_path, parameters, claim):
    found = told(tmp_path, {"estimator": "LGMDistiller", "parameters": parameters})
    title = "# Synthetic images distilled by sklgm"
    assert found == ({"dataset-distillation", "sklgm"}, title, {claim})


@pytest.mark.parametrize("name", selectors.__all__)
def test_the_card_of_chosen_images(tmp_path, name):
    found = told(tmp_path, {"estimator": name, "parameters": {"init": "nearest"}})
    assert found == ({"sklgm"}, "# Real images chosen by sklgm", {CHOSEN})


@pytest.mark.parametrize("estimator", [None, "Distiller", "", 3, ["LGMDistiller"], {"a": 1}])
def test_the_card_claims_nothing_of_other_prototypes(tmp_path, estimator):
    expected = {"sklgm"}, "# Prototypes saved by sklgm", set()
    assert told(tmp_path, {"estimator": estimator, "parameters": {"init": "nearest"}}) == expected
    assert told(tmp_path, {}) == expected


def test_rows_have_a_card_without_pictures(tmp_path):
    PrototypeSet(np.zeros((2, 3)), [0, 1]).save(tmp_path)
    head, text = card_of(tmp_path)
    assert "configs" not in head
    assert not any(line.startswith("## Made") for line in text)


HARD_NAMES = [
    "",
    "..",
    ".hidden",
    "__init__",
    "a/b",
    "a\\b",
    "a:b",
    "CON",
    "nul.txt",
    "Cat",
    "cat",
    "cat-2",
    "猫",
    "café",
    "x" * 300,
    "x" * 300 + "y",
    "trailing. ",
    "new\nline",
    "train",
    "bullet train",
    "test-2",
    "<script>",
    "100%",
    "*?[a]",
]


def test_any_class_name_gets_a_safe_folder_of_its_own(tmp_path):
    make_set(HARD_NAMES).save(tmp_path)
    names = folders(tmp_path)
    assert len({name.lower() for name in names}) == len(HARD_NAMES)
    for name in names:
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 64
        assert not set(name) & set('/\\:*?"<>|[]%')
        assert name[0] not in "._ "
        assert name[-1] not in ". "
        assert name.split(".")[0].lower() not in {"con", "nul"}
        assert not {"train", "test"} & set(name.replace("-", " ").split())
    np.testing.assert_array_equal(PrototypeSet.load(tmp_path).labels, HARD_NAMES)
    pictures = sorted(path.name for path in (tmp_path / "images").rglob("*.png"))
    assert pictures == [f"{row:04d}.png" for row in range(len(HARD_NAMES))]


def test_plain_names_stay_as_they_are(tmp_path):
    names = ["-1", "Golden retriever", "ice_cream", "trainer", "v1.5"]
    make_set(names).save(tmp_path)
    assert folders(tmp_path) == names


def test_from_estimator_records_where_prototypes_came_from():
    fitted = Distiller(max_iter=np.int64(5), module=object()).fit()
    taken = PrototypeSet.from_estimator(fitted)
    np.testing.assert_array_equal(taken.images, fitted.prototypes_)
    assert taken.labels.tolist() == ["cat", "dog"]
    assert taken.provenance["estimator"] == "Distiller"
    assert taken.provenance["n_iter"] == 5
    assert taken.provenance["parameters"] == {
        "backbone": "tiny",
        "max_iter": 5,
        "module": "<object object>",
        "sizes": [1, 2],
    }
    assert {"sklgm", "torch", "scikit-learn"} <= set(taken.provenance["versions"])


def test_provenance_leaves_the_machine_out(tmp_path):
    class Local(Distiller):
        def __init__(self, tol=0.5, memory=None, n_jobs=None, device="auto", verbose=0):
            self.tol = tol
            self.memory, self.n_jobs = memory, n_jobs
            self.device, self.verbose = device, verbose

    fitted = Local(memory=str(tmp_path / "cache"), n_jobs=3, device="cpu", verbose=1).fit()
    taken = PrototypeSet.from_estimator(fitted)
    assert taken.provenance["parameters"] == {"tol": 0.5}
    taken.save(tmp_path / "set")
    assert "cache" not in (tmp_path / "set/card.json").read_text()


def test_versions_name_the_model_libraries_that_are_installed(monkeypatch):
    def version(name):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    assert {"timm", "open_clip_torch"} <= PrototypeSet.from_estimator(Distiller().fit()).provenance[
        "versions"
    ].keys()
    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = PrototypeSet.from_estimator(Distiller().fit()).provenance["versions"]
    assert versions["open_clip_torch"] == "1.2.3"
    assert "timm" not in versions
    assert versions["sklgm"] == sklgm.__version__


def test_from_estimator_needs_a_fitted_one():
    with pytest.raises(NotFittedError):
        PrototypeSet.from_estimator(Distiller())


def test_length_repr_and_classes():
    some = make_set([2, 0, 2])
    assert len(some) == 3
    assert repr(some) == "PrototypeSet(n_prototypes=3, n_classes=2, image_shape=(6, 5, 3))"
    assert some.classes.tolist() == [0, 2]
    rows = PrototypeSet(np.zeros((1, 4)), ["a"])
    assert repr(rows) == "PrototypeSet(n_prototypes=1, n_classes=1, row_shape=(4,))"


def test_fields_cannot_be_replaced():
    with pytest.raises(AttributeError):
        make_set([0]).labels = [1]


def test_arrays_are_read_only_copies():
    fitted = Distiller().fit()
    taken = PrototypeSet.from_estimator(fitted)
    for array in (taken.images, taken.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    fitted.prototypes_[:] = 0  # still the estimator's own to change
    fitted.prototype_labels_[:] = "cow"
    assert (taken.images == 0.25).all()
    assert taken.labels.tolist() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("images", "labels", "provenance", "message"),
    [
        (np.zeros((2, 4, 4, 3)), [0], {}, "inconsistent numbers"),
        (np.zeros((2, 3, 4, 4)), [0, 1], {}, r"got shape \(2, 3, 4, 4\)"),
        (np.zeros((0, 4, 4, 3)), [], {}, "got shape"),
        (np.full((1, 4, 4, 3), 2.0), [0], {}, r"values in \[0, 1\]"),
        (np.full((1, 4, 4, 3), np.nan), [0], {}, "NaN"),
        (np.zeros((2, 4)), [[0, 1], [1, 1]], {}, "1d array"),
        (np.zeros((2, 4)), np.array(["a", 1], dtype=object), {}, "mixes strings"),
        (np.zeros((2, 4)), [0.0, np.nan], {}, "NaN"),
        (np.zeros((2, 4)), [1j, 2j], {}, "Complex"),
        (np.zeros((2, 4)), [2**80, 1], {}, "type int"),
        (np.zeros((1, 4)), [0], {"f": print}, "not JSON serializable"),
        (np.zeros((1, 4)), [0], {"f": float("nan")}, "not JSON compliant"),
        (np.zeros((1, 4)), [0], ["f"], "must be a dict"),
    ],
)
def test_bad_content_is_refused(images, labels, provenance, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PrototypeSet(images, labels, provenance)


def test_a_folder_in_use_is_not_touched_without_overwrite(tmp_path):
    make_set([0, 1]).save(tmp_path)
    before = (tmp_path / "card.json").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_set([5]).save(tmp_path)
    assert (tmp_path / "card.json").read_bytes() == before


def test_overwrite_replaces_prototypes_and_keeps_other_files(tmp_path):
    target = tmp_path / "set"
    make_set(["old", "older"]).save(target)
    (target / "notes.txt").write_text("mine")
    make_set(["new"], seed=1).save(target, overwrite=True)
    assert PrototypeSet.load(target).labels.tolist() == ["new"]
    assert folders(target) == ["new"]
    assert (target / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_file_that_cannot_be_moved_is_not_lost(tmp_path, monkeypatch):
    target = tmp_path / "set"
    make_set([0, 1]).save(target)
    (target / "notes.txt").write_text("mine")
    rename = Path.rename

    def fail(path, to):
        if path.name == "notes.txt":
            raise PermissionError("no")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PermissionError):
        make_set([5]).save(target, overwrite=True)
    assert [path.read_text() for path in tmp_path.rglob("notes.txt")] == ["mine"]
    assert PrototypeSet.load(target).labels.tolist() == [5]


@pytest.mark.parametrize("card", [None, "{}", "not json", '["sklgm-prototypes"]'])
def test_overwrite_never_replaces_a_folder_of_someone_else(tmp_path, card):
    (tmp_path / "thesis.tex").write_text("years of work")
    if card is not None:
        (tmp_path / "card.json").write_text(card)
    with pytest.raises(ValueError, match=r"no saved prototypes|describe saved|damaged"):
        make_set([0]).save(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(NotADirectoryError, match="set"):
        make_set([0]).save(tmp_path / "set", overwrite=True)


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("file/set", NotADirectoryError, "nothing can be written there"),
        ("file/deep/set", NotADirectoryError, "file/deep/set"),
        ("n" * 250, OSError, "name too long"),
        ("/".join(["n" * 99] * 40), OSError, "name too long"),
        ("ring", OSError, "symbolic links"),
    ],
)
def test_whether_a_place_can_be_written_is_found_by_trying(tmp_path, place, kind, message):
    (tmp_path / "file").touch()
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(kind, match=message):
        check_target(tmp_path / place, overwrite=True)
    check_target(tmp_path / "new" / "deep", overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "ring"]


def test_a_mounted_disk_is_not_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path.resolve())
    with pytest.raises(ValueError, match=r"mounted disk.*folder in it, such as '.*/prototypes'"):
        check_target(tmp_path, overwrite=False)


def test_labels_that_are_no_text_do_not_hinder_saving(tmp_path):
    made = PrototypeSet(np.zeros((2, 4, 4, 3)), ["a", "caf\udce9"], {"data": {"name": "\udce9"}})
    made.save(tmp_path / "set")
    assert PrototypeSet.load(tmp_path / "set").labels.tolist() == ["a", "caf\udce9"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, existing, moment):
    target = tmp_path / "set"
    if existing:
        make_set(["old"]).save(target)

    def fail(*args, **kwargs):
        raise OSError("disk full")

    rename = Path.rename
    if moment == "write":
        monkeypatch.setattr(Image.Image, "save", fail)
    else:
        monkeypatch.setattr(
            Path,
            "rename",
            lambda self, to: fail() if self.suffix == ".partial" else rename(self, to),
        )
    with pytest.raises(OSError, match="disk full"):
        make_set(["new"]).save(target, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["set"] if existing else [])
    if existing:
        assert PrototypeSet.load(target).labels.tolist() == ["old"]


@pytest.fixture
def saved(tmp_path):
    make_set(["cat", "dog"]).save(tmp_path / "set")
    return tmp_path / "set"


def edit_card(directory, **changes):
    card = json.loads((directory / "card.json").read_text())
    card.update(changes)
    card = {key: value for key, value in card.items() if value is not None}
    (directory / "card.json").write_text(json.dumps(card))


def test_loading_needs_no_pictures(saved):
    shutil.rmtree(saved / "images")
    assert len(PrototypeSet.load(saved)) == 2


@pytest.mark.parametrize("name", ["card.json", "prototypes.safetensors"])
def test_a_file_that_is_missing_or_cut_off_is_named(saved, name):
    (saved / name).write_bytes((saved / name).read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"{name}.* is damaged"):
        PrototypeSet.load(saved)
    (saved / name).unlink()
    with pytest.raises(ValueError, match=name):
        PrototypeSet.load(saved)


def test_a_changed_number_is_noticed(saved):
    content = bytearray((saved / "prototypes.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "prototypes.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="checksum differs"):
        PrototypeSet.load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "Update sklgm"),
        ({"format": "else"}, "does not describe saved prototypes"),
        ({"labels": None}, "'labels' is missing"),
        ({"provenance": None}, "'provenance' is missing"),
        ({"labels": {"dtype": "str", "values": ["cat"]}}, "inconsistent numbers"),
        ({"labels": {"dtype": "int64", "values": ["cat", "dog"]}}, "cannot be read"),
        ({"labels": {"dtype": "int64", "values": ["1", "2"]}}, "not all of type int64"),
        ({"labels": {"dtype": "uint8", "values": [1, 300]}}, "cannot be read"),
        ({"labels": {"dtype": "nothing", "values": [1, 2]}}, "cannot be read"),
        ({"labels": {"dtype": "complex64", "values": [1, 2]}}, "cannot be read"),
        ({"labels": ["cat", "dog"]}, "cannot be read"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved, changes, message):
    edit_card(saved, **changes)
    with pytest.raises(ValueError, match=message):
        PrototypeSet.load(saved)
