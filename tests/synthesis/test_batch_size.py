"""Batch sizes: chosen, halved when memory runs out, and without effect on the result."""

import gc
import weakref

import numpy as np
import pytest
import torch

from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, RandomHeads
from sklgm.backbones import Backbone
from sklgm.synthesis import BatchSize, batch_size
from tests.image_checks import toy_images
from tests.tiny_backbones import TinyConvNet

CPU = torch.device("cpu")
X, Y = toy_images()


class NarrowNet(torch.nn.Module):
    """A net that runs out of memory with more than so many images."""

    def __init__(self, most, error=torch.OutOfMemoryError, message="CUDA out of memory."):
        super().__init__()
        self.net, self.most = TinyConvNet(), most
        self.error, self.message = error, message
        self.sizes = []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise self.error(self.message)
        return self.net(images)


def narrow(most, **error):
    backbone = Backbone.from_module(NarrowNet(1000, **error), image_size=16, name="narrow")
    backbone.module.most = most
    return backbone


def distiller(backbone, **params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **settings | params)


def test_a_cpu_takes_what_its_caches_hold_and_a_gpu_more():
    on_cpu, on_gpu = (BatchSize.auto(224, torch.device(name)) for name in ("cpu", "cuda"))
    threads = max(2, torch.get_num_threads())
    assert on_cpu.images == threads * 2**17 // 224**2
    assert on_gpu.images == 128
    assert BatchSize.auto(4, CPU).images == 1024
    assert BatchSize.auto(5000, CPU).images == 1
    assert on_cpu.graphs > on_cpu.images


@pytest.mark.parametrize("most", [5, 1])
def test_the_batch_is_halved_until_it_fits(most):
    wide, small = narrow(1000), narrow(most)
    expected, found = (distiller(backbone).fit(X, Y) for backbone in (wide, small))
    np.testing.assert_allclose(found.prototypes_, expected.prototypes_, atol=1e-4)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, atol=1e-5)
    failed = [size for size in small.module.sizes if size > most]
    # Each phase finds out once, not at every step.
    assert 0 < len(failed) < 30
    assert max(small.module.sizes[-4:]) <= most


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory."),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 1 GB)"),
        (RuntimeError, "[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        (RuntimeError, "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_every_device_says_so_in_its_own_words(error, message):
    expected = BackboneEmbedder(narrow(1000)).fit(X).transform(X)
    found = BackboneEmbedder(narrow(3, error=error, message=message)).fit(X).transform(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_probes_halve_too():
    few = narrow(3)
    probe = FrozenBackboneProbe(few, n_views=4, max_epochs=5, random_state=0).fit(X, Y)
    expected = FrozenBackboneProbe(narrow(1000), n_views=4, max_epochs=5, random_state=0).fit(X, Y)
    np.testing.assert_allclose(probe.predict_proba(X), expected.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("params", [{"batch_size": 8}, {"n_views": 1, "batch_size": 7}])
def test_a_batch_size_of_ones_own_is_not_changed(params):
    backbone = narrow(4)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        distiller(backbone, **params).fit(X, Y)


def test_other_errors_and_single_images_are_not_tried_again():
    other = narrow(4, error=RuntimeError, message="mat1 and mat2 do not fit")
    with pytest.raises(RuntimeError, match="do not fit"):
        distiller(other).fit(X, Y)
    assert len([size for size in other.module.sizes if size > 4]) == 1
    none = distiller(narrow(0))
    with pytest.raises(torch.OutOfMemoryError):
        none.fit(X, Y)
    assert not hasattr(none, "prototypes_")


def test_graphs_go_first_then_images():
    size, seen = BatchSize(5, 12, adaptive=True), []

    def embed():
        seen.append((size.images, size.graphs))
        if size.images > 1:
            raise torch.OutOfMemoryError
        return "done"

    assert size.run(embed) == "done"
    assert seen == [(5, 12), (5, 6), (3, 3), (1, 1)]


def learn(size, n_images, n_bytes, device):
    """Let it see graphs of so many bytes."""
    with size.learning(n_images, device):
        torch.zeros(n_bytes // 4, requires_grad=True).exp()  # which keeps its output


def test_graphs_of_a_gpu_follow_its_free_memory(monkeypatch):
    free = {"mem_get_info": (6000, 9000), "memory_reserved": 2500, "memory_allocated": 500}
    for name, value in free.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    size, gpu = BatchSize.auto(224, torch.device("cuda")), torch.device("cuda")
    learn(size, 10, 400, gpu)
    assert size.graphs == 120  # 0.6 * (6000 + 2000) / 40
    assert size.images == 120
    learn(size, 10, 4000, gpu)  # once
    assert size.graphs == 120
    scarce = BatchSize.auto(224, gpu)
    learn(scarce, 1, 1000, gpu)
    assert (scarce.images, scarce.graphs) == (4, 4)
    given = BatchSize(7)
    learn(given, 1, 4, gpu)
    assert (given.images, given.graphs) == (7, 7)


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """8 KiB are free or hold files; the folder is where a container's limit may stand."""
    (tmp_path / "meminfo").write_text("MemTotal:  32 kB\nMemFree:  2 kB\nMemAvailable:  8 kB\n")
    monkeypatch.setattr(batch_size, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(batch_size.os, "cpu_count", torch.get_num_threads)
    monkeypatch.setattr(batch_size, "_CGROUP", tmp_path)
    return tmp_path


def graphs_on_a_cpu(n_images, n_bytes):
    size = BatchSize.auto(224, CPU)
    images = size.images
    learn(size, n_images, n_bytes, CPU)
    assert size.images == images  # so that the order of sums stays as it is
    return size.graphs


def test_graphs_of_a_cpu_follow_its_free_memory_too(memory, monkeypatch):
    least = BatchSize.auto(224, CPU).graphs
    assert graphs_on_a_cpu(10, 400) == 122
    assert graphs_on_a_cpu(1, 1000) == least
    (memory / "memory.max").write_text("5000\n")
    (memory / "memory.current").write_text("4000\n")
    (memory / "memory.stat").write_text("anon 1000\nfile 3000\ninactive_file 3000\n")
    assert graphs_on_a_cpu(10, 400) == 60  # what the container may take
    (memory / "memory.max").write_text("max\n")
    assert graphs_on_a_cpu(10, 400) == 122
    monkeypatch.setattr(batch_size.os, "cpu_count", lambda: 2 * torch.get_num_threads())
    assert graphs_on_a_cpu(10, 400) == 61  # one of two processes


@pytest.mark.parametrize("meminfo", [None, "", "MemTotal:  32 kB\n"])
def test_where_free_memory_cannot_be_asked_for_a_few_graphs_are_kept(memory, monkeypatch, meminfo):
    monkeypatch.setattr(batch_size, "_MEMORY", memory / "other")
    if meminfo is not None:
        (memory / "other").write_text(meminfo)
    assert graphs_on_a_cpu(10, 4) == BatchSize.auto(224, CPU).graphs


def test_counting_keeps_nothing_alive():
    """Not even where the way back is never gone, as after a pass that failed."""
    alive = weakref.WeakSet()
    with batch_size.counting_graph():
        features = torch.ones(3, requires_grad=True).exp()
        alive.add(features)
        assert len(alive) == 1
    del features
    gc.collect()
    assert not alive


def test_the_graph_of_a_net_is_what_it_saves_for_the_way_back():
    """Of a linear layer without bias nothing but weights; a square keeps its input."""
    layer = torch.nn.Linear(5, 7, bias=False).requires_grad_(False)
    pixels = torch.zeros(3, 5, requires_grad=True)
    with batch_size.counting_graph() as sizes:
        features = layer(pixels).square()
    assert sum(sizes.values()) == 4 * 3 * 7
    with batch_size.counting_graph() as sizes:
        layer(pixels.detach()).square()
    assert not sizes
    assert features.requires_grad
