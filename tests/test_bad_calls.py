"""Bad calls of everything public but estimators: an error of a usual kind, and nothing left behind.

Estimators are in ``test_bad_input.py``, files of strangers in ``test_untrusted_files.py``. What is
peculiar to a function is tested beside it; here is at least one case for each name, and for the
mistakes that are made anywhere.
"""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from sklgm import (
    Backbone,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    Pixels,
    PrototypeSet,
    Pyramid,
    RandomHeads,
    RandomImages,
    RealGradients,
    StandardAugmentation,
    bias,
    datasets,
    evaluation,
    list_backbones,
    plotting,
)
from sklgm import alignment as al
from sklgm.backbones import _registry, get_backbone
from sklgm.cli.app import app
from sklgm.report import HTMLReport
from tests.image_checks import fitted_names, toy_images
from tests.tiny_backbones import tiny_backbone

matplotlib.use("Agg")

NET = tiny_backbone()
X, Y = toy_images()
GROUPS = np.arange(len(Y)) % 2
ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
ROW_LABELS = np.arange(12) % 2
DISTILLER = LGMDistiller(NET, max_iter=2, heads=RandomHeads(pool_size=4), n_views=1, random_state=0)
PROBE = FrozenBackboneProbe(n_views=2, max_epochs=2)
CHOSEN = RandomImages(NET, random_state=0).fit(X, Y)
KEPT = PrototypeSet.from_estimator(CHOSEN)
GRADIENTS = RealGradients([0, 1], head_pool_size=2).update(ROWS, ROW_LABELS)
MATRIX = al.alignment_matrix({"a": NET, "b": NET}, X, n_neighbors=2, n_permutations=20)
TRANSFER = evaluation.cross_model_transfer(
    *(X, Y, X, Y), backbones=[NET], distillers=RandomImages(), baselines={}, probe=PROBE, n_seeds=1
)


# What Python and scikit-learn raise for what cannot be used; NotFittedError is a ValueError.
CLEAR = (ValueError, TypeError, OSError, AttributeError)


def compare(**wrong):
    data = {"X": X, "y": Y, "X_test": X, "y_test": Y, "backbone": NET, "probe": PROBE}
    return evaluation.compare_selections(**{**data, "selections": {"d": DISTILLER}, **wrong})


def curve(**wrong):
    data = {"X": X, "y": Y, "X_test": X, "y_test": Y, "backbone": NET, "probe": PROBE}
    return evaluation.prototype_curve(**{**data, "selections": {"d": DISTILLER}, **wrong})


def transfer(**wrong):
    data = {"X": X, "y": Y, "X_test": X, "y_test": Y, "backbones": [NET], "probe": PROBE}
    return evaluation.cross_model_transfer(**{**data, "distillers": DISTILLER, **wrong})


def statistics(**wrong):
    data = {"prototypes": KEPT, "X": X, "y": Y, "backbone": NET, "probe": PROBE}
    return evaluation.prototype_statistics(**{**data, **wrong})


def gradient_alignment(**wrong):
    data = {"prototypes": CHOSEN, "X": X, "y": Y, "distiller": DISTILLER}
    return al.gradient_alignment(**{**data, **wrong})


def gradient_matrix(**wrong):
    data = {"prototypes": {"p": CHOSEN}, "X": X, "y": Y, "backbones": [NET]}
    return al.gradient_alignment_matrix(**{**data, "distiller": DISTILLER, **wrong})


def backbone_matrix(**wrong):
    return al.alignment_matrix(**{"backbones": [NET], "X": X, "n_neighbors": 2, **wrong})


def calibrate(**wrong):
    return al.calibrate(**{"A": ROWS, "B": ROWS, "n_neighbors": 2, **wrong})


def diagnose(**wrong):
    data = {"prototypes": DISTILLER, "X": X, "y": Y, "groups": GROUPS}
    return bias.diagnose_bias(**{**data, "reference": (X, Y, GROUPS), **wrong})


def suspects(**wrong):
    return bias.suspect_classes(**{"prototypes": KEPT, "X": X, "y": Y, "backbone": NET, **wrong})


def focus(**wrong):
    masks = np.ones(X.shape[:3], dtype=np.float32)
    probe = FrozenBackboneProbe(NET, max_epochs=1, n_views=1)
    return bias.object_focus(**{"probe": probe, "X": X, "masks": masks, **wrong})


def spurious(**wrong):
    return datasets.make_spurious_images(**{"n_samples": 2, **wrong})


def page(**wrong):
    return HTMLReport.from_prototypes(**{"prototypes": KEPT, "backbone": NET, **wrong})


def embedding(**wrong):
    data = {"estimator": CHOSEN, "X": X, "y": Y}
    return plotting.EmbeddingDisplay.from_estimator(**{**data, **wrong})


def of_features(**wrong):
    data = {"features": ROWS, "labels": ROW_LABELS, "prototype_features": ROWS[:2]}
    return plotting.EmbeddingDisplay.from_features(**{**data, "prototype_labels": [0, 1], **wrong})


def pictures(**wrong):
    return plotting.PrototypesDisplay.from_estimator(**{"estimator": CHOSEN, **wrong})


def augmented(**wrong):
    return DISTILLER.set_params(augmentation=StandardAugmentation(**wrong)).fit(X, Y)


def with_heads(heads):
    return LGMDistiller(NET, heads=heads, random_state=0).fit(X, Y)


def parametrized(parametrization):
    return DISTILLER.set_params(parametrization=parametrization).fit(X, Y)


def sums(**wrong):
    return RealGradients(**{"classes": [0, 1], **wrong})


MISSING = "nowhere/file"
NO_CLASS = np.where(np.arange(len(Y)) == 0, "z", Y)
GAPS = [np.nan, *GROUPS[1:]]

CASES: dict[str, dict[str, Callable[[], object]]] = {
    "sklgm.RealGradients": {
        "no classes": lambda: sums(classes=3),
        "a table": lambda: sums(classes=[[0, 1]]),
        "pool": lambda: sums(head_pool_size=1.5),
        "pool as text": lambda: sums(head_pool_size="4"),
        "scale": lambda: sums(head_scale=-1),
        "scale, NaN": lambda: sums(head_scale=float("nan")),
        "seed": lambda: sums(head_seed=-1),
        "counts": lambda: sums(class_counts={0: 1, 1: 0}),
        "counts as text": lambda: sums(class_counts="12"),
        "weight": lambda: sums(class_weight=3),
        "backbone": lambda: sums(backbone=NET),
        "views": lambda: sums(views=2),
        "update, features": lambda: sums().update(3.0, [0]),
        "update, text": lambda: sums().update([["a"]], [0]),
        "update, labels": lambda: sums().update(ROWS[:1], [7]),
        "mean images": lambda: sums().update_mean_images(X, [0]),
        "+ something": lambda: GRADIENTS + 3,
        "+ others": lambda: GRADIENTS + sums(),
        "empty": lambda: sums().feature_moments(),
        "save, no folder": lambda: GRADIENTS.save(MISSING),
        "save, a folder": lambda: GRADIENTS.save("data"),
        "load, no file": lambda: RealGradients.load(MISSING),
        "load, a folder": lambda: RealGradients.load("data"),
        "load, text": lambda: RealGradients.load("text.png"),
        "load, None": lambda: RealGradients.load(None),
    },
    "sklgm.PrototypeSet": {
        "no images": lambda: PrototypeSet(None, [0]),
        "one image": lambda: PrototypeSet(X[0] / 255, [0]),
        "bytes": lambda: PrototypeSet(X[:1], [0]),
        "no labels": lambda: PrototypeSet(ROWS, None),
        "labels": lambda: PrototypeSet(ROWS, [0]),
        "provenance": lambda: PrototypeSet(ROWS, ROW_LABELS, "x"),
        "of text": lambda: PrototypeSet.from_estimator("clip"),
        "of a class": lambda: PrototypeSet.from_estimator(LGMDistiller),
        "of a classifier": lambda: PrototypeSet.from_estimator(
            LogisticRegression().fit(ROWS, ROW_LABELS)
        ),
        "unfitted": lambda: PrototypeSet.from_estimator(DISTILLER),
        "load, nothing": lambda: PrototypeSet.load(MISSING),
        "load, a file": lambda: PrototypeSet.load("text.png"),
        "load, others": lambda: PrototypeSet.load("data"),
        "save, in use": lambda: KEPT.save("data"),
        "save, others'": lambda: KEPT.save("data", overwrite=True),
        "save, a file": lambda: KEPT.save("text.png"),
        "save, in a file": lambda: KEPT.save("text.png/set"),
    },
    "sklgm.Backbone": {
        "name": lambda: Backbone.from_name(3),
        "unknown": lambda: Backbone.from_name("dino2"),
        "no file": lambda: Backbone.from_name(f"clip@{MISSING}"),
        "a folder": lambda: Backbone.from_name("clip@data"),
        "no such folder": lambda: Backbone.from_name("local-dir:nowhere"),
        "two weights": lambda: Backbone.from_name("clip", checkpoint="text.png", pretrained=False),
        "size": lambda: Backbone.from_name("clip", image_size="224"),
        "patches": lambda: Backbone.from_name("clip", image_size=225),
        "from_timm, name": lambda: Backbone.from_timm(3, checkpoint="x"),
        "from_timm, alias": lambda: Backbone.from_timm("clip", checkpoint="x"),
        "from_timm, no file": lambda: Backbone.from_timm("test_vit", checkpoint=MISSING),
        "from_timm, text": lambda: Backbone.from_timm("test_vit", checkpoint="text.png").module,
        "from_timm, std": lambda: Backbone.from_timm("test_vit", checkpoint="text.png", std=-1),
        "from_timm, crop": lambda: Backbone.from_timm("test_vit", pretrained=False, crop_pct=2),
        "from_timm, filter": lambda: Backbone.from_timm("test_vit", interpolation="linear"),
        "from_open_clip, name": lambda: Backbone.from_open_clip(None, checkpoint="x"),
        "from_open_clip, unknown": lambda: Backbone.from_open_clip("RN5", checkpoint="x"),
        "from_module": lambda: Backbone.from_module(LogisticRegression(), image_size=16),
        "features": lambda: NET.features(X),
        "features, bytes": lambda: NET.features(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)),
        "prepare": lambda: NET.prepare(X * 1.0),
        "to": lambda: NET.to("toaster"),
        "with_image_size": lambda: NET.with_image_size(32),
    },
    "sklgm.list_backbones": {
        "an argument": lambda: list_backbones("clip"),
    },
    "sklgm.WeightsNotFoundError": {
        "raised": lambda: Backbone.from_name("package_missing").module,
    },
    "sklgm.Pyramid": {
        "start": lambda: parametrized(Pyramid(start_size=0)),
        "colours": lambda: parametrized(Pyramid(decorrelate="no")),
    },
    "sklgm.Pixels": {
        "colours": lambda: parametrized(Pixels("no")),
    },
    "sklgm.RandomHeads": {
        "none": lambda: with_heads(RandomHeads(0)),
        "no pool": lambda: with_heads(RandomHeads(pool_size="4")),
        "scale": lambda: with_heads(RandomHeads(scale=-1)),
    },
    "sklgm.StandardAugmentation": {
        "scale": lambda: augmented(scale=0.5),
        "order": lambda: augmented(scale=(1, 0.5)),
        "flip": lambda: augmented(flip=2),
        "noise": lambda: augmented(noise=-1),
    },
    "sklgm.backbones.get_backbone": {
        "kind": lambda: get_backbone(3),
        "device": lambda: get_backbone(NET, device="cuda:77"),
    },
    "sklgm.alignment.alignment_matrix": {
        "backbones": lambda: backbone_matrix(backbones=3),
        "X": lambda: backbone_matrix(X="data"),
        "metric": lambda: backbone_matrix(metric="knn"),
        "seed": lambda: backbone_matrix(random_state="x"),
    },
    "sklgm.alignment.AlignmentMatrix": {
        "values": lambda: MATRIX.values("low"),
        "table": lambda: MATRIX.to_markdown(values=3),
        "plot": lambda: MATRIX.plot(values="f1"),
    },
    "sklgm.alignment.calibrate": {
        "one array": lambda: calibrate(B=None),
        "rows": lambda: calibrate(B=ROWS[1:]),
    },
    "sklgm.alignment.mutual_knn": {
        "neighbours": lambda: al.mutual_knn(ROWS, ROWS, n_neighbors=12),
        "images": lambda: al.mutual_knn(X, X),
    },
    "sklgm.alignment.linear_cka": {
        "NaN": lambda: al.linear_cka(ROWS, np.full((12, 2), np.nan)),
        "text": lambda: al.linear_cka(ROWS, [["a"]] * 12),
    },
    "sklgm.alignment.gradient_alignment": {
        "prototypes": lambda: gradient_alignment(prototypes="clip"),
        "labels": lambda: gradient_alignment(y=NO_CLASS),
        "gradients": lambda: gradient_alignment(gradients=3),
    },
    "sklgm.alignment.gradient_alignment_matrix": {
        "prototypes": lambda: gradient_matrix(prototypes=CHOSEN),
        "distiller": lambda: gradient_matrix(distiller="LGM"),
    },
    "sklgm.alignment.relate_alignment_to_transfer": {
        "alignment": lambda: al.relate_alignment_to_transfer(MATRIX.scores, TRANSFER),
        "transfer": lambda: al.relate_alignment_to_transfer(MATRIX, MATRIX),
        "too few": lambda: al.relate_alignment_to_transfer(MATRIX, TRANSFER),
    },
    "sklgm.bias.diagnose_bias": {
        "groups": lambda: diagnose(groups=3),
        "a table of groups": lambda: diagnose(groups=np.ones((18, 2))),
        "gaps": lambda: diagnose(groups=GAPS),
        "reference": lambda: diagnose(reference=X),
    },
    "sklgm.bias.suspect_classes": {
        "prototypes": lambda: suspects(prototypes=X),
        "labels": lambda: suspects(y=["z", "y"] * 9),
        "net": lambda: suspects(backbone=None),
    },
    "sklgm.bias.object_focus": {
        "probe": lambda: focus(probe=DISTILLER),
        "unfitted": lambda: focus(),
    },
    "sklgm.datasets.load_digits": {
        "an argument": lambda: datasets.load_digits(8),
    },
    "sklgm.datasets.load_csv": {
        "nothing": lambda: datasets.load_csv(MISSING),
        "a folder": lambda: datasets.load_csv("data"),
        "another file": lambda: datasets.load_csv("text.png"),
        "None": lambda: datasets.load_csv(None),
    },
    "sklgm.datasets.as_X_y": {
        "None": lambda: datasets.as_X_y(None),
        "a folder": lambda: datasets.as_X_y("data"),
        "images alone": lambda: datasets.as_X_y([1, 2]),
        "several": lambda: datasets.as_X_y({"train": [], "test": []}),
    },
    "sklgm.datasets.load_folder": {
        "nothing": lambda: datasets.load_folder(MISSING),
        "a file": lambda: datasets.load_folder("text.png"),
        "no classes": lambda: datasets.load_folder("data/a"),
        "None": lambda: datasets.load_folder(None),
    },
    "sklgm.datasets.load_openmoji": {
        "size": lambda: datasets.load_openmoji(size=0),
        "size as text": lambda: datasets.load_openmoji(size="64"),
        "background": lambda: datasets.load_openmoji(size=8, background="whitish"),
    },
    "sklgm.datasets.load_spawrious": {
        "nothing": lambda: datasets.load_spawrious(MISSING),
        "challenge": lambda: datasets.load_spawrious("data", challenge=["o2o_easy"]),
        "subset": lambda: datasets.load_spawrious("data", subset=3),
    },
    "sklgm.datasets.load_waterbirds": {
        "nothing": lambda: datasets.load_waterbirds(MISSING),
        "subset": lambda: datasets.load_waterbirds("data", subset=["val"]),
    },
    "sklgm.datasets.make_spurious_images": {
        "objects": lambda: spurious(objects="data"),
        "text": lambda: spurious(objects={"a": ["text.png"], "b": ["text.png"]}),
        "backgrounds": lambda: spurious(backgrounds=3),
        "correlation": lambda: spurious(correlation=None),
        "number": lambda: spurious(n_samples=2.5),
        "seed": lambda: spurious(random_state="x"),
    },
    "sklgm.evaluation.compare_selections": {
        "X": lambda: compare(X="data"),
        "X_test": lambda: compare(X_test=[MISSING] * 18),
        "no y_test": lambda: compare(y_test=None),
        "y_test": lambda: compare(y_test=NO_CLASS),
        "gaps": lambda: compare(groups=GAPS),
        "groups": lambda: compare(groups="x"),
        "a selection": lambda: compare(selections={"d": "LGM"}),
        "seeds": lambda: compare(n_probe_seeds="5"),
    },
    "sklgm.evaluation.SelectionComparison": {
        "metric": lambda: evaluation.SelectionComparison(TRANSFER.records).plot(metric="f1"),
    },
    "sklgm.evaluation.prototype_curve": {
        "numbers": lambda: curve(prototypes_per_class=5),
        "probe": lambda: curve(probe=LogisticRegression()),
    },
    "sklgm.evaluation.PrototypeCurve": {
        "metric": lambda: evaluation.PrototypeCurve(TRANSFER.records).plot(metric="f1"),
    },
    "sklgm.evaluation.cross_model_transfer": {
        "backbones": lambda: transfer(backbones=3),
        "rows": lambda: transfer(distilled_on=3.5),
        "a row": lambda: transfer(distilled_on=[1]),
        "a list in a row": lambda: transfer(distilled_on=[[[]]]),
        "distillers": lambda: transfer(distillers="LGM"),
        "baselines": lambda: transfer(baselines=[ClassCentroids()]),
    },
    "sklgm.evaluation.TransferMatrix": {
        "table": lambda: TRANSFER.to_markdown(metric="f1"),
        "plot": lambda: TRANSFER.plot(metric=3),
    },
    "sklgm.evaluation.default_selections": {
        "probe": lambda: evaluation.default_selections(NET, probe="x"),
    },
    "sklgm.evaluation.prototype_statistics": {
        "prototypes": lambda: statistics(prototypes=None),
        "unfitted": lambda: statistics(prototypes=DISTILLER),
        "labels": lambda: statistics(y=Y[1:]),
    },
    "sklgm.plotting.AlignmentDisplay": {
        "matrix": lambda: plotting.AlignmentDisplay.from_matrix(TRANSFER),
        "values": lambda: plotting.AlignmentDisplay(values=[[1]], rows="ab", columns="a").plot(),
    },
    "sklgm.plotting.SelectionComparisonDisplay": {
        "result": lambda: plotting.SelectionComparisonDisplay.from_result(TRANSFER),
        "names": lambda: plotting.SelectionComparisonDisplay(
            scores=[[1]], names="ab", n_images=[1, 1]
        ).plot(),
    },
    "sklgm.plotting.PrototypeCurveDisplay": {
        "result": lambda: plotting.PrototypeCurveDisplay.from_result(TRANSFER),
        "curves": lambda: plotting.PrototypeCurveDisplay(curves={"a": [[1, 2]]}).plot(),
    },
    "sklgm.plotting.BiasDisplay": {
        "report": lambda: plotting.BiasDisplay.from_report(KEPT),
    },
    "sklgm.plotting.ConvergenceDisplay": {
        "unfitted": lambda: plotting.ConvergenceDisplay.from_estimator(DISTILLER),
        "loss": lambda: plotting.ConvergenceDisplay(loss=[]).plot(),
    },
    "sklgm.plotting.EmbeddingDisplay": {
        "estimator": lambda: embedding(estimator=KEPT),
        "labels": lambda: embedding(y=None),
        "most": lambda: embedding(max_samples="all"),
        "most of few": lambda: embedding(max_samples=1),
        "names": lambda: embedding(class_names="abc"),
        "features": lambda: of_features(features=ROWS[:, 0]),
        "other features": lambda: of_features(prototype_features=ROWS[:2, :3]),
    },
    "sklgm.plotting.PrototypesDisplay": {
        "a set and X": lambda: pictures(estimator=KEPT, X=X, y=Y),
        "X alone": lambda: pictures(X=X),
        "names": lambda: pictures(class_names=3.5),
        "columns": lambda: pictures(n_columns=0),
    },
    "sklgm.plotting.TransferDisplay": {
        "matrix": lambda: plotting.TransferDisplay.from_matrix(MATRIX),
        "metric": lambda: plotting.TransferDisplay.from_matrix(TRANSFER, metric="f1"),
    },
    "sklgm.report.HTMLReport": {
        "prototypes": lambda: page(prototypes="set"),
        "results": lambda: page(results=TRANSFER),
        "a result": lambda: page(results=[3]),
        "names": lambda: page(class_names="abc"),
        "save, in use": lambda: page().save("text.png"),
        "save, no folder": lambda: page().save(MISSING),
        "save, a folder": lambda: page().save("data"),
        "save, no text": lambda: HTMLReport(3).save("page"),
    },
}

# Estimators, whose bad input is in test_bad_input.py.
ESTIMATORS = {
    f"sklgm.{name}"
    for name in (
        *("BackboneEmbedder", "ClassCentroids", "FrozenBackboneProbe", "HerdingImages"),
        *("KCenterImages", "LGMDistiller", "NearestImages", "PrototypeSampler", "RandomImages"),
    )
}
# Records that functions return and nobody makes, and a function that takes nothing.
WITHOUT_INPUT = {
    "sklgm.datasets.LabelledStream",
    "sklgm.BackboneSpec",
    "sklgm.clear_backbone_cache",
    "sklgm.alignment.Alignment",
    "sklgm.alignment.AlignmentTransfer",
    "sklgm.alignment.Correlation",
    "sklgm.alignment.GradientAlignment",
    "sklgm.bias.BiasReport",
    "sklgm.bias.ObjectFocus",
    "sklgm.bias.SuspectClasses",
    "sklgm.evaluation.PrototypeStatistics",
}
PACKAGES = ("alignment", "backbones", "bias", "datasets", "evaluation", "plotting", "report")


def test_every_public_name_has_a_case():
    whole = importlib.import_module("sklgm")
    names = {f"sklgm.{name}" for name in whole.__all__}
    for package in PACKAGES:
        names |= {
            f"sklgm.{package}.{name}"
            for name in importlib.import_module(f"sklgm.{package}").__all__
            if not hasattr(whole, name)  # the same by another way
        }
    assert names == CASES.keys() | ESTIMATORS | WITHOUT_INPUT
    assert len(names) == len(CASES) + len(ESTIMATORS) + len(WITHOUT_INPUT)
    text = Path(__file__).with_name("test_bad_input.py").read_text(encoding="utf-8")
    for name in ESTIMATORS:
        assert f" {name.removeprefix('sklgm.')}(" in text or f"= {name[6:]}(" in text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Be in a folder with some files, which must be the same afterwards."""
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(X[0]).save(tmp_path / "data" / name / "0.png")
    (tmp_path / "text.png").write_text("no image")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == before


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(autouse=True)
def a_missing_package(monkeypatch):
    spec = replace(
        _registry.REGISTRY["efficientnet_lite0"], name="package_missing", weights="no_such_package"
    )
    monkeypatch.setitem(_registry.REGISTRY, "package_missing", spec)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases]
)
def test_bad_calls(name, case, folder):
    with pytest.raises(CLEAR) as raised:
        CASES[name][case]()
    assert "unexpected keyword" not in str(raised.value)  # of a parameter that is no more
    assert not fitted_names(DISTILLER.set_params(augmentation="blurred", parametrization="pyramid"))
    assert not fitted_names(PROBE)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


LITE0 = ("--backbone", "efficientnet_lite0", "--image-size", "32")
# Arguments, and the exit code: 2 for what the command line cannot mean, 1 for what went wrong.
COMMANDS = {
    "distill: no folder": (["distill", "nowhere"], 1),
    "distill: a file": (["distill", "text.png"], 1),
    "distill: no classes": (["distill", "data/a"], 1),
    "distill: unknown net": (["distill", "data", "--backbone", "dino2"], 1),
    "distill: no weights": (["distill", "data", "--backbone", "clip@nowhere"], 1),
    "distill: in use": (["distill", "data", "--out", "data"], 1),
    "distill: others'": (["distill", "data", "--out", "data", "--overwrite"], 1),
    "distill: device": (["distill", "data", "--device", "warp"], 1),
    "distill: size": (["distill", "data", "--image-size", "0"], 1),
    "distill: steps": (["distill", "data", "--max-iter", "0"], 1),
    "distill: threads": (["distill", "data", "--n-jobs", "0", *LITE0], 1),
    "distill: a number": (["distill", "data", "--max-iter", "many"], 2),
    "distill: seed": (["distill", "data", "--seed", "-1"], 1),
    "distill: option": (["distill", "data", "--backbones", "clip"], 2),
    "distill: nothing": (["distill"], 2),
    "demo: data": (["demo", "--data", "mnist"], 2),
    "demo: seed": (["demo", "--seed", "x"], 2),
    "demo: out": (["demo", "--data", "digits", "--out", "text.png"], 1),
    "report: nothing": (["report", "nowhere", "--train", "data"], 1),
    "report: others": (["report", "data", "--train", "data"], 1),
    "report: no train": (["report", "data"], 2),
    "report: in use": (["report", "data", "--train", "data", "--out", "text.png"], 1),
    "report: a folder": (["report", "data", "--train", "data", "--out", "data"], 1),
    "report: out": (["report", "data", "--train", "data", "--out", "no/p"], 1),
    "report: seeds": (["report", "data", "--train", "data", "--seeds", "0"], 2),
    "backbones: more": (["backbones", "clip"], 2),
    "no command": (["destill"], 2),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_bad_commands(case, folder):
    arguments, code = COMMANDS[case]
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr
    assert "Traceback" not in result.output
    assert "Error" not in result.stdout


def test_a_report_that_fails_leaves_no_page(folder):
    """Neither for groups nor for images that do not fit."""
    KEPT.save("set")
    result = run("report", "set", "--train", "data", *LITE0, "--groups", "text.png")
    assert result.exit_code == 1
    assert "Line 1 of text.png must name the columns path and group" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["data", "set", "text.png"]
    shutil.rmtree("set")
