"""A pass over the real data that is interrupted goes on from the sums that were kept."""

import joblib
import numpy as np
import pytest

from sklgm import LGMDistiller, RandomHeads
from sklgm.passes import real_pass, rows
from tests.followers import Follower
from tests.image_checks import toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

X, Y = toy_images(n_per_class=12)
ROWS = X.reshape(len(X), -1)[:, ::40] / 255
WEIGHTS = np.arange(len(X)) % 3 / 2
CASES = {
    "images": {"batch_size": 3},
    "several views and weights": {"n_real_views": 3, "batch_size": 3, "sample_weight": WEIGHTS},
    "soft labels": {"soft_labels": True, "batch_size": 3},
    "no views": {"augmentation": None, "batch_size": 3},
    "rows": {"backbone": None},
    "weighted rows": {"backbone": None, "soft_labels": True, "sample_weight": WEIGHTS},
    "two nets": {"batch_size": 3, "backbone": [tiny_backbone(), tiny_backbone(seed=1)]},
}


class Stop(Follower):
    """A callback that presses Ctrl-C after some batches."""

    def __init__(self, n_batches):
        super().__init__()
        self.n_left = n_batches

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.n_left -= context.task_name == "batch"
        if self.n_left == 0:
            raise KeyboardInterrupt
        return False


@pytest.fixture(autouse=True)
def small_batches(at_every_step, monkeypatch):
    for module in (real_pass, rows):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)


def fit(case, memory, callback=None):
    params = {"max_iter": 2, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    params |= {"backbone": tiny_backbone(), **CASES.get(case, {}), "memory": memory}
    weights = params.pop("sample_weight", None)
    estimator = LGMDistiller(**params)
    if callback is not None:
        estimator.set_callbacks(callback)
    return estimator.fit(ROWS if params["backbone"] is None else X, Y, weights)


def kept(folder):
    return sorted((folder / "joblib" / "sklgm" / "interrupted").glob("pass-*"))


@pytest.mark.parametrize("case", CASES)
def test_it_ends_with_the_same_sums(case, tmp_path):
    whole = fit(case, tmp_path / "whole")
    for n_batches in (1, 2, 2):
        with pytest.raises(KeyboardInterrupt):
            fit(case, tmp_path / "cut", Stop(n_batches))
    assert len(kept(tmp_path / "cut")) == 1
    again = fit(case, tmp_path / "cut")
    np.testing.assert_array_equal(again.prototypes_, whole.prototypes_)
    np.testing.assert_array_equal(again.loss_curve_, whole.loss_curve_)
    assert not kept(tmp_path / "cut")


def test_no_image_passes_twice(tmp_path):
    net = counting_backbone()
    params = {"max_iter": 1, "heads": "zero", "random_state": 0, "batch_size": 3}
    distiller = LGMDistiller(net, memory=tmp_path, **params)
    LGMDistiller(net, **params).fit(X, Y)
    n_whole = net.module.n_images
    net.module.reset()
    with pytest.raises(KeyboardInterrupt):
        distiller.set_callbacks(Stop(5)).fit(X, Y)
    distiller.set_callbacks().fit(X, Y)
    assert net.module.n_images == n_whole


def test_sums_that_cannot_be_read_are_made_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path, Stop(5))
    (file,) = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="cannot be read, and it starts anew"):
        again = fit("images", tmp_path)
    np.testing.assert_array_equal(again.prototypes_, fit("images", None).prototypes_)


def test_the_pass_goes_on_when_sums_cannot_be_kept(tmp_path, monkeypatch):
    def fail(path, *args):
        raise OSError("no room")

    monkeypatch.setattr("sklgm.checkpoint.kept_file.write_tensors", fail)
    with pytest.warns(UserWarning, match=r"no room\. The fit goes on"):
        fit("images", tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_labels_are_spelled_as_they_were(dtype, tmp_path):
    labels = np.unique(Y, return_inverse=True)[1].astype(dtype)
    settings = {"max_iter": 1, "heads": "zero", "random_state": 0, "batch_size": 3}
    distiller = LGMDistiller(tiny_backbone(), memory=tmp_path, **settings)
    with pytest.raises(KeyboardInterrupt):
        distiller.set_callbacks(Stop(5)).fit(X, labels)
    assert kept(tmp_path)
    assert distiller.set_callbacks().fit(X, labels).classes_.dtype == dtype


def test_an_engine_starts_anew(tmp_path):
    """Shards of workers hold none of what this process kept."""
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path, Stop(5))
    with joblib.parallel_config(backend="loky", n_jobs=2):
        again = fit("images", tmp_path)
    np.testing.assert_allclose(again.prototypes_, fit("images", None).prototypes_, atol=1e-4)
    assert not kept(tmp_path)
