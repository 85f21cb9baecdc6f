"""A fit that was killed goes on where it was, and ends as one that never was."""

import errno
import os
import random
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from pickle import PicklingError

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklgm import Backbone, FrozenBackboneProbe, PrototypeSet, RandomHeads, StandardAugmentation
from tests.followers import Follower
from tests.image_checks import save_images
from tests.interrupted_fits import (
    CASES,
    MAX_ITER,
    Victim,
    X,
    Y,
    assert_same_fit,
    distiller,
    fit,
    kept,
    nets,
)
from tests.tiny_backbones import TinyConvNet

# What was happening, how many times it had happened before, and in which fit.
MOMENTS = [
    *(("batch", count, "images") for count in (1, 3)),
    ("batch", 6, "several backbones"),
    *(("step", count, "images") for count in (1, 11, MAX_ITER - 1, MAX_ITER)),
    ("write", 8, "images"),
    ("write", 12, "several backbones"),
]


@cache
def uninterrupted(case):
    return fit(case, None)


@pytest.fixture(autouse=True)
def interruptible():
    """Let Ctrl-C raise, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Crash(Follower):
    """A callback that counts batches, too, and fails at the beginning of a step."""

    n_batches = 0

    def __init__(self, step):
        self.step = step

    def on_fit_task_begin(self, estimator, context):
        super().on_fit_task_begin(estimator, context)
        self.n_batches += context.task_name == "batch"
        if context.task_name == "step" and self.n_steps == self.step:
            self.at_step()

    def at_step(self):
        raise RuntimeError("stop here")


@pytest.mark.parametrize(("what", "count", "case"), MOMENTS)
def test_a_killed_fit_goes_on_and_ends_bit_equal(what, count, case, tmp_path):
    victim = Victim(case, tmp_path)
    victim.wait_for(what, count)
    time.sleep(random.uniform(0, 0.015))
    victim.kill()
    assert_same_fit(fit(case, tmp_path), uninterrupted(case))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_fit_goes_on(case, tmp_path, at_every_step):
    expected = uninterrupted(case)
    for step in (2, 3, 3):
        with pytest.raises(RuntimeError, match="stop here"):
            fit(case, str(tmp_path), Crash(step))
        assert len(kept(tmp_path)) == 1
    steps = Crash(None)
    assert_same_fit(fit(case, joblib.Memory(str(tmp_path), verbose=0), steps), expected)
    assert steps.n_steps == expected.n_iter_ - 5  # one, two and two were kept
    assert steps.n_batches == 0
    assert kept(tmp_path) == []


def test_without_a_seed_nothing_is_kept(tmp_path, at_every_step):
    with pytest.raises(RuntimeError, match="stop here"):
        fit("images", tmp_path, Crash(4), random_state=None)
    assert list(tmp_path.iterdir()) == []


def test_a_memory_that_keeps_nothing_keeps_nothing(at_every_step):
    with pytest.raises(RuntimeError, match="stop here"):
        fit("images", joblib.Memory(None), Crash(4))
    assert_same_fit(fit("images", joblib.Memory(None)), uninterrupted("images"))


class Interrupt(Crash):
    """A callback that sends this process Ctrl-C at the beginning of a step, or of the pass."""

    times = 1

    def on_fit_task_begin(self, estimator, context):
        if self.step == 0 and context.task_name == "batch":
            self.at_step()
        super().on_fit_task_begin(estimator, context)

    def at_step(self):
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_step_is_finished_and_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 7"):
        fit("images", tmp_path, Interrupt(7))
    assert len(kept(tmp_path)) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # The last step of all too.
    with pytest.raises(KeyboardInterrupt, match=f"after step {MAX_ITER}"):
        fit("images", tmp_path, Interrupt(MAX_ITER - 7))
    steps = Crash(None)
    assert_same_fit(fit("images", tmp_path, steps), uninterrupted("images"))
    assert steps.n_steps == 0
    assert kept(tmp_path) == []


class Stop(Interrupt):
    """A callback that also ends the fit at that step."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return context.task_name == "step" and self.n_steps == self.step


def test_a_fit_that_was_to_end_when_interrupted_takes_no_more_steps(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 9"):
        fit("images", tmp_path, Stop(9))
    stop = Stop(9)
    stop.times = 0
    expected = fit("images", None, stop)
    assert expected.n_iter_ == 9
    assert_same_fit(fit("images", tmp_path), expected)


def test_an_interrupted_pass_leaves_no_state(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path, Interrupt(0))
    assert kept(tmp_path) == []


def test_the_second_interrupt_is_not_held_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sklgm.checkpoint.state._SECONDS_OF_ONE", -1)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit("images", tmp_path, Interrupt(7))
    assert not caught.value.args
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_fit(fit("images", tmp_path), uninterrupted("images"))


def test_an_interrupt_from_outside(tmp_path):
    victim = Victim("images", tmp_path, seconds=60, delay=0.05)
    victim.wait_for("step", 5)
    os.kill(victim.process.pid, signal.SIGINT)
    what, text = victim.end()
    assert what == "failed"
    assert "KeyboardInterrupt: Interrupted after step" in text
    steps = Crash(None)
    assert_same_fit(fit("images", tmp_path, steps), uninterrupted("images"))
    assert 0 < steps.n_steps <= MAX_ITER - 4


def test_a_handler_of_the_callers_own_is_left_alone(tmp_path):
    heard = []
    signal.signal(signal.SIGINT, lambda *args: heard.append(args))
    try:
        fit("images", tmp_path, Interrupt(7))
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(heard) == 1


def test_in_another_thread(tmp_path):
    with ThreadPoolExecutor() as pool:
        found = pool.submit(fit, "images", tmp_path).result()
    assert_same_fit(found, uninterrupted("images"))


@pytest.fixture
def begun(tmp_path):
    """A memory with a fit that was interrupted after seven steps."""
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path, Interrupt(7))
    return tmp_path


def n_steps(case, memory, **changes):
    """Return how many steps a fit took in this process."""
    steps = Crash(None)
    fit(case, memory, steps, **changes)
    return steps.n_steps


CHANGES = {
    "another parameter": {"learning_rate": 0.5},
    "other steps": {"max_iter": 30},
    "another seed": {"random_state": 1},
    "no seed": {"random_state": None},
    "more prototypes": {"prototypes_per_class": 2},
    "another net": {"backbone": nets(3)[2]},
    "another precision": {"precision": "bfloat16"},
    "other heads": {"heads": RandomHeads(2, 8)},
    "part of a part": {"augmentation": StandardAugmentation(flip=0)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_fit_starts_at_its_beginning(begun, change):
    params = CHANGES[change]
    (state,) = kept(begun)
    before = state.read_bytes()
    assert n_steps("images", begun, **params) == params.get("max_iter", MAX_ITER)
    assert state.read_bytes() == before
    assert n_steps("images", begun) == MAX_ITER - 7


@pytest.mark.parametrize("part", ["X", "y"])
def test_a_fit_of_other_data_starts_at_its_beginning(begun, part):
    data = {"X": X.copy(), "y": Y.copy()}
    if part == "X":
        data["X"][5, 3, 2, 1] ^= 1
    else:
        data["y"] = np.roll(Y, 1)
    steps = Crash(None)
    estimator = distiller(backbone=nets(1)[0], memory=begun).set_callbacks(steps)
    estimator.fit(data["X"], data["y"])
    assert steps.n_steps == MAX_ITER


def test_fit_gradients_goes_on_from_fit(begun):
    """Both match the same statistics; others are another fit."""
    estimator = distiller(backbone=nets(1)[0], memory=begun)
    gradients = estimator.compute_gradients(X, Y)
    steps = Crash(None)
    estimator.set_callbacks(steps).fit_gradients(gradients)
    assert steps.n_steps == MAX_ITER - 7
    assert_same_fit(estimator, uninterrupted("images"))
    gradients.sums[0, 0, 0] += 1e-3
    estimator.fit_gradients(gradients)
    assert steps.n_steps == 2 * MAX_ITER - 7


def test_with_another_number_of_threads_it_starts_anew(begun, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert n_steps("images", begun) == MAX_ITER


class Remembering(StandardAugmentation):
    """An augmentation that notes on itself what it did."""

    n_drawn = 0

    def draw(self, n, canvas_size, generator):
        self.n_drawn += n
        return super().draw(n, canvas_size, generator)


def test_an_augmentation_that_changes_while_it_works_finds_its_fit(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path, Interrupt(7), augmentation=Remembering())
    assert n_steps("images", tmp_path, augmentation=Remembering()) == MAX_ITER - 7


def test_what_cannot_be_pickled_cannot_be_kept(tmp_path):
    class Local(StandardAugmentation):
        pass

    batches = Crash(None)
    with pytest.raises((AttributeError, PicklingError), match="Local"):
        fit("images", tmp_path, batches, augmentation=Local())
    assert batches.n_batches == 0
    fit("images", None, augmentation=Local(), max_iter=1)


class OwnMemory:
    """A memory of a user's own: it has the one method that is asked for."""

    def cache(self, function, ignore=None):
        return function


def test_a_memory_with_cache_alone(at_every_step):
    assert_same_fit(fit("images", OwnMemory()), uninterrupted("images"))


def test_where_and_how_it_runs_may_change(begun, capsys):
    changes = {"n_jobs": 2, "verbose": 1, "device": "cpu"}
    # The folder, given another way.
    found = fit("images", joblib.Memory(f"{begun}/.", verbose=0), **changes)
    assert_same_fit(found, uninterrupted("images"))
    assert "goes on after step" in capsys.readouterr().out
    assert kept(begun) == []


def test_folds_of_two_processes_keep_their_own(tmp_path):
    probe = FrozenBackboneProbe(
        nets(1)[0],
        distiller=distiller(backbone=nets(1)[0], memory=tmp_path),
        max_epochs=2,
        random_state=0,
    )
    scores = cross_val_score(probe, X, Y, cv=2, n_jobs=2, error_score="raise")
    probe.distiller.set_params(memory=None)
    np.testing.assert_array_equal(scores, cross_val_score(probe, X, Y, cv=2))
    assert kept(tmp_path) == []


def test_an_interrupted_search_goes_on_when_repeated(tmp_path):
    def search(callback):
        maker = distiller(backbone=nets(1)[0], memory=tmp_path)
        probe = FrozenBackboneProbe(nets(1)[0], distiller=maker, max_epochs=2, random_state=0)
        grid = {"distiller__learning_rate": [0.06, 0.1]}
        found = GridSearchCV(probe, grid, cv=2, error_score="raise", refit=False)
        return found.set_callbacks(callback).fit(X, Y)

    # In the second fold of the first candidate.
    with pytest.raises(KeyboardInterrupt, match="after step 5"):
        search(Interrupt(MAX_ITER + 5))
    assert len(kept(tmp_path)) == 1
    steps = Crash(None)
    found = search(steps)
    assert steps.n_steps == 4 * MAX_ITER - 5
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"],
        search(Crash(None)).cv_results_["mean_test_score"],
    )
    assert kept(tmp_path) == []


def test_memory_does_not_travel_with_prototypes(tmp_path):
    fitted = fit("rows", tmp_path)
    assert "memory" not in PrototypeSet.from_estimator(fitted).provenance["parameters"]


def test_what_cannot_be_read_is_begun_anew_with_a_warning(begun):
    (state,) = kept(begun)
    whole = state.read_bytes()
    for content in (b"", b"no tensors", whole[:9], whole[: len(whole) // 2], whole + b"x"):
        state.write_bytes(content)
        with pytest.warns(UserWarning, match="cannot be read, and the fit starts anew"):
            assert n_steps("images", begun) == MAX_ITER
    assert kept(begun) == []


@pytest.mark.parametrize("n_good", [0, 3])
def test_a_full_disk_keeps_the_file_before_and_the_fit_going(
    tmp_path, at_every_step, monkeypatch, n_good
):
    written = []

    def sync(descriptor):
        written.append(descriptor)
        if len(written) > n_good:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RuntimeError, match="stop here"):
        fit("images", tmp_path, Crash(1))  # the pass over the real data is kept
    with monkeypatch.context() as patched:
        patched.setattr("sklgm.utils.files.os.fsync", sync)
        with (
            pytest.warns(UserWarning, match=r"cannot be kept in .*No space left"),
            pytest.raises(RuntimeError, match="stop here"),
        ):
            fit("images", tmp_path, Crash(10))
    assert len(kept(tmp_path)) == (n_good > 0)
    assert list(tmp_path.rglob("*.partial")) == []
    steps = Crash(None)
    assert_same_fit(fit("images", tmp_path, steps), uninterrupted("images"))
    assert steps.n_steps == MAX_ITER - n_good


def test_an_interrupt_that_cannot_be_kept_is_raised_all_the_same(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("sklgm.utils.files.os.fsync", fail)
    warned = pytest.warns(UserWarning, match="cannot be kept")
    with warned, pytest.raises(KeyboardInterrupt, match="after step 7"):
        fit("images", tmp_path, Interrupt(7))


def test_a_file_that_may_not_grow(tmp_path, at_every_step):
    """The operating system's own refusal, in the middle of a file."""
    fit("images", tmp_path)  # the pass over the real data is kept
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.warns(UserWarning, match=r"cannot be kept in .*too large"):
            found = fit("images", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_same_fit(found, uninterrupted("images"))
    assert list(tmp_path.rglob("*.partial")) == []


def test_images_that_cannot_be_read_leave_no_state(tmp_path):
    paths = save_images(X, tmp_path)
    Path(paths[9]).write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        distiller(backbone=nets(1)[0], memory=tmp_path / "kept").fit(paths, Y)
    assert kept(tmp_path / "kept") == []


class SpoiltWithGradients(TinyConvNet):
    """Features are NaN where gradients are wanted: in the loop alone."""

    def forward(self, images):
        return super().forward(images) * (float("nan") if torch.is_grad_enabled() else 1)


def test_a_loss_that_is_not_finite_leaves_no_state(tmp_path, at_every_step):
    spoilt = Backbone.from_module(SpoiltWithGradients(), image_size=16)
    with pytest.raises(ValueError, match="The loss is not finite"):
        fit("images", tmp_path, backbone=spoilt)
    assert kept(tmp_path) == []


def test_files_are_rarer_where_they_take_long(tmp_path, monkeypatch):
    monkeypatch.setattr("sklgm.utils.files._SECONDS", 0)
    monkeypatch.setattr("sklgm.utils.files._LEAST_TIMES", 1e6)
    written = []
    monkeypatch.setattr("sklgm.utils.files.os.fsync", written.append)
    fit("images", tmp_path)
    assert len(written) == 2  # one of the pass, one of the steps


def test_the_same_fit_in_two_processes_at_once(tmp_path):
    both = [Victim("images", tmp_path) for _ in range(2)]
    for victim in both:
        what, prototypes, *_ = victim.end()
        assert what == "fitted"
        np.testing.assert_array_equal(prototypes, uninterrupted("images").prototypes_)


def victims(case, folder, store):
    where = f"file://{folder / store}"
    return [Victim(case, folder, rank=rank, size=2, store=where, seconds=0) for rank in range(2)]


def test_two_processes_of_one_job_are_killed_and_go_on(tmp_path):
    case, work = "several backbones", tmp_path / "work"
    work.mkdir()
    for i, (what, count) in enumerate([("batch", 1), ("step", 2), ("step", 10)]):
        both = victims(case, work, f"../store{i}")
        both[i % 2].wait_for(what, count)
        for victim in both:
            victim.process.kill()  # before the other one notices
        for victim in both:
            victim.kill()
    assert len(kept(work)) == 1
    found = [victim.end() for victim in victims(case, work, "../store")]
    assert kept(work) == []
    (tmp_path / "whole").mkdir()
    whole = [victim.end() for victim in victims(case, tmp_path / "whole", "../store-whole")]
    for what, *arrays in (*found, *whole):
        assert what == "fitted"
        for array, first in zip(arrays, whole[0][1:], strict=True):
            np.testing.assert_array_equal(array, first)
