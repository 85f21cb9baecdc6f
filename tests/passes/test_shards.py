"""The real pass in shards, on the workers of joblib's backends."""

import copy
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import torch
from dask.distributed import Client, LocalCluster
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklgm import LGMDistiller, RandomHeads, StandardAugmentation
from sklgm.estimators import gradients
from sklgm.passes import shards
from sklgm.passes.views import ViewStream
from tests.estimators.test_callbacks import Recorder
from tests.image_checks import fitted_names, save_images, toy_images
from tests.tiny_backbones import counting_backbone, roving_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
ROWS = np.random.default_rng(0).normal(size=(len(X), 5)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).integers(0, 4, len(X)) / 2
# Ray starts new workers for each pass, which takes long: one test has to do.
ENGINES = ["loky", "dask"]


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays():
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        local_directory=tmp_path_factory.mktemp("dask"),
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    yield
    ray.shutdown()


@pytest.fixture
def engine(request):
    """Two workers of one of joblib's backends, in use."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
        again = {"max_restarts": 3, "max_task_retries": 3}
        with joblib.parallel_config(backend="ray", n_jobs=2, ray_remote_args=again):
            yield "ray"
        return
    if request.param != "dask":
        with joblib.parallel_config(backend=request.param, n_jobs=2):
            yield request.param
        return
    with Client(request.getfixturevalue("cluster")) as client:
        client.wait_for_workers(2)
        with joblib.parallel_config(backend="dask"):
            yield "dask"


@contextmanager
def one_process():
    with joblib.parallel_config(backend="sequential"):
        yield


def batches(estimator, X, y):
    """Return the sizes of what a fit reports of its real pass."""
    recorder = Recorder()
    clone(estimator).set_callbacks(recorder).fit(X, y)
    return recorder.sizes


def assert_same_sums(gradients, expected):
    scale = float(expected.sums.abs().max())
    assert_allclose(gradients.sums, expected.sums, rtol=0, atol=1e-5 * scale)
    assert_array_equal(gradients.rows_seen, expected.rows_seen)
    assert_array_equal(gradients.images_seen, expected.images_seen)
    assert_allclose(gradients.row_weights, expected.row_weights)
    assert_array_equal(gradients.image_weights, expected.image_weights)
    assert_allclose(gradients.image_sum, expected.image_sum, rtol=1e-5)
    assert_allclose(gradients.feature_sum, expected.feature_sum, rtol=1e-5, atol=1e-5)
    assert_allclose(gradients.feature_moments(), expected.feature_moments(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_workers_find_the_same_as_one_process(engine, tmp_path):
    paths = save_images(X, tmp_path)
    for estimator, data in [
        (distiller(), X),
        (distiller(n_real_views=3, n_jobs=2, batch_size=4), paths),
        (distiller(None), ROWS),
    ]:
        with one_process():
            expected = clone(estimator).fit(data, Y, WEIGHTS)
            expected_gradients = estimator.compute_gradients(data, Y, sample_weight=WEIGHTS)
        gradients = estimator.compute_gradients(data, Y, sample_weight=WEIGHTS)
        assert gradients.is_balanced
        assert gradients.sums.device == torch.device("cpu")
        assert_same_sums(gradients, expected_gradients)
        fitted = estimator.fit(data, Y, WEIGHTS)
        # Sums are added in another order, and Adam enlarges what that rounds.
        assert_allclose(fitted.prototypes_, expected.prototypes_, rtol=1e-5, atol=5e-5)
        assert_allclose(fitted.loss_curve_, expected.loss_curve_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_two_workers_compute_at_once(engine, tmp_path):
    net = roving_backbone(tmp_path, n_workers=2)
    distiller(net).compute_gradients(X, Y)
    found = net.module.batch_sizes()
    assert len(found) == 2
    assert {max(sizes) for sizes in found.values()} == {len(X) // 2}


@pytest.mark.parametrize("engine", ["loky"], indirect=True)
def test_a_callback_hears_of_every_shard(engine):
    assert batches(distiller(), X, Y) == [9, 9]
    assert batches(distiller(None), ROWS, Y) == [9, 9]
    assert batches(distiller([NET, tiny_backbone(seed=1)]), X, Y) == [9, 9, 9, 9]


def test_a_number_of_jobs_alone_means_loky():
    with joblib.parallel_config(n_jobs=2):
        assert batches(distiller(), X, Y) == [9, 9]


@pytest.mark.parametrize("engine", ["loky"], indirect=True)
def test_the_cache_does_not_care_who_computed(engine, tmp_path):
    net = counting_backbone()
    first = distiller(net, memory=tmp_path).fit(X, Y)
    net.module.reset()
    with one_process():
        second = distiller(net, memory=tmp_path).fit(X, Y)
    assert_array_equal(first.prototypes_, second.prototypes_)
    assert net.module.largest_batch < len(X)  # prototypes alone


@pytest.mark.parametrize("engine", ["loky"], indirect=True)
def test_fewer_images_than_workers(engine):
    counts = {"a": 6, "b": 6, "c": 6}
    gradients = distiller().compute_gradients(X[:1], Y[:1], class_counts=counts)
    assert gradients.images_seen.sum() == 1


@pytest.mark.parametrize("backend", [None, "sequential", "threading", "multiprocessing"])
def test_other_settings_leave_the_pass_where_it_is(backend):
    if backend is None:
        assert batches(distiller(), X, Y) == [18]
        return
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert batches(distiller(), X, Y) == [18]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_worker_of_another_loop_does_not_shard(engine, tmp_path):
    net = roving_backbone(tmp_path)
    shards = joblib.Parallel(n_jobs=2)(
        joblib.delayed(distiller(net).compute_gradients)(X, Y) for _ in range(2)
    )
    assert_same_sums(*shards)
    for sizes in net.module.batch_sizes().values():
        assert set(sizes) <= {2, len(X)}  # two when a net out of a pickle is tried


@pytest.mark.parametrize("engine", ["loky"], indirect=True)
def test_a_grid_search_does_not_shard_but_its_last_fit_does(engine, tmp_path):
    net = roving_backbone(tmp_path)
    grid = {"learning_rate": [0.01, 0.03]}
    search = GridSearchCV(distiller(net, max_iter=1, n_views=1), grid, cv=2, scoring=lambda *_: 0.0)
    search.fit(X, Y)
    sizes = [size for sizes in net.module.batch_sizes().values() for size in sizes]
    n_views = 2  # a centre crop and a random view
    # Two when a net out of a pickle is tried; three prototypes; two views of each.
    assert [n for n in sizes if n not in {2, 3, 6}] == [9] * n_views * (4 + 2)


@pytest.mark.parametrize("engine", ["loky"], indirect=True)
def test_loky_gives_up_when_a_worker_is_lost(engine, tmp_path):
    estimator = distiller(roving_backbone(tmp_path, deadly=True), batch_size=2)
    with pytest.raises(TerminatedWorkerError):
        estimator.fit(X, Y)
    assert not fitted_names(estimator)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_unreadable_files_are_the_same_error(engine, tmp_path):
    paths = save_images(X, tmp_path)
    for i in (3, 13):  # in two shards
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    estimator = distiller()
    words = r"(?s)/3\.png cannot be read.*1 more.*/13\.png: it is a text file"
    with one_process(), pytest.raises(ValueError, match=words) as expected:
        clone(estimator).fit(paths, Y)
    with pytest.raises(ValueError, match=words) as error:
        estimator.fit(paths, Y)
    assert str(error.value) == str(expected.value)
    assert not fitted_names(estimator)


@pytest.mark.parametrize("engine", ["dask", "ray"], indirect=True)
def test_what_a_killed_worker_left_is_done_again(engine, tmp_path):
    estimator = distiller(batch_size=2)
    with one_process():
        expected = estimator.compute_gradients(X, Y)
    net = roving_backbone(tmp_path, n_workers=2, deadly=True)
    found = estimator.set_params(backbone=net).compute_gradients(X, Y)
    assert (tmp_path / "killed").exists()
    assert_same_sums(found, expected)


@pytest.mark.parametrize("start", [0, 5, 1024, 2500])
def test_views_do_not_depend_on_where_they_begin_or_how_many_are_taken(start):
    augmentation = StandardAugmentation(blur=0.5, noise=0.5)
    whole = ViewStream(augmentation, 18, seed=3).take(start + 1500)[start:]
    stream = ViewStream(augmentation, 18, seed=3, start=start)
    parts = [stream.take(n) for n in (0, 1, 499, 1000)]
    for name in ("boxes", "flip", "blur", "noise_seeds"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))
    assert len(torch.unique(whole.boxes, dim=0)) > 100


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("loky", ["first", "second", "first"]), ("dask", ["first"] * 3)],
    indirect=["engine"],
)
def test_workers_of_one_computer_take_devices_in_turn(engine, expected, monkeypatch):
    taken = []

    def add(real_pass, empty, *shard):
        taken.append(real_pass.device)
        return copy.deepcopy(empty)

    def here(**options):
        return lambda tasks: (function(*args, **params) for function, args, params in tasks)

    monkeypatch.setattr(shards, "_n_workers", lambda: 3)
    monkeypatch.setattr(shards, "_add_shard", add)
    monkeypatch.setattr(shards.joblib, "Parallel", here)
    monkeypatch.setattr(gradients, "devices_in_turn", lambda device: ["first", "second"])
    distiller(None).compute_gradients(ROWS, Y)
    assert taken == expected
