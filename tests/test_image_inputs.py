"""The image checks on every estimator, and every kind of X."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    RandomHeads,
    RandomImages,
)
from tests.image_checks import (
    IMAGE_CHECKS,
    assert_same_outputs,
    outputs,
    save_images,
    toy_images,
)
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone()
DISTILLER = LGMDistiller(
    NET, max_iter=4, heads=RandomHeads(4, 8), n_views=2, n_real_views=1, random_state=0
)
PROBE = FrozenBackboneProbe(NET, n_views=3, max_epochs=5, learning_rate=0.1, random_state=0)
ESTIMATORS = {
    "distiller": DISTILLER,
    "probe": PROBE,
    "probe with distiller": clone(PROBE).set_params(distiller=DISTILLER),
    "probe with selector": clone(PROBE).set_params(distiller=RandomImages(NET, random_state=0)),
    "probe with head": clone(PROBE).set_params(head=LogisticRegression()),
    "embedder": BackboneEmbedder(NET),
    "random": RandomImages(NET, random_state=0),
    "centroids": ClassCentroids(NET),
    "herding": HerdingImages(NET),
    "k-centre": KCenterImages(NET),
    "nearest": NearestImages(DISTILLER),
}

each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


@each_estimator
@pytest.mark.parametrize("check", IMAGE_CHECKS, ids=lambda check: check.__name__)
def test_image_check(check, name):
    check(clone(ESTIMATORS[name]), *toy_images())


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n != "nearest"])
def test_rows_are_refused_after_a_fit_on_images(name):
    X, y = toy_images()
    estimator = clone(ESTIMATORS[name]).fit(X, y).set_params(backbone=None)
    with pytest.raises(ValueError, match="was fitted on images"):
        outputs(estimator, np.ones((4, 16)))


def kinds_of_x(X, folder):
    paths = save_images(X, folder)
    objects = np.empty(len(X), dtype=object)
    objects[:] = [Image.fromarray(image) for image in X]
    return {
        "list of arrays": list(X),
        "nested lists": (X / 255).tolist(),
        "float32": X.astype(np.float32) / np.float32(255),
        "float64": X / 255,
        "PIL images": objects.tolist(),
        "object array of PIL images": objects,
        "paths": paths,
        "Path objects": [Path(path) for path in paths],
        "array of paths": np.array(paths),
        "Series of paths": pd.Series(paths, index=np.arange(len(paths))[::-1]),
        "reversed view": X[::-1][::-1],
        "Fortran order": np.asfortranarray(X),
    }


@each_estimator
def test_the_kind_of_x_changes_nothing(name, tmp_path):
    X, y = toy_images()
    expected = clone(ESTIMATORS[name]).fit(X, y)
    for kind, same in kinds_of_x(X, tmp_path).items():
        fitted = clone(ESTIMATORS[name]).fit(same, y)
        assert_same_outputs(expected, fitted, X)
        for method in ("transform", "predict"):
            if hasattr(fitted, method):
                got = np.asarray(getattr(fitted, method)(same))
                assert_array_equal(got, np.asarray(getattr(expected, method)(X)), err_msg=kind)


@each_estimator
def test_grey_images_are_images_of_three_equal_channels(name):
    X, y = toy_images()
    grey = X[..., 0]
    expected = clone(ESTIMATORS[name]).fit(np.repeat(grey[..., None], 3, axis=3), y)
    assert_same_outputs(expected, clone(ESTIMATORS[name]).fit(grey, y), grey)


@each_estimator
def test_images_of_unequal_sizes(name):
    X, y = toy_images()
    ragged = [np.pad(image, [(i % 3, 0), (0, i % 5), (0, 0)]) for i, image in enumerate(X)]
    fitted = clone(ESTIMATORS[name]).fit(ragged, y)
    method = fitted.transform if hasattr(fitted, "transform") else fitted.predict
    assert len(method(ragged)) == len(X)


def test_the_clone_of_an_estimator_shares_its_backbone():
    for estimator in ESTIMATORS.values():
        assert clone(estimator).backbone is NET
