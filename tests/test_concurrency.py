"""Several fits at once: in threads, in processes that share a cache, in forks.

Elsewhere: the same fit in two processes (test_resume.py), threads that load one net
(backbones/test_named_backbones.py), searches and folds in processes (test_pipelines.py).
"""

import random
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklgm import (
    Backbone,
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    RandomHeads,
    RandomImages,
)
from tests.estimators.test_callbacks import Recorder
from tests.image_checks import assert_same_outputs, toy_images
from tests.interrupted_fits import CONTEXT
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
NAMED = Backbone.from_name("timm:test_resnet", image_size=32, pretrained=False)
X, Y = toy_images()
ROOT = Path(__file__).parents[1]


def distiller(backbone=NET, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **settings | params)


def probe(backbone=NET, **params):
    settings = {"n_views": 3, "max_epochs": 5, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **settings | params)


def estimators(net):
    return [
        distiller(net),
        distiller(net, random_state=1, matching="row", n_real_views=2, prototypes_per_class=2),
        distiller(net, parametrization="pixels", batch_size=4, precision="bfloat16"),
        probe(net),
        probe(net, distiller=distiller(net, augmentation=None, n_jobs=2)),
        BackboneEmbedder(net, batch_size=5),
        RandomImages(net, random_state=0),
        NearestImages(distiller(net, max_iter=2)),
    ]


def at_once(functions, n_threads=4):
    """Call functions in threads, the first of which begin together; return what they return."""
    together = threading.Barrier(min(n_threads, len(functions)))
    begun = iter(range(together.parties))

    def call(function):
        if next(begun, None) is not None:
            together.wait(timeout=60)
        return function()

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(call, functions))


# ---------------------------------------------------------------- threads


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("net", "n"), [(NET, 1), (NET, 2), (NAMED, 1)], ids=str)
def test_threads_find_what_one_finds(net, n, set_threads):
    set_threads(n)
    alone = [estimator.fit(X, Y) for estimator in estimators(net)]
    fits = [lambda one=one: one.fit(X, Y) for one in estimators(net) * 2]
    for found, expected in zip(at_once(fits), alone * 2, strict=True):
        assert_same_outputs(found, expected, X)
        if hasattr(found, "prototypes_"):
            assert_array_equal(found.prototypes_, expected.prototypes_)
    # One that is fitted may be used by all of them.
    for fitted in alone[3:6]:
        method = getattr(fitted, "predict_proba", None) or fitted.transform
        expected = method(X)
        for values in at_once([lambda m=method: m(X)] * 4):
            assert_array_equal(values, expected)


def test_threads_may_share_gradients():
    gradients = distiller().compute_gradients(X, Y)
    expected = [distiller(random_state=i).fit_gradients(gradients).prototypes_ for i in range(4)]
    gradients = distiller().compute_gradients(X, Y)  # whose heads nobody has drawn yet
    fits = [lambda i=i: distiller(random_state=i).fit_gradients(gradients) for i in range(4)]
    for fitted, prototypes in zip(at_once(fits), expected, strict=True):
        assert_array_equal(fitted.prototypes_, prototypes)


def states():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(),
        (kind, keys.tolist(), *rest),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
    )


def test_threads_leave_what_they_share_alone():
    before, filters = states(), list(warnings.filters)
    more = [ClassCentroids(NET, prototypes_per_class=2, random_state=0) for _ in range(8)]
    inside = at_once([lambda one=one: (one.fit(X, Y), states())[1] for one in estimators(NET)])
    at_once([lambda one=one: one.fit(X, Y) for one in more])
    assert states() == before
    for state in inside:
        assert state == before
    # scikit-learn itself adds one that makes errors of complex numbers.
    added = [one for one in warnings.filters if one not in filters]
    assert not [one for one in added if one[0] == "ignore"]


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_the_caller_is_in_is_not_let_in(name):
    def all_of_it(net):
        fitted = distiller(net).fit(X, Y)
        return (
            fitted.prototypes_,
            np.asarray(fitted.transform(X)),
            distiller(net).compute_gradients(X, Y).sums.numpy(),
            probe(net).fit(X, Y).decision_function(X),
            ClassCentroids(net, soft_labels=True).fit(X, Y).prototype_probabilities_,
            BackboneEmbedder(net).fit_transform(X),
        )

    def inside(net):
        with SURROUNDINGS[name]():
            return all_of_it(net)

    expected = all_of_it(NET)
    for found in at_once([lambda: inside(NET), lambda: all_of_it(NET)] * 2, n_threads=2):
        for values, others in zip(found, expected, strict=True):
            assert_array_equal(values, others)
    # Nets that are made or loaded there can be used elsewhere.
    size = 33 + list(SURROUNDINGS).index(name)
    with SURROUNDINGS[name]():
        nets = [
            tiny_backbone(),
            Backbone.from_name("timm:test_resnet", image_size=size, pretrained=False),
        ]
        for net in nets:
            BackboneEmbedder(net).fit_transform(X)
    assert_array_equal(distiller(nets[0]).fit(X, Y).prototypes_, expected[0])
    assert np.isfinite(distiller(nets[1], max_iter=1).fit(X, Y).prototypes_).all()


def test_callbacks_in_threads():
    expected = distiller().fit(X, Y).prototypes_
    recorders = [Recorder(stop_at=i if i % 2 else None) for i in range(6)]
    fits = [
        lambda r=recorder: distiller().set_callbacks(r).fit(X, Y)  # each its own
        for recorder in recorders
    ]
    for i, (fitted, recorder) in enumerate(zip(at_once(fits), recorders, strict=True)):
        n_steps = i + 1 if i % 2 else 6
        assert fitted.n_iter_ == n_steps
        assert recorder.ended.count("fit/synthesis/step") == n_steps
        assert (recorder.n_setups, recorder.n_teardowns) == (1, 1)
        if n_steps == 6:
            assert_array_equal(fitted.prototypes_, expected)


def test_an_error_in_a_thread_is_that_threads_own():
    bad = distiller(class_weight={"z": 1.0})

    def fail():
        with pytest.raises(ValueError, match="not classes"):
            bad.fit(X, Y)

    expected = distiller().fit(X, Y).prototypes_
    for fitted in at_once([fail, lambda: distiller().fit(X, Y)] * 3, n_threads=2)[1::2]:
        assert_array_equal(fitted.prototypes_, expected)


def test_folds_and_candidates_in_threads():
    estimator = probe(distiller=distiller())
    scores = cross_val_score(estimator, X, Y, cv=3, error_score="raise")
    grid = {"distiller__learning_rate": [0.01, 0.03], "learning_rate": [0.01, 0.05]}
    alone = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, Y)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert_array_equal(cross_val_score(estimator, X, Y, cv=3, error_score="raise"), scores)
        shared = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, Y)
    for name, values in alone.cv_results_.items():
        if name.endswith("test_score"):
            assert_array_equal(values, shared.cv_results_[name])
    assert_array_equal(alone.predict_proba(X), shared.predict_proba(X))


# ---------------------------------------------------------------- one cache for several fits


class Meet(Recorder):
    """Wait for the others where the cache is about to be looked at."""

    def __init__(self, barrier):
        super().__init__()
        self.barrier = barrier

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "real-gradients":
            self.barrier.wait(timeout=60)


def fit_with_cache(memory, barrier, pipe):
    warnings.simplefilter("error")
    fitted = distiller(counting_backbone(), memory=memory).set_callbacks(Meet(barrier)).fit(X, Y)
    pipe.send(fitted.prototypes_)


def assert_cached(memory, expected):
    """A fit that finds the pass over the real data done: only prototypes see the net."""
    net = counting_backbone()
    assert_array_equal(distiller(net, memory=memory).fit(X, Y).prototypes_, expected)
    synthetic = 6 * 3 * 3 + 3  # steps, prototypes, views; and the prototypes
    assert net.module.n_images == synthetic


def test_two_processes_share_a_cache(tmp_path):
    expected = distiller(counting_backbone()).fit(X, Y).prototypes_
    barrier = CONTEXT.Barrier(2)
    pipes = [CONTEXT.Pipe() for _ in range(2)]
    processes = [
        CONTEXT.Process(target=fit_with_cache, args=(str(tmp_path), barrier, there), daemon=True)
        for _, there in pipes
    ]
    for process in processes:
        process.start()
    for process, (here, _) in zip(processes, pipes, strict=True):
        assert here.poll(60), "the process does not get on"
        assert_array_equal(here.recv(), expected)
        process.join()
        assert process.exitcode == 0
    assert_cached(str(tmp_path), expected)


def test_threads_share_a_cache(tmp_path):
    expected = distiller(counting_backbone()).fit(X, Y).prototypes_
    barrier = threading.Barrier(4)
    fits = [
        lambda: distiller(NET_OF_CACHE, memory=tmp_path).set_callbacks(Meet(barrier)).fit(X, Y)
        for _ in range(4)
    ]
    for fitted in at_once(fits):
        assert_array_equal(fitted.prototypes_, expected)
    assert_cached(tmp_path, expected)


NET_OF_CACHE = counting_backbone()


# ---------------------------------------------------------------- forks

FORK = """
import multiprocessing

import numpy as np
import torch

from sklgm import FrozenBackboneProbe, LGMDistiller, RandomHeads
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone(image_size=56)  # large enough for OpenMP to use its threads
X = np.random.default_rng(0).integers(0, 256, (18, 64, 64, 3), dtype=np.uint8)
Y = np.tile([0, 1, 2], 6)


def fit():
    distiller = LGMDistiller(NET, max_iter=4, heads=RandomHeads(pool_size=8), random_state=0)
    probe = FrozenBackboneProbe(NET, distiller=distiller, max_epochs=5, random_state=0)
    return probe.fit(X, Y).decision_function(X)


def work(pipe):
    torch.set_num_threads(1)
    pipe.send(fit())


torch.set_num_threads(2)
expected = fit()
context = multiprocessing.get_context("fork")
here, there = context.Pipe()
process = context.Process(target=work, args=(there,), daemon=True)
process.start()
assert here.poll(60), "the fork does not get on"
np.testing.assert_allclose(here.recv(), expected, atol=1e-5)
process.join()
assert process.exitcode == 0
np.testing.assert_array_equal(fit(), expected)  # the parent goes on
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_fork_with_one_thread_fits():
    """OpenMP's threads do not survive a fork: a child that asks for them would wait for ever."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_clone_may_be_fitted_while_its_original_is():
    original = distiller(max_iter=30)
    expected = clone(original).fit(X, Y).prototypes_
    fits = [lambda: original.fit(X, Y), lambda: clone(original).fit(X, Y)]
    for fitted in at_once(fits):
        assert_array_equal(fitted.prototypes_, expected)
