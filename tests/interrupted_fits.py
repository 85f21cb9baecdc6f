"""Fits in processes of their own, to be killed: they say where they are, and can be resumed."""

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from unittest.mock import patch

import numpy as np
import torch
import torch._dynamo  # before there is a group: see sklgm/cli/torchrun.py
from torch import distributed
from typer.testing import CliRunner

from sklgm import LGMDistiller, RandomHeads
from sklgm.backbones import Backbone
from sklgm.cli.app import app
from tests.image_checks import toy_images
from tests.tiny_backbones import TinyConvNet

X, Y = toy_images()
MAX_ITER = 20
# Forked from one that has imported all this already: a process starts in no time.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.interrupted_fits"])


def nets(n):
    return [
        Backbone.from_module(TinyConvNet(8 + i, seed=i), image_size=16, name=f"net{i}")
        for i in range(n)
    ]


CASES = {
    "images": {},
    "several backbones": {"n_backbones": 2, "prototypes_per_class": 2, "batch_size": 4},
    "rows": {"backbone": None},
    "gradients": {"method": "fit_gradients", "parametrization": "pixels"},
    "auto": {"batch_size": "auto", "augmentation": None, "class_weight": {"a": 2.0}},
}


def distiller(**params):
    settings = {
        "max_iter": MAX_ITER,
        "heads": RandomHeads(4, 8),
        "n_views": 2,
        "batch_size": 6,
        "random_state": 0,
    }
    return LGMDistiller(**{**settings, **params})


def kept(folder):
    """Return the files of interrupted fits in a memory."""
    return sorted((folder / "joblib" / "sklgm" / "interrupted").glob("*.safetensors"))


def fit(case, memory, callback=None, **changes):
    """Fit a case, perhaps from where another process was stopped."""
    params = {**CASES[case], **changes}
    several = nets(params.pop("n_backbones", 1))
    backbone = several if len(several) > 1 else several[0]
    method = params.pop("method", "fit")
    estimator = distiller(**{"backbone": backbone, "memory": memory, **params})
    data = X
    if estimator.backbone is None:
        data = X.reshape(len(X), -1)[:, ::40] / 255
    if callback is not None:
        estimator.set_callbacks(callback)
    if method == "fit":
        return estimator.fit(data, Y)
    return estimator.fit_gradients(estimator.compute_gradients(data, Y))


class Teller:
    """A callback that says what has begun, and dawdles, for others to kill its process then."""

    max_propagation_depth = None

    def __init__(self, say, delay):
        self.say = say
        self.delay = delay

    def setup(self, estimator, context):
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator, context):
        if context.task_name in ("batch", "step"):
            self.say(context.task_name)
            time.sleep(self.delay)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return False


def slow_sync(say):
    """Return a function that says when a file is written, and not yet in its place."""

    def sync(descriptor):
        say("write")
        time.sleep(0.02)

    return sync


def work(say, case, memory, rank=0, size=1, store=None, seconds=0.0, delay=0.005):
    """Fit a case, keeping its state after every step."""
    if size > 1:
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    with (
        patch("sklgm.utils.files.os.fsync", slow_sync(say)),
        patch("sklgm.utils.files._SECONDS", seconds),
        patch("sklgm.utils.files._LEAST_TIMES", 0),
    ):
        try:
            fitted = fit(case, memory, Teller(say, delay), distributed=size > 1)
            say("fitted", fitted.prototypes_, fitted.loss_curve_, fitted.prototype_features_)
        except BaseException:
            say("failed", traceback.format_exc())
            raise


def command(say, *arguments, **environment):
    """Run the command, and say how it ended."""
    os.environ.update(environment)
    result = CliRunner().invoke(app, arguments)
    say("ended", result.exit_code, result.output)


def begin(target, pipe, n_threads, args, params):
    """Do in a new process what it was started for."""
    torch.set_num_threads(n_threads)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(*what):
        with contextlib.suppress(BrokenPipeError):
            pipe.send(what)

    target(say, *args, **params)


class Victim:
    """A process that fits, or runs the command."""

    def __init__(self, *args, target=work, n_threads=None, **params):
        self.pipe, there = CONTEXT.Pipe()
        self.process = CONTEXT.Process(
            target=begin,
            args=(target, there, n_threads or torch.get_num_threads(), args, params),
            daemon=True,
        )
        self.process.start()
        there.close()

    def hear(self):
        """Return what it says next, None at its end."""
        assert self.pipe.poll(300), "the process does not get on"
        try:
            return self.pipe.recv()
        except EOFError:
            return None

    def wait_for(self, what, count=1):
        """Wait until it has said something so many times."""
        while count:
            heard = self.hear()
            assert heard is not None, "the process has ended"
            assert heard[0] not in ("failed", "fitted"), heard
            count -= heard[0] == what

    def kill(self):
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def end(self):
        """Wait for its end, and return the last that it said."""
        last = None
        while (heard := self.hear()) is not None:
            last = heard
        self.process.join()
        return last


def assert_same_fit(found, expected):
    """Compare two fits bit by bit."""
    for name in ("prototypes_", "loss_curve_", "prototype_features_", "classes_"):
        first, second = getattr(found, name), getattr(expected, name)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second, err_msg=name)
    assert found.n_iter_ == expected.n_iter_
