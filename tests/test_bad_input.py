"""Bad input: one clear ValueError each, and nothing fitted."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklgm import (
    Backbone,
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    PrototypeSampler,
    Pyramid,
    RandomHeads,
    RandomImages,
    StandardAugmentation,
)
from tests.image_checks import fitted_names, needs_y, save_images, toy_images
from tests.tiny_backbones import TinyConvNet, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
DISTILLER = LGMDistiller(NET, max_iter=2, heads=RandomHeads(pool_size=4), n_views=1, random_state=0)
PROBE = FrozenBackboneProbe(NET, n_views=2, max_epochs=2, random_state=0)
ESTIMATORS = {
    "distiller": DISTILLER,
    "probe": PROBE,
    "probe with distiller": clone(PROBE).set_params(distiller=DISTILLER),
    "embedder": BackboneEmbedder(NET),
    "random": RandomImages(NET, random_state=0),
    "centroids": ClassCentroids(NET),
    "herding": HerdingImages(NET),
    "k-centre": KCenterImages(NET),
    "nearest": NearestImages(DISTILLER),
    "sampler": PrototypeSampler(DISTILLER),
}
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


class Bad(NamedTuple):
    X: object
    message: str
    y: object = Y


def with_value(value):
    images = X / 255
    images[3, 4, 5, 1] = value
    return images


# All that is refused is in ``images/test_image_arrays.py``.
IMAGES = {
    "empty": Bad(X[:0], "empty X", Y[:0]),
    "NaN": Bad(with_value(np.nan), r"finite.*X\[3\] go from nan"),
    "above the range": Bad(with_value(1.5), r"in \[0, 1\].*go from .* to 1\.5"),
    "channels first": Bad(np.moveaxis(X, -1, 1), r"np\.moveaxis\(X, -3, -1\)"),
    "rows": Bad(X[:, :, 0, 0], "backbone=None"),
    "table": Bad(pd.DataFrame(X[:, :, 0, 0]), "backbone=None"),
    "integers": Bad(X.astype(int), r"dtype int64.*astype\(np\.uint8\)"),
    "missing files": Bad([f"nowhere/{i}.png" for i in range(18)], "18 of 18 files cannot be found"),
    "tensor": Bad(torch.from_numpy(X), "channels of a tensor"),
    "mixed kinds": Bad([*X[:-1], Image.fromarray(X[-1])], "a list of Image and ndarray"),
    "None": Bad(None, "NoneType"),
    "a path": Bad("images", "X of kind str"),
}


@each_estimator
@pytest.mark.parametrize("case", IMAGES)
def test_bad_images(name, case):
    bad = IMAGES[case]
    refuse(clone(ESTIMATORS[name]), bad.X, bad.y, bad.message)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "sampler"])
@pytest.mark.parametrize("case", IMAGES)
def test_bad_images_after_fit(name, case):
    estimator = ESTIMATORS[name].fit(X, Y)
    method = estimator.transform if hasattr(estimator, "transform") else estimator.predict
    with pytest.raises(ValueError, match=IMAGES[case].message):
        method(IMAGES[case].X)


def text_file(path):
    path.write_text("not an image")


def empty_file(path):
    path.write_bytes(b"")


def truncated_jpeg(path):
    Image.fromarray(np.resize(X, (200, 200, 3))).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:5000])


@each_estimator
@pytest.mark.parametrize("spoil", [text_file, empty_file, truncated_jpeg])
def test_bad_files(name, spoil, tmp_path):
    estimator = clone(ESTIMATORS[name])
    paths = save_images(X, tmp_path)
    # Random images are only read when they are chosen.
    bad = range(18) if name == "random" else [7]
    for i in bad:
        spoil(tmp_path / f"{i}.png")
    message = r"\d+\.png cannot be read as an image: " if name == "random" else r"7\.png cannot be"
    if name == "embedder":
        estimator.fit(paths)
        with pytest.raises(ValueError, match=message):
            estimator.transform(paths)
    else:
        refuse(estimator, paths, Y, message)


@each_estimator
def test_a_file_that_vanishes(name, tmp_path):
    paths = save_images(X, tmp_path)
    (tmp_path / "7.png").unlink()
    refuse(clone(ESTIMATORS[name]), paths, Y, r"1 of 18 files cannot be found.*7\.png")


LABELS = {
    "one class": (["a"] * 18, "at least 2 classes in y; got 1 class: 'a'"),
    "one class of numbers": ([3] * 18, "at least 2 classes in y; got 1 class: 3"),
    "too few": (Y[:-1], "inconsistent numbers of samples: 18 images or rows in X and 17 labels"),
    "too many": ([*Y, "a"], "18 images or rows in X and 19 labels"),
    "none": (None, "requires y to be passed"),
    "strings and numbers": ([1, *Y[1:]], "y mixes strings"),
    "strings and None": (np.array([None, *Y[1:]], dtype=object), "1 of 18 labels in y are missing"),
    "strings and NaN": (pd.Series([np.nan, *Y[1:]], dtype=object), "the first at position 0"),
    "NaN": ([np.nan] + [1.0, 2.0] * 8 + [1.0], "1 of 18 labels in y are missing"),
    "continuous": (np.linspace(0, 1, 18), "continuous"),
    "two columns": (np.ones((18, 2), dtype=int), "1d|Multilabel"),
}


@each_estimator
@pytest.mark.parametrize("case", LABELS)
def test_bad_labels(name, case):
    y, message = LABELS[case]
    estimator = clone(ESTIMATORS[name])
    if needs_y(estimator):
        refuse(estimator, X, y, message)
    else:
        estimator.fit(X, y)  # they are not looked at


PARAMETERS = {
    "unknown backbone": ({"backbone": "dino2"}, "Unknown backbone 'dino2'. Did you mean 'dinov2'"),
    "unknown timm net": ({"backbone": "timm:resnet5"}, "Unknown backbone 'timm:resnet5'.*resnet50"),
    "module as backbone": ({"backbone": NET.module}, "backbone"),
    "image X without backbone": ({"backbone": None}, "dim 4"),
    "no prototypes": ({"prototypes_per_class": 0}, "prototypes_per_class"),
    "negative prototypes": ({"prototypes_per_class": -1}, "prototypes_per_class"),
    "half a prototype": ({"prototypes_per_class": 1.5}, "prototypes_per_class"),
    "too many prototypes": ({"prototypes_per_class": 7}, "has 6 images, fewer than"),
    "batch_size=0": ({"batch_size": 0}, "batch_size"),
    "batch_size=-1": ({"batch_size": -1}, "batch_size"),
    "batch_size of another kind": ({"batch_size": "large"}, "batch_size"),
    "device not there": ({"device": "cuda:77"}, "'cuda:77' is not available. Devices available"),
    "no device": ({"device": "toaster"}, "device='toaster' is not a device"),
    "device of another kind": ({"device": 1.5}, "device=1.5 is not a device"),
    "precision": ({"precision": "float8"}, "precision"),
    "image_size=0": ({"image_size": 0}, "image_size"),
    "image_size of a module": (
        {"image_size": 32},
        "made by Backbone.from_module for image_size=16",
    ),
    "n_jobs": ({"n_jobs": "all"}, "n_jobs"),
    "memory": ({"memory": 3}, "memory"),
    "augmentation": ({"augmentation": "strong"}, "augmentation"),
    "augmentation scale": (
        {"augmentation": StandardAugmentation(scale=(0, 2))},
        r"augmentation scale must be.*got \(0, 2\)",
    ),
    "augmentation noise": ({"augmentation": StandardAugmentation(noise=2)}, "'noise' parameter"),
    "no views": ({"n_views": 0}, "n_views"),
    "negative real views": ({"n_real_views": -1}, "n_real_views"),
    "parametrization": ({"parametrization": "wavelet"}, "parametrization"),
    "start size": (
        {"parametrization": Pyramid(start_size=99)},
        "start_size must be from 1 to the canvas size, 18; got 99",
    ),
    "no steps": ({"max_iter": 0}, "max_iter"),
    "no epochs": ({"max_epochs": 0}, "max_epochs"),
    "learning rate": ({"learning_rate": 0}, "learning_rate"),
    "matching": ({"matching": "column"}, "matching"),
    "class_weight": ({"class_weight": "heavy"}, "class_weight"),
    "class_weight of no class": ({"class_weight": {"z": 1}}, "class_weight names labels.*'z'"),
    "random_state": ({"random_state": "lucky"}, "random_state"),
    "distiller": ({"distiller": "LGM"}, "distiller"),
    "head": ({"head": "linear"}, "head"),
}


def cases_for(name):
    known = ESTIMATORS[name].get_params(deep=False).keys()
    cases = [case for case, (params, _) in PARAMETERS.items() if params.keys() <= known]
    if name == "distiller":  # it can make more images than it is given
        cases.remove("too many prototypes")
    if name in (
        "nearest",
        "sampler",
    ):  # they ask it whether they are fitted
        cases.remove("distiller")
    return cases


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in ESTIMATORS for case in cases_for(name)]
)
def test_bad_parameters(name, case):
    params, message = PARAMETERS[case]
    refuse(clone(ESTIMATORS[name]).set_params(**params), X, Y, message)


@each_estimator
def test_images_without_a_backbone(name, tmp_path):
    estimator = clone(ESTIMATORS[name])
    nested = "backbone" not in estimator.get_params(deep=False)
    estimator.set_params(**{"distiller__backbone" if nested else "backbone": None})
    for images in (X, list(X), save_images(X, tmp_path), [Image.fromarray(x) for x in X]):
        refuse(estimator, images, Y, "dim 4|could not convert string|1D array")


@pytest.mark.parametrize("name", ["probe with distiller", "nearest", "sampler"])
@pytest.mark.parametrize("case", cases_for("distiller"))
def test_bad_parameters_of_a_nested_distiller(name, case):
    params, message = PARAMETERS[case]
    estimator = clone(ESTIMATORS[name])
    estimator.set_params(**{f"distiller__{key}": value for key, value in params.items()})
    refuse(estimator, X, Y, message)


@pytest.mark.parametrize("distiller", ["LGM", None, 3])
@pytest.mark.parametrize("estimator", [NearestImages, PrototypeSampler])
def test_what_is_no_distiller(estimator, distiller):
    estimator = estimator(distiller)
    with pytest.raises(ValueError, match="The 'distiller' parameter of"):
        estimator.fit(X, Y)
    assert not fitted_names(estimator)


def test_an_estimator_without_prototypes_is_no_distiller():
    with pytest.raises(ValueError, match="The 'distiller' parameter of NearestImages"):
        NearestImages(PROBE).fit(X, Y)


def test_a_backbone_that_makes_nan():
    spoilt = tiny_backbone()
    with torch.no_grad():
        next(spoilt.module.parameters()).fill_(float("nan"))
    refuse(clone(DISTILLER).set_params(backbone=spoilt), X, Y, "NaN or infinity")


class SpoiltWithGradients(TinyConvNet):
    """Features are NaN where gradients are wanted: in the synthesis alone."""

    def forward(self, images):
        return super().forward(images) * (float("nan") if torch.is_grad_enabled() else 1)


def test_a_loss_that_is_not_finite():
    spoilt = Backbone.from_module(SpoiltWithGradients(), image_size=16)
    refuse(clone(DISTILLER).set_params(backbone=spoilt), X, Y, "not finite at step 0.*float32")


def test_images_stay_in_their_range_whatever_the_learning_rate():
    estimator = clone(DISTILLER).set_params(learning_rate=1e30).fit(X, Y)
    assert np.isfinite(estimator.prototypes_).all()
    assert estimator.prototypes_.min() >= 0
    assert estimator.prototypes_.max() <= 1


def refuse(estimator, X, y, message):
    """Assert that fitting is one ValueError and leaves the estimator unfitted."""
    with pytest.raises(ValueError, match=f"(?s){message}"):
        estimator.fit(X, y)
    assert fitted_names(estimator) <= {"n_features_in_"}
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
