"""A fit that was killed goes on where it was, and ends as one that never was."""

import errno
import os
import random
import resource
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

import sklgm.checkpoint.file
from sklgm import Backbone, FrozenBackboneProbe, PrototypeSet, StandardAugmentation
from tests.image_checks import save_images
from tests.interrupted_fits import CASES, Victim, X, Y, assert_same_fit, distiller, fit, nets
from tests.tiny_backbones import TinyConvNet

# What was happening, how many times it had happened before, and in which fit.
MOMENTS = [
    *(("batch", count, "images") for count in (1, 2, 3)),
    *(("batch", count, "several backbones") for count in (3, 6, 9)),
    *(("step", count, "images") for count in (1, 2, 5, 11, 25, 49, 50)),
    *(("write", count, "images") for count in (1, 2, 3, 4, 20)),
    *(("write", count, "several backbones") for count in (4, 30)),
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


@pytest.fixture
def at_every_step(monkeypatch):
    """Keep a checkpoint after each step."""
    monkeypatch.setattr("sklgm.checkpoint.resume._SECONDS", 0)
    monkeypatch.setattr("sklgm.checkpoint.resume._LEAST_TIMES", 0)


def left_over(folder):
    return sorted(file.name for file in folder.iterdir())


class Crash:
    """A callback that counts steps, and fails at the beginning of one."""

    max_propagation_depth = None

    def __init__(self, step):
        self.step = step
        self.n_steps = 0
        self.n_batches = 0

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context):
        self.n_batches += context.task_name == "batch"
        if context.task_name == "step":
            self.n_steps += 1
            if self.n_steps == self.step:
                self.at_step()

    def at_step(self):
        raise RuntimeError("stop here")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return False


@pytest.mark.parametrize(("what", "count", "case"), MOMENTS)
def test_a_killed_fit_goes_on_and_ends_bit_equal(what, count, case, tmp_path):
    victim = Victim(case, tmp_path / "fit.safetensors")
    victim.wait_for(what, count)
    time.sleep(random.uniform(0, 0.015))
    victim.kill()
    assert "fit.safetensors.lock" in left_over(tmp_path)
    assert_same_fit(fit(case, tmp_path / "fit.safetensors"), uninterrupted(case))
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("case", [case for case in CASES if case != "unseeded"])
def test_every_kind_of_fit_goes_on(case, tmp_path, at_every_step):
    path = tmp_path / "fit.safetensors"
    expected = uninterrupted(case)
    for step in (2, 3, 3):
        with pytest.raises(RuntimeError, match="stop here"):
            fit(case, str(path), Crash(step))
        assert path.exists()
    steps = Crash(None)
    assert_same_fit(fit(case, path, steps), expected)
    assert steps.n_steps == expected.n_iter_ - 5  # one, two and two were kept
    assert steps.n_batches == 0
    assert left_over(tmp_path) == []


def test_a_fit_without_a_seed_goes_on_with_the_one_it_drew(tmp_path, at_every_step):
    path, copy = tmp_path / "fit", tmp_path / "copy"
    with pytest.raises(RuntimeError, match="stop here"):
        fit("unseeded", path, Crash(4))
    for name in left_over(tmp_path):
        shutil.copy(tmp_path / name, tmp_path / name.replace("fit", "copy"))
    first, second = fit("unseeded", path), fit("unseeded", copy)
    assert_same_fit(first, second)
    assert not np.array_equal(fit("unseeded", path).prototypes_, first.prototypes_)


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
    path = tmp_path / "fit"
    with pytest.raises(KeyboardInterrupt, match=r"after step 7, which is kept in .*fit"):
        fit("images", path, Interrupt(7))
    assert left_over(tmp_path) == ["fit", "fit.gradients0"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # The last step of all too.
    with pytest.raises(KeyboardInterrupt, match="after step 50"):
        fit("images", path, Interrupt(43))
    steps = Crash(None)
    assert_same_fit(fit("images", path, steps), uninterrupted("images"))
    assert steps.n_steps == 0
    assert left_over(tmp_path) == []


class Stop(Interrupt):
    """A callback that also ends the fit at that step."""

    times = 1

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return context.task_name == "step" and self.n_steps == self.step


def test_a_fit_that_was_to_end_when_interrupted_takes_no_more_steps(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 9"):
        fit("images", tmp_path / "fit", Stop(9))
    stop = Stop(9)
    stop.times = 0
    expected = fit("images", None, stop)
    assert expected.n_iter_ == 9
    assert_same_fit(fit("images", tmp_path / "fit"), expected)


def test_an_interrupted_pass_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path / "fit", Interrupt(0))
    assert left_over(tmp_path) == []


def test_the_second_interrupt_is_not_held_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sklgm.checkpoint.resume._SECONDS_OF_ONE", -1)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit("images", tmp_path / "fit", Interrupt(7))
    assert not caught.value.args
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_fit(fit("images", tmp_path / "fit"), uninterrupted("images"))


def test_an_interrupt_from_outside(tmp_path):
    victim = Victim("images", tmp_path / "fit", seconds=60)
    victim.wait_for("step", 10)
    os.kill(victim.process.pid, signal.SIGINT)
    what, text = victim.end()
    assert what == "failed"
    assert "KeyboardInterrupt: Interrupted after step" in text
    assert left_over(tmp_path) == ["fit", "fit.gradients0"]
    steps = Crash(None)
    assert_same_fit(fit("images", tmp_path / "fit", steps), uninterrupted("images"))
    assert 30 < steps.n_steps <= 41


def test_a_handler_of_the_callers_own_is_left_alone(tmp_path):
    heard = []
    signal.signal(signal.SIGINT, lambda *args: heard.append(args))
    try:
        fit("images", tmp_path / "fit", Interrupt(7))
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert len(heard) == 1


def test_in_another_thread(tmp_path):
    with ThreadPoolExecutor() as pool:
        found = pool.submit(fit, "images", tmp_path / "fit").result()
    assert_same_fit(found, uninterrupted("images"))


@pytest.fixture
def begun(tmp_path):
    """A fit that was interrupted after seven steps."""
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path / "fit", Interrupt(7))
    return tmp_path / "fit"


CHANGES = {
    "another parameter": ({"learning_rate": 0.5}, "learning_rate was 0.06 and is 0.5"),
    "other steps": ({"max_iter": 60}, "max_iter was 50 and is 60"),
    "another seed": ({"random_state": 1}, "random_state is another"),
    "no seed": ({"random_state": None}, "random_state is another"),
    "more prototypes": ({"prototypes_per_class": 2}, "prototypes_per_class was 1 and is 2"),
    "another net": ({"backbone": nets(3)[2]}, "backbone is another"),
    "another precision": (
        {"precision": "bfloat16"},
        "precision was ['float32'] and is ['torch.bfloat16']",
    ),
    "two things": ({"n_heads": 2, "n_views": 1}, "n_heads was 4 and is 2, n_views was 2 and is 1"),
    "part of a part": (
        {"augmentation": StandardAugmentation(flip=0)},
        "augmentation was 'standard' and is {'': 'StandardAugmentation'",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_refused(begun, change):
    params, message = CHANGES[change]
    before = begun.read_bytes()
    with pytest.raises(ValueError, match="is of another fit: ") as caught:
        fit("images", begun, **params)
    assert message in str(caught.value)
    assert f"Delete {str(begun)!r}, or pass another path as checkpoint" in str(caught.value)
    assert begun.read_bytes() == before
    assert_same_fit(fit("images", begun), uninterrupted("images"))


@pytest.mark.parametrize("part", ["X", "y"])
def test_other_data_are_refused(begun, part):
    data = {"X": X.copy(), "y": Y.copy()}
    if part == "X":
        data["X"][5, 3, 2, 1] ^= 1
    else:
        data["y"] = np.roll(Y, 1)
    with pytest.raises(ValueError, match=f"is of another fit: {part} is another. Give"):
        distiller(backbone=nets(1)[0], checkpoint=begun).fit(data["X"], data["y"])


def test_other_gradients_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("gradients", tmp_path / "fit", Interrupt(7))
    estimator = distiller(
        backbone=nets(1)[0], parametrization="pixels", checkpoint=tmp_path / "fit"
    )
    gradients = estimator.compute_gradients(X, Y)
    gradients.sums[0, 0, 0] += 1e-3
    with pytest.raises(ValueError, match=r"is of another fit: set of gradients is another\. Give"):
        estimator.fit_gradients(gradients)
    with pytest.raises(ValueError, match="another fit: X is another, set of gradients is another"):
        estimator.fit(X, Y)


def test_another_number_of_threads_is_refused(begun, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    with pytest.raises(ValueError, match=r"number of threads was .* and is 77"):
        fit("images", begun)


def test_where_and_how_it_runs_may_change(begun, tmp_path):
    changes = {"n_jobs": 2, "verbose": 0, "memory": str(tmp_path / "cache"), "device": "cpu"}
    # Paths, given another way.
    found = fit("images", str(begun.parent / "." / begun.name), **changes)
    assert_same_fit(found, uninterrupted("images"))


def test_numpy_numbers_are_numbers(begun):
    found = fit("images", begun, n_heads=np.int64(4), learning_rate=np.float64(0.06))
    assert_same_fit(found, uninterrupted("images"))


def test_a_fold_is_not_given_the_checkpoint_of_another(begun):
    probe = FrozenBackboneProbe(
        nets(1)[0], distiller=distiller(backbone=nets(1)[0], checkpoint=begun), max_epochs=2
    )
    search = GridSearchCV(probe, {"distiller__learning_rate": [0.06]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="is of another fit: X is another, y is another"):
        search.fit(X, Y)
    # With none left over from before, folds come one after the other.
    begun.unlink()
    assert search.fit(X, Y).best_score_ > 0
    assert not begun.exists()


def test_parameters_are_kept_as_given(tmp_path):
    estimator = distiller(backbone=None, checkpoint=tmp_path / "fit")
    assert clone(estimator).get_params()["checkpoint"] == tmp_path / "fit"
    fitted = estimator.fit(*load_iris(return_X_y=True))
    assert "checkpoint" not in PrototypeSet.from_estimator(fitted).provenance["parameters"]
    with pytest.raises(ValueError, match="'checkpoint' parameter of LGMDistiller must be"):
        estimator.set_params(checkpoint=3).fit(X, Y)


@pytest.mark.parametrize("suffix", ["", ".gradients0"])
def test_damaged_files_are_refused(begun, suffix):
    """Wherever bytes are lost or changed: an error that names the file, or no difference."""
    damaged = begun.with_name(begun.name + suffix)
    whole = damaged.read_bytes()
    rng = random.Random(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [0, 7, 8, header - 1, header, len(whole) - 1]
    places += [rng.randrange(header) for _ in range(12)] + [
        rng.randrange(len(whole)) for _ in range(6)
    ]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        for content in (flipped, whole[:place]):
            damaged.write_bytes(content)
            with pytest.raises(ValueError, match=r"damaged|has format|no checkpoint") as caught:
                fit("images", begun)
            assert str(damaged) in str(caught.value)
            assert "Delete" in str(caught.value)
            assert damaged.read_bytes() == content
    damaged.unlink()
    if suffix:
        with pytest.raises(ValueError, match="Delete that one, or pass another path"):
            fit("images", begun)
    damaged.write_bytes(whole)
    assert_same_fit(fit("images", begun), uninterrupted("images"))


def test_gradients_of_another_fit_are_refused(begun, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit("images", tmp_path / "other", Interrupt(7), n_real_views=2)
    (tmp_path / "other.gradients0").replace(tmp_path / "fit.gradients0")
    with pytest.raises(ValueError, match=r"gradients0' is damaged: its checksum differs\. It bel"):
        fit("images", begun)


def test_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("dear committee")
    with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
        fit("images", path)
    assert path.read_text() == "dear committee"
    assert left_over(tmp_path) == ["thesis.txt"]


def test_paths_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match=r"There is no folder .* for the checkpoint. Make it"):
        fit("images", tmp_path / "nowhere" / "fit")
    with pytest.raises(ValueError, match=r"checkpoint must be a file; .* is a folder"):
        fit("images", tmp_path)
    assert left_over(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_to():
    with pytest.raises(OSError, match="The checkpoint '/proc/self/fit' cannot be written: "):
        fit("images", "/proc/self/fit")


@pytest.mark.parametrize("n_good", [0, 1, 2, 3, 8])
def test_a_full_disk_keeps_the_file_before(tmp_path, at_every_step, monkeypatch, n_good):
    save, written = sklgm.checkpoint.file.save_file, []

    def save_some(tensors, path, metadata):
        if len(written) == n_good:
            path.write_bytes(b"the first bytes")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        save(tensors, path, metadata=metadata)

    path = tmp_path / "fit"
    with monkeypatch.context() as patched:
        patched.setattr("sklgm.checkpoint.file.save_file", save_some)
        with pytest.raises(OSError, match=r"cannot be written: .*No space left") as caught:
            fit("images", path)
    # First the file, the gradients, the file that names these, then one each step.
    assert ("The one before is still there" in str(caught.value)) == (n_good >= 2)
    assert not any(name.endswith((".partial", ".lock")) for name in left_over(tmp_path))
    steps = Crash(None)
    assert_same_fit(fit("images", path, steps), uninterrupted("images"))
    assert steps.n_steps == 50 - max(0, n_good - 3)
    assert left_over(tmp_path) == []


def test_a_file_that_may_not_grow(tmp_path, at_every_step):
    """The operating system's own refusal, in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written: .*too large.*The one before"):
            fit("images", tmp_path / "fit")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_over(tmp_path) == ["fit", "fit.gradients0"]
    steps = Crash(None)
    assert_same_fit(fit("images", tmp_path / "fit", steps), uninterrupted("images"))
    assert 0 < steps.n_steps < 50


def test_images_that_cannot_be_read_leave_nothing(tmp_path):
    paths = save_images(X, tmp_path)
    Path(paths[9]).write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        distiller(backbone=nets(1)[0], checkpoint=tmp_path / "fit").fit(paths, Y)
    assert not [name for name in left_over(tmp_path) if name.startswith("fit")]


class SpoiltWithGradients(TinyConvNet):
    """Features are NaN where gradients are wanted: in the loop alone."""

    def forward(self, images):
        return super().forward(images) * (float("nan") if torch.is_grad_enabled() else 1)


def test_a_loss_that_is_not_finite_leaves_nothing(tmp_path, at_every_step):
    spoilt = Backbone.from_module(SpoiltWithGradients(), image_size=16)
    with pytest.raises(ValueError, match="The loss is not finite"):
        fit("images", tmp_path / "fit", backbone=spoilt)
    assert left_over(tmp_path) == []


def test_files_are_rarer_where_they_take_long(tmp_path, monkeypatch):
    monkeypatch.setattr("sklgm.checkpoint.resume._SECONDS", 0)
    monkeypatch.setattr("sklgm.checkpoint.resume._LEAST_TIMES", 1e6)
    save, written = sklgm.checkpoint.file.save_file, []

    def count(tensors, path, metadata):
        written.append(path.name)
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr("sklgm.checkpoint.file.save_file", count)
    fit("images", tmp_path / "fit")
    names = ["fit", "fit.gradients0", "fit", "fit"]
    assert written == names


def test_two_processes_do_not_share_a_file(tmp_path):
    victim = Victim("images", tmp_path / "fit")
    victim.wait_for("step", 3)
    with pytest.raises(ValueError, match=rf"process {victim.process.pid} on .* uses this check"):
        fit("images", tmp_path / "fit")
    what, prototypes, *_ = victim.end()
    assert what == "fitted"
    np.testing.assert_array_equal(prototypes, uninterrupted("images").prototypes_)
    assert left_over(tmp_path) == []


def test_a_file_that_another_process_took_over_is_not_written(tmp_path, at_every_step):
    class Thief(Crash):
        def at_step(self):
            (tmp_path / "fit.lock").write_text("{}")

    with pytest.raises(OSError, match="was removed or replaced while this process held it"):
        fit("images", tmp_path / "fit", Thief(3))


def victims(case, folder, store):
    where = f"file://{folder / store}"
    return [
        Victim(case, folder / "fit", rank=rank, size=2, store=where, seconds=0) for rank in range(2)
    ]


@pytest.mark.parametrize("case", ["several backbones", "unseeded"])
def test_two_processes_of_one_job_are_killed_and_go_on(case, tmp_path):
    (tmp_path / "work").mkdir()
    moments = [("batch", 1), ("step", 2), ("step", 20)]
    for i, (what, count) in enumerate(moments):
        both = victims(case, tmp_path / "work", f"../store{i}")
        both[i % 2].wait_for(what, count)
        for victim in both:
            victim.kill()
        if what == "step":
            assert {"fit", "fit.gradients0"} <= set(left_over(tmp_path / "work"))
    with pytest.raises(ValueError, match="number of processes was 2 and is 1"):
        fit(case, tmp_path / "work" / "fit")
    found = [victim.end() for victim in victims(case, tmp_path / "work", "../store")]
    assert left_over(tmp_path / "work") == []
    for what, *arrays in found:
        assert what == "fitted"
        for array, first in zip(arrays, found[0][1:], strict=True):
            np.testing.assert_array_equal(array, first)
    if case == "unseeded":
        return
    (tmp_path / "whole").mkdir()
    for victim in victims(case, tmp_path / "whole", "../store-whole"):
        what, *arrays = victim.end()
        for array, resumed in zip(arrays, found[0][1:], strict=True):
            np.testing.assert_array_equal(array, resumed)


def test_an_error_of_the_first_process_is_every_ones(tmp_path):
    fit_alone = distiller(backbone=nets(1)[0], checkpoint=tmp_path / "fit")
    with pytest.raises(KeyboardInterrupt):
        fit_alone.set_callbacks(Interrupt(3)).fit(X, Y)
    for victim in victims("images", tmp_path, "store"):
        what, text = victim.end()
        assert what == "failed"
        assert "ValueError: The checkpoint" in text
        assert "number of processes was 1 and is 2" in text
