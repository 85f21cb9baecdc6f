"""Backbones around a user's own module."""

import copy
import functools
import importlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from torch import nn

from sklgm.backbones import Backbone, _backbone, get_backbone
from tests.tiny_backbones import TinyConvNet, counting_backbone, tiny_backbone, unimportable_net


def test_features_are_the_normalised_net():
    net = TinyConvNet().eval()
    backbone = tiny_backbone()
    pixels = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(backbone.features(pixels), net((pixels - 0.5) / 0.25))
    assert backbone.n_features == 16
    assert backbone.name == "tiny"


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_is_left_alone(training):
    net = TinyConvNet().train(training)
    net.layers[0].weight.requires_grad_(False)
    net.layers[3].weight.grad = torch.ones_like(net.layers[3].weight)
    before = copy.deepcopy(net.state_dict())
    backbone = Backbone.from_module(net, image_size=16)
    pixels = torch.rand(2, 3, 16, 16, requires_grad=True)
    backbone.features(pixels).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training is training
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert net.layers[3].weight.grad.eq(1).all()

    assert not any(part.training for part in backbone.module.modules())
    assert not any(p.requires_grad or p.grad is not None for p in backbone.module.parameters())
    assert all(
        torch.equal(value, before[key]) for key, value in backbone.module.state_dict().items()
    )
    with torch.no_grad():
        net.layers[0].weight.zero_()
    assert backbone.module.layers[0].weight.any()


def test_gradients_reach_every_pixel():
    pixels = torch.rand(2, 3, 16, 16, requires_grad=True)
    tiny_backbone().features(pixels).square().sum().backward()
    assert pixels.grad.ne(0).all()


def test_no_grad_gives_tensors_that_autograd_may_meet_later():
    with torch.no_grad():
        features = tiny_backbone().features(torch.rand(2, 3, 16, 16))
    assert not features.requires_grad
    weight = torch.ones(16, requires_grad=True)
    (features @ weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    backbone = tiny_backbone()
    pixels = torch.rand(2, 3, 16, 16, requires_grad=True)
    full = backbone.features(pixels)
    half = backbone.features(pixels, autocast=dtype)
    half.sum().backward()
    assert half.dtype == torch.float32
    assert pixels.grad.isfinite().all()
    torch.testing.assert_close(half, full, atol=0.05, rtol=0.05)
    assert not torch.equal(half, full)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(backbone.features(pixels), full, atol=0, rtol=0)


def test_float64_and_half_modules_become_float32():
    for net in (TinyConvNet().double(), TinyConvNet().half()):
        backbone = Backbone.from_module(net, image_size=16)
        assert backbone.features(torch.rand(1, 3, 16, 16, dtype=torch.float64)).dtype == (
            torch.float32
        )
        assert net.layers[0].weight.dtype != torch.float32


def test_nets_that_view_their_activations_work():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    net.forward = lambda x: net[1](net[0](x)).view(len(x), -1)
    assert Backbone.from_module(net, image_size=8).n_features == 4 * 4 * 4


def test_nothing_is_cut_off_with_a_crop_of_all():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    net = TinyConvNet()
    whole = Backbone.from_module(net, image_size=28, crop_pct=1)
    assert whole.canvas_size == 28
    wanted = Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(whole.resize(image), np.asarray(wanted))
    assert whole.fingerprint() != Backbone.from_module(net, image_size=28).fingerprint()


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resize_to_the_canvas_then_centre_crop(interpolation):
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    backbone = Backbone.from_module(TinyConvNet(), image_size=28, interpolation=interpolation)
    assert backbone.canvas_size == 32
    wanted = Image.fromarray(image).resize((51, 32), Image.Resampling[interpolation.upper()])
    wanted = np.asarray(wanted)[2:30, 12:40]
    np.testing.assert_array_equal(backbone.resize(image), wanted)
    batch = backbone.prepare([image, image[::-1, ::2]])
    assert batch.shape == (2, 3, 28, 28)
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch[0].permute(1, 2, 0) * 255, wanted, atol=1e-4)
    assert backbone.prepare([]).shape == (0, 3, 28, 28)


def test_resize_takes_read_only_arrays_and_threads():
    images = np.random.default_rng(0).integers(0, 256, (40, 20, 24, 3), dtype=np.uint8)
    images.setflags(write=False)
    wanted = tiny_backbone().prepare(images)
    backbone, results = tiny_backbone(), {}

    def work(index):
        results[index] = backbone.resize(images[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stacked = np.stack([results[i] for i in range(len(images))])
    np.testing.assert_array_equal(stacked, (wanted.permute(0, 2, 3, 1) * 255).round().byte())


def test_fingerprint_follows_tensors_and_normalisation():
    same = [tiny_backbone(seed=3).fingerprint() for _ in range(2)]
    others = [
        tiny_backbone(seed=4),
        tiny_backbone(seed=3, image_size=32),
        Backbone.from_module(TinyConvNet(seed=3), image_size=16, name="tiny"),
        Backbone.from_module(
            nn.Sequential(TinyConvNet(seed=3)), image_size=16, mean=0.5, std=0.25, name="tiny"
        ),
    ]
    assert same[0] == same[1]
    assert len({same[0], *(other.fingerprint() for other in others)}) == 5


class PooledNet(TinyConvNet):
    """A net whose features depend on attributes that are neither tensors nor modules."""

    def __init__(self, mode="mean", **attributes):
        super().__init__()
        self.mode = mode
        self.__dict__.update(attributes)

    def forward(self, images):
        maps = self.layers(images)
        return maps.amax(dim=(2, 3)) if self.mode == "max" else maps.mean(dim=(2, 3))


class RenamedNet(PooledNet):
    pass


def double(module, inputs, output):
    return 2 * output


def fingerprint(net):
    return Backbone.from_module(net, image_size=16, name="net").fingerprint()


def hooked(net):
    net.register_forward_hook(double)
    return net


def recurrent():
    """Make a layer that holds weak references to its own tensors."""
    net = nn.GRU(2, 2)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.fill_(0.5)
    return net


def tied(i, j):
    layers = [nn.Linear(16, 16, bias=False) for _ in range(2)]
    with torch.no_grad():
        layers[0].weight.fill_(1)
        layers[1].weight.fill_(2)
    return nn.Sequential(TinyConvNet(), *layers, layers[i], layers[j])


VARIANTS = {
    "mode": lambda: PooledNet("max"),
    "class": RenamedNet,
    "number": lambda: PooledNet(power=2),
    "another number": lambda: PooledNet(power=2.5),
    "function": lambda: PooledNet(act=nn.functional.gelu),
    "another function": lambda: PooledNet(act=nn.functional.relu),
    "builtin": lambda: PooledNet(act=torch.sigmoid),
    "another builtin": lambda: PooledNet(act=torch.tanh),
    "partial": lambda: PooledNet(act=functools.partial(nn.functional.softmax, dim=1)),
    "set": lambda: PooledNet(names=frozenset(["a", "b", "c"])),
    "plain tensor": lambda: PooledNet(scale=torch.ones(2)),
    "another plain tensor": lambda: PooledNet(scale=torch.zeros(2)),
    "modules in a list": lambda: PooledNet(parts=[nn.Dropout(0.1)]),
    "other modules in a list": lambda: PooledNet(parts=[nn.Dropout(0.2)]),
    "method": lambda: PooledNet(embed=PooledNet.forward),
    "recurrent": lambda: PooledNet(parts=[recurrent()]),
    "hook": lambda: hooked(PooledNet()),
    "tied to the first": lambda: tied(0, 0),
    "tied to the second": lambda: tied(0, 1),
}


def test_fingerprint_follows_plain_attributes_and_classes():
    prints = {name: fingerprint(make()) for name, make in VARIANTS.items()}
    prints["plain"] = fingerprint(PooledNet())
    assert len(set(prints.values())) == len(prints)
    again = {name: fingerprint(make()) for name, make in VARIANTS.items()}
    assert again == {name: prints[name] for name in again}


def test_fingerprint_outlasts_pickles_of_the_module():
    for make in VARIANTS.values():
        net = make()
        assert fingerprint(pickle.loads(pickle.dumps(net))) == fingerprint(net)


def test_fingerprint_is_the_same_in_another_process():
    script = (
        "from tests.backbones import test_module_backbone as t\n"
        "for make in t.VARIANTS.values(): print(t.fingerprint(make()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    # Imported by its full name, as in the other process.
    here = importlib.import_module("tests.backbones.test_module_backbone")
    assert done.stdout.split() == [here.fingerprint(make()) for make in here.VARIANTS.values()]


def test_a_compiled_module_is_the_module():
    """Neither what torch.compile returns nor what it notes down is a part of the net."""
    net = PooledNet()
    plain = fingerprint(net)
    inside = nn.Sequential(torch.compile(PooledNet(), backend="eager"))
    assert fingerprint(inside) == fingerprint(nn.Sequential(PooledNet()))
    for _ in range(2):
        compiled = torch.compile(net, backend="eager")
        assert fingerprint(compiled) == plain == fingerprint(net)
    assert Backbone.from_module(compiled, image_size=16).name == "PooledNet"
    net.compile(backend="eager")
    assert fingerprint(net) == plain


def test_what_cannot_be_hashed_makes_a_fingerprint_of_its_own():
    def make(factor):
        return PooledNet(act=lambda x: factor * x)

    backbones = [Backbone.from_module(make(k), image_size=16) for k in (1, 1, 2)]
    assert len({backbone.fingerprint() for backbone in backbones}) == 3
    assert backbones[0].fingerprint() == backbones[0].fingerprint()
    assert clone(backbones[0]).fingerprint() == backbones[0].fingerprint()


def test_fingerprint_outlasts_what_a_net_notes_down():
    backbone = counting_backbone()
    backbone.features(torch.rand(5, 3, 16, 16))
    assert pickle.loads(pickle.dumps(backbone)).fingerprint() == counting_backbone().fingerprint()


def test_pickle_keeps_the_features():
    backbone = tiny_backbone(seed=5)
    again = pickle.loads(pickle.dumps(backbone))
    pixels = torch.rand(3, 3, 16, 16)
    assert torch.equal(again.features(pixels), backbone.features(pixels))
    assert again.fingerprint() == backbone.fingerprint()
    assert again.image_size == 16
    assert not any(p.requires_grad for p in again.module.parameters())


def test_pickle_of_an_unimportable_class_has_its_code():
    backbone = Backbone.from_module(unimportable_net(), image_size=16)
    again = pickle.loads(pickle.dumps(backbone))
    torch.testing.assert_close(embed_zeros(again)[0], embed_zeros(backbone)[0])
    assert again.fingerprint() == backbone.fingerprint()
    # An importable one has not: its code may be mended, and what caches go by stays as it is.
    assert b"cloudpickle" in pickle.dumps(backbone)
    assert b"cloudpickle" not in pickle.dumps(tiny_backbone())


def embed_zeros(backbone):
    return backbone.features(torch.zeros(1, 3, 16, 16)), backbone.fingerprint()


def test_a_class_that_no_import_reaches_goes_to_other_processes():
    """joblib's workers are sent the class itself."""
    backbone = Backbone.from_module(unimportable_net(), image_size=16)
    ((features, fingerprint),) = joblib.Parallel(2)([joblib.delayed(embed_zeros)(backbone)])
    torch.testing.assert_close(features, embed_zeros(backbone)[0])
    assert fingerprint == backbone.fingerprint()


def test_clones_and_copies_are_the_same_object():
    backbone = tiny_backbone()
    assert clone(backbone) is backbone
    assert copy.copy(backbone) is backbone
    assert copy.deepcopy(backbone) is backbone
    assert get_backbone(backbone, device="cpu") is backbone
    assert backbone.with_image_size(16) is backbone
    assert get_backbone(backbone, image_size=16, device="cpu") is backbone


def test_a_device_gets_one_copy(monkeypatch):
    elsewhere = torch.device("meta")  # stands for a GPU: tensors there are not those on the CPU
    monkeypatch.setattr(_backbone, "resolve_device", torch.device)
    backbone = tiny_backbone()
    moved = backbone.to("meta")
    assert moved.device == elsewhere
    assert moved.n_features == 16
    assert next(moved.module.parameters()).device == elsewhere
    assert next(backbone.module.parameters()).device == torch.device("cpu")
    assert backbone.to("meta") is moved
    assert moved.to("cpu") is backbone
    assert pickle.loads(pickle.dumps(moved)).device == torch.device("cpu")


def test_counting_net_counts():
    backbone = counting_backbone()
    backbone.features(torch.rand(5, 3, 16, 16))
    backbone.features(torch.rand(2, 3, 16, 16))
    counter = backbone.module
    assert (counter.n_calls, counter.n_images, counter.largest_batch) == (2, 7, 5)


def test_tiny_nets_tell_colours_apart():
    colours = torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 16, 16)
    features = nn.functional.normalize(tiny_backbone().features(colours))
    assert (features @ features.T).fill_diagonal_(0).max() < 0.97


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (nn.Conv2d(3, 4, 3), {}, r"returned \(2, 4, 14, 14\)"),
        (nn.Sequential(nn.Flatten(0)), {}, r"returned \(1536,\)"),
        (TinyConvNet(), {"image_size": 0}, "image_size == 0, must be >= 1"),
        (TinyConvNet(), {"image_size": "16"}, "image_size must be an instance of int"),
        (TinyConvNet(), {"mean": (0.5, 0.5)}, "mean must be a number or three"),
        (TinyConvNet(), {"mean": 127.5, "std": 58}, "mean is that of pixels from 0 to 1.* by 255"),
        (TinyConvNet(), {"std": 0}, "std must be positive"),
        (TinyConvNet(), {"crop_pct": 1.1}, "crop_pct == 1.1, must be <= 1"),
        (TinyConvNet(), {"crop_pct": 0}, "crop_pct == 0, must be > 0"),
        (TinyConvNet(), {"interpolation": "linear"}, "must be 'bicubic' or 'bilinear', got 'lin"),
        (TinyConvNet(), {"std": 58}, "std must be positive, and that of .* by 255"),
    ],
)
def test_bad_modules_and_options(net, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Backbone.from_module(net, **{"image_size": 16} | options)


def test_bad_input_to_a_backbone():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=r"\(n, 3, 16, 16\).* got .*\(2, 3, 8, 8\)"):
        backbone.features(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="takes floats"):
        backbone.features(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(TypeError):  # Pillow has no such images
        backbone.resize(np.zeros((8, 8, 3)))
    with pytest.raises(ValueError, match="from_module for image_size=16"):
        backbone.with_image_size(32)
    with pytest.raises(ValueError, match="from_module"):
        get_backbone(TinyConvNet(), device="cpu")
    with pytest.raises(ValueError, match="is not available"):
        backbone.to("cuda:77")
