"""Several processes of torch.distributed make the result of one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import timm
import torch
import torch._dynamo  # before there is a group: see sklgm/cli/torchrun.py
from torch import distributed, multiprocessing
from typer.testing import CliRunner

from sklgm import LGMDistiller, PrototypeSet, RandomHeads
from sklgm.backbones import Backbone
from sklgm.cli.app import app
from sklgm.matching import RealGradients
from sklgm.synthesis import Ranks
from sklgm.synthesis.ranks import ALONE
from tests.followers import Follower
from tests.image_checks import hard_images, save_images, toy_images
from tests.interrupted_fits import Victim, command, kept
from tests.tiny_backbones import TinyConvNet

X, Y = toy_images()
HARD = hard_images()
ROOT = Path(__file__).parents[1]


def distiller(**params):
    settings = {"max_iter": 12, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    net = Backbone.from_module(TinyConvNet(), image_size=16, name="tiny")
    return LGMDistiller(**{"backbone": net, **settings, **params})


# Every process leaves some images out.
WEIGHTS = np.arange(len(X)) % 4 / 2

CASES = {
    "one prototype a class": {},
    "five prototypes, in micro-batches": {"prototypes_per_class": 5, "batch_size": 3},
    "rows": {"backbone": None},
    "weights": {"sample_weight": WEIGHTS, "max_iter": 5},
    "matched by row, several nets": {"matching": "row", "backbone": "several"},
    "cached": {"memory": "cache"},
    "soft labels": {
        "soft_labels": True,
        "X": HARD,
        "backbone": "several",
        "augmentation": None,
    },
    "soft labels of weighted rows": {
        "soft_labels": True,
        "X": HARD,
        "backbone": None,
        "sample_weight": WEIGHTS,
    },
    "started at real images": {
        "soft_labels": True,
        "X": HARD,
        "init": "nearest",
        "prototypes_per_class": 2,
    },
}


class Stop(Follower):
    """A callback that ends a fit after five steps."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        return context.task_name == "step" and self.n_steps == 5


class Pairs:
    """A stream of some of the images."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return ((X[i], Y[i]) for i in self.rows)


def fit(case, folder, *, callback=None, **changes):
    """Fit a case, in whichever process."""
    torch.set_num_threads(1)
    params = {**CASES[case], **changes}
    weights = params.pop("sample_weight", None)
    data = params.pop("X", X)
    if "backbone" in params:
        if params["backbone"] is None:
            data = data.reshape(len(data), -1)[:, ::40] / 255
        if params["backbone"] == "several":
            nets = [TinyConvNet(seed=1), TinyConvNet(9, seed=2)]
            params["backbone"] = [
                Backbone.from_module(net, image_size=16, name=f"net{i}")
                for i, net in enumerate(nets)
            ]
    if "memory" in params:
        params["memory"] = str(folder / params["memory"])
    estimator = distiller(**params)
    if callback is not None:
        estimator.set_callbacks(callback)
    estimator.set_params(distributed=distributed.is_initialized())
    return estimator.fit(data, Y, weights)


def soft_labels(fitted):
    return getattr(fitted, "prototype_probabilities_", np.zeros(0))


def work(rank, size, folder):
    """Fit every case as one of several processes, and save what came out."""
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    found = {}
    for case in CASES:
        fitted = fit(case, folder)
        found[case] = (fitted.prototypes_, fitted.loss_curve_, soft_labels(fitted))
    # Processes agree on a seed when none is given; a second fit meets the cache.
    found["unseeded"] = (fit("one prototype a class", folder, random_state=None).prototypes_,)
    stop = Stop() if rank == 0 else None
    found["stopped"] = (fit("one prototype a class", folder, callback=stop).loss_curve_,)
    found["cached again"] = (fit("cached", folder).prototypes_,)
    # A class is in the stream of one or two processes, and the last process has none.
    estimator = distiller(distributed=True, n_real_views=0)
    own = np.array_split(np.argsort(Y), size - 1)[rank] if rank < size - 1 else []
    sums = estimator.compute_gradients(Pairs(own))
    found["stream"] = (sums.sums, estimator.fit_gradients(sums).prototypes_)
    found["messages"] = []
    others = {"random_state": rank}, {"sample_weight": WEIGHTS + rank}, {"soft_labels": rank > 0}
    for other in others:
        try:
            fit("one prototype a class", folder, **other)
        except ValueError as error:
            found["messages"].append(str(error))
    try:
        distiller(distributed=True, random_state=rank).compute_gradients(Pairs(own))
    except ValueError as error:
        found["of streams"] = str(error)
    distributed.destroy_process_group()
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.exists() else []
    found["threads"] = [name for name in names if "gloo" in name]
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What each of several processes found: with four, one has no prototype of three."""
    folder = tmp_path_factory.mktemp("ranks")
    # Each is forked from one that has imported all that is slow to import: see interrupted_fits.
    multiprocessing.start_processes(
        work, (request.param, folder), nprocs=request.param, start_method="forkserver"
    )
    return [torch.load(folder / f"{i}.pt", weights_only=False) for i in range(request.param)]


@pytest.mark.parametrize("case", CASES)
def test_processes_make_the_result_of_one(ranks, case, tmp_path):
    alone = fit(case, tmp_path)
    assert np.ptp(alone.prototypes_) > 0.1
    for found in ranks:
        prototypes, losses, soft = found[case]
        np.testing.assert_allclose(prototypes, alone.prototypes_, atol=1e-4)
        np.testing.assert_allclose(losses, alone.loss_curve_, atol=1e-4)
        np.testing.assert_allclose(soft, soft_labels(alone), atol=1e-4)


def test_the_callback_of_the_first_process_ends_the_fit_of_all(ranks, tmp_path):
    alone = fit("one prototype a class", tmp_path, callback=Stop())
    assert alone.n_iter_ == 5
    for found in ranks:
        np.testing.assert_allclose(found["stopped"][0], alone.loss_curve_, atol=1e-4)


def test_streams_of_several_processes_are_one(ranks):
    alone = distiller(n_real_views=0)
    sums = alone.compute_gradients(X, Y)
    for found in ranks:
        np.testing.assert_allclose(found["stream"][0], sums.sums, atol=1e-5)
        prototypes = alone.fit_gradients(sums).prototypes_
        np.testing.assert_allclose(found["stream"][1], prototypes, atol=1e-4)


def test_every_process_has_the_same(ranks):
    for found in ranks[1:]:
        for case, arrays in found.items():
            if case in ("messages", "threads", "of streams"):
                continue
            for array, first in zip(arrays, ranks[0][case], strict=True):
                np.testing.assert_array_equal(array, first)


def test_the_cache_of_each_process_is_its_own(ranks):
    for found in ranks:
        np.testing.assert_array_equal(found["cached again"][0], found["cached"][0])


def test_no_thread_outlives_its_group(ranks):
    """One that does can abort the process when it ends."""
    for found in ranks:
        assert found["threads"] == []


def test_other_parameters_in_another_process_are_refused(ranks):
    for found in ranks:
        assert len(found["messages"]) == 3
        for message in found["messages"]:
            assert "were given different labels, weights, parameters or seeds. Give" in message
        assert "have different classes, parameters or seeds. Give" in found["of streams"]


def test_statistics_are_added_up_in_copies():
    """Every tensor is reduced once; arrays that came from a cache stay as they were."""
    gradients = distiller(soft_labels=True).compute_gradients(X, Y)
    before = {name: tensor.numpy().copy() for name, tensor in gradients.tensors().items()}
    kept = {name: getattr(gradients, name) for name in before}
    gradients.add_up(lambda tensor: tensor.mul_(2), 16)
    for name, value in before.items():
        np.testing.assert_array_equal(torch.as_tensor(getattr(gradients, name)), 2 * value)
        np.testing.assert_array_equal(torch.as_tensor(kept[name]), value)
    empty = RealGradients(np.unique(Y), head_pool_size=8)
    empty.add_up(lambda tensor: None, 16)
    assert empty.sums.shape == (8, 3, 17)


def test_statistics_of_no_row_are_where_those_of_others_are():
    """Processes add up tensors of one device, and would wait for each other for ever otherwise."""

    def devices(gradients):
        found = []
        gradients.to("meta").add_up(lambda tensor: found.append(tensor.device.type), 16)
        return found

    full = distiller(soft_labels=True).compute_gradients(X, Y)
    empty = RealGradients(full.classes, head_pool_size=8, store_covariance=True)
    assert devices(empty) == devices(full)


def test_shares_cover_everything_once():
    for n in (0, 1, 3, 10, 17):
        for size in (1, 2, 3, 4):
            shares = [Ranks(rank, size).share(n) for rank in range(size)]
            rows = [i for share in shares for i in range(share.start, share.stop)]
            assert rows == list(range(n))
            assert max(s.stop - s.start for s in shares) <= -(-n // size)


def test_alone_nothing_is_sent():
    rows = torch.arange(6).reshape(3, 2)
    assert ALONE.gather(rows, 3) is rows


def words(folder, out, *options):
    """Return the words of the command, on images of its own."""
    net = ("--backbone", f"timm:test_vit@{folder / 'vit.pth'}", "--image-size", "32")
    images = str(folder / "images")
    more = ("--device", "cpu", "--seed", "3", "--jobs", "1", "--out", str(folder / out))
    return ("distill", images, *net, *more, *options)


def start_two(folder, out, *options):
    """Run the command in two processes, with what torchrun would tell them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [
        Victim(
            *words(folder, out, *options),
            **{**job, "TORCHELASTIC_RUN_ID": "test", "RANK": rank, "LOCAL_RANK": rank},
            target=command,
            n_threads=1,
        )
        for rank in "01"
    ]
    return [victim.end() for victim in both]


def start_torchrun(folder, *options, max_restarts=0):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--max-restarts", str(max_restarts), "-m", "sklgm", *words(folder, "cut", *options)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    )


@pytest.fixture
def folder(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    (tmp_path / "flat").mkdir()
    for path, label in zip(save_images(X, tmp_path / "flat"), Y, strict=True):
        target = tmp_path / "images" / str(label) / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(path).rename(target)
    return tmp_path


def test_the_command_in_two_processes(folder):
    """One folder is written, by the first of them."""
    # By default a transformer is in bfloat16 on some processors, but not in this process.
    options = ("--max-iter", "3", "--set", "precision=float32")
    (_, *first), (_, *second) = start_two(folder, "two", *options)
    assert first[0] == 0, first[1]
    assert second == [0, ""]
    assert first[1].count("prototypes of 3 classes") == 1
    assert "of memory in each of 2 processes" in first[1]
    assert "real images of the first process: 9 of 9 in" in first[1]
    CliRunner().invoke(app, words(folder, "one", *options))
    two, one = (PrototypeSet.load(folder / name) for name in ("two", "one"))
    np.testing.assert_allclose(two.images, one.images, atol=1e-4)
    assert two.labels.tolist() == one.labels.tolist()


def wait_for_passes(folder):
    """Wait until both processes have kept their pass over the images."""
    deadline = time.monotonic() + 120
    while len(list((folder / "cut.work").rglob("output.pkl"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_of_torchrun_is_interrupted_and_goes_on(folder):
    options = ("--max-iter", "16", "--set", "batch_size=4")
    process = start_torchrun(folder, *options, "--resume")
    wait_for_passes(folder)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)  # which torchrun passes on
    process.communicate()
    assert process.returncode != 0
    assert not (folder / "cut").exists()
    assert len(kept(folder / "cut.work")) == 1
    process = start_torchrun(folder, *options, "--resume")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.count("prototypes of 3 classes") == 1
    start_two(folder, "whole", *options)
    whole, cut = (PrototypeSet.load(folder / name) for name in ("whole", "cut"))
    np.testing.assert_array_equal(cut.images, whole.images)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["cut", "flat", "images", "vit.pth", "whole"]


def test_a_job_of_torchrun_that_loses_a_process_starts_again(folder):
    options = ("--max-iter", "16", "--set", "batch_size=4")
    process = start_torchrun(folder, *options, "--resume", max_restarts=1)
    wait_for_passes(folder)
    first = psutil.Process(process.pid).children()
    assert len(first) == 2
    first[1].kill()
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("found in") == 1  # of the second time, which makes no pass
    assert output.count("prototypes of 3 classes") == 1
    start_two(folder, "whole", *options)
    whole, cut = (PrototypeSet.load(folder / name) for name in ("whole", "cut"))
    np.testing.assert_array_equal(cut.images, whole.images)
