"""Batches on their way to the net: bytes that become floats on the device."""

import threading

import numpy as np
import pytest
import torch

from sklgm import BackboneEmbedder, LGMDistiller
from sklgm.backbones import Backbone
from sklgm.images import check_images
from sklgm.passes.encoder import Encoder
from sklgm.synthesis import BatchSize
from sklgm.utils.devices import resolve_device
from tests.tiny_backbones import tiny_backbone

rng = np.random.default_rng(5)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def encoder(device, batch_size, n_jobs=2):
    net = tiny_backbone(image_size=14).to(resolve_device(device))
    return Encoder(net, None, BatchSize(batch_size), n_jobs)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_batches_are_bytes_divided_by_255(device):
    # On a GPU memory that is handed on too early shows in some later batch.
    for _ in range(1 if device == "cpu" else 20):
        images = rng.integers(0, 256, (21, 16, 16, 3), dtype=np.uint8)
        batches = list(encoder(device, 5).canvases(check_images(images)))
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 1]
        assert {batch.device for batch in batches} == {resolve_device(device)}
        wanted = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        # A GPU multiplies by 1 / 255, which can differ in the last bit.
        torch.testing.assert_close(torch.cat(batches).cpu(), wanted, rtol=2**-22, atol=0)


@pytest.mark.parametrize("n_jobs", [2, 5])
@pytest.mark.parametrize("augmentation", [None, "blurred"])
def test_the_number_of_threads_changes_no_bit_of_the_real_pass(n_jobs, augmentation):
    images = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(23)]
    y = np.arange(23) % 3
    one, several = (
        LGMDistiller(
            tiny_backbone(image_size=14),
            augmentation=augmentation,
            batch_size=4,
            n_jobs=n,
            random_state=0,
        ).compute_gradients(images, y)
        for n in (1, n_jobs)
    )
    assert torch.equal(one.sums, several.sums)
    np.testing.assert_array_equal(one.image_sum, several.image_sum)


def threads_at_work():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sklgm-images")]


def test_a_pass_that_is_left_early_stops_the_threads():
    before = threads_at_work()  # a test that expected an error may hold some
    images = np.zeros((60, 16, 16, 3), np.uint8)
    batches = encoder("cpu", 4).canvases(check_images(images))
    next(batches)
    assert len(threads_at_work()) > len(before)
    batches.close()
    assert threads_at_work() == before


class Stumbling(torch.nn.Module):
    """Fails on images that are white."""

    def forward(self, x):
        if (x == 1).all():
            raise RuntimeError("snow blind")
        return x.mean((2, 3))


def test_an_error_of_the_net_stops_the_threads():
    before = threads_at_work()
    images = np.zeros((60, 16, 16, 3), np.uint8)
    images[8:] = 255
    embedder = BackboneEmbedder(
        Backbone.from_module(Stumbling(), image_size=14), batch_size=4, n_jobs=2
    )
    with pytest.raises(RuntimeError, match="snow blind"):
        embedder.fit_transform(images)
    assert threads_at_work() == before
