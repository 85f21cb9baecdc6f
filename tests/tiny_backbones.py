"""Stand-in nets for tests: seeded, milliseconds, importable (so that they pickle)."""

import contextlib
import itertools
import os
import signal
import time

import torch
from torch import nn

from sklgm.backbones import Backbone


class TinyConvNet(nn.Module):
    """Three strided convolutions with BatchNorm and GELU, pooled.

    The running statistics are not the trivial ones, so that a net left in training mode gives
    other features. Making one leaves the global generator alone.
    """

    def __init__(self, n_features=16, seed=0):
        super().__init__()
        self.layers = nn.Sequential()
        with torch.random.fork_rng(devices=[]):
            for n_in, n_out in itertools.pairwise([3, 8, 12, n_features]):
                self.layers.append(nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False))
                self.layers.append(nn.BatchNorm2d(n_out))
                self.layers.append(nn.GELU())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    scale = (2 / layer.weight[0].numel()) ** 0.5
                    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
                    layer.weight.mul_(scale)
                elif isinstance(layer, nn.BatchNorm2d):
                    n = layer.num_features
                    layer.running_mean.copy_(0.2 * torch.randn(n, generator=generator))
                    layer.running_var.copy_(0.5 + torch.rand(n, generator=generator))
                    layer.weight.copy_(0.5 + torch.rand(n, generator=generator))
                    layer.bias.copy_(0.2 * torch.randn(n, generator=generator))

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))


class PartNet(nn.Module):
    """See a part of the image alone: mean and mean square of each colour there, in quarters.

    Parameters
    ----------
    part : {"border", "centre"}
        The outermost two pixels, or what is four or more pixels inside.
    """

    def __init__(self, part, size=14):
        super().__init__()
        places = torch.arange(size)
        inset = torch.minimum(places, size - 1 - places)
        depth = torch.minimum(inset[:, None], inset[None, :])
        seen = depth < 2 if part == "border" else depth >= 4
        upper, left = (places < size / 2)[:, None], (places < size / 2)[None, :]
        quarters = [seen & (upper == a) & (left == b) for a in (True, False) for b in (True, False)]
        self.register_buffer("masks", torch.stack(quarters).float())

    def forward(self, images):
        sums = [torch.einsum("nchw,qhw->nqc", values, self.masks) for values in (images, images**2)]
        return torch.cat(sums, dim=2).flatten(1) / self.masks[0].sum()


class CountingNet(nn.Module):
    """Count the forward calls and the images that pass through a net.

    A backbone works on a copy: read the counts from ``backbone.module``.
    """

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.reset()

    def reset(self):
        self.n_calls = 0
        self.n_images = 0
        self.largest_batch = 0

    def forward(self, images):
        self.n_calls += 1
        self.n_images += len(images)
        self.largest_batch = max(self.largest_batch, len(images))
        return self.net(images)


class RovingNet(nn.Module):
    """Note every call in a process other than the one it was made in.

    Parameters
    ----------
    folder : Path
        Where to: a file for each process, named by its number, with a line a call.
    n_workers : int, default=0
        Wait at each call until as many processes have begun.
    deadly : bool, default=False
        Kill the first process that gets as far as its third call.
    """

    def __init__(self, net, folder, n_workers=0, deadly=False):
        super().__init__()
        self.net = net
        self.folder = folder
        self.n_workers = n_workers
        self.deadly = deadly
        self.home = os.getpid()
        self.n_calls = 0

    def batch_sizes(self):
        """Return the number of images in each call, by process."""
        files = [file for file in self.folder.iterdir() if file.name.isdecimal()]
        return {int(file.name): [int(n) for n in file.read_text().split()] for file in files}

    def forward(self, images):
        if os.getpid() != self.home:
            self._note(images)
        return self.net(images)

    def _note(self, images):
        me = os.getpid()
        with (self.folder / str(me)).open("a") as file:
            file.write(f"{len(images)}\n")
        self.n_calls += 1
        if self.deadly and self.n_calls == 3:
            with contextlib.suppress(FileExistsError):
                (self.folder / "killed").touch(exist_ok=False)
                os.kill(me, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(self.batch_sizes()) < self.n_workers:
            assert time.monotonic() < deadline, "the other workers do not come"
            time.sleep(0.02)


def tiny_backbone(image_size=16, seed=0, n_features=16):
    """Make a backbone around a `TinyConvNet`."""
    return Backbone.from_module(
        TinyConvNet(n_features, seed), image_size=image_size, mean=0.5, std=0.25, name="tiny"
    )


def part_backbone(part):
    """Make a backbone of 14 pixels, canvas 16, that is blind to all but a part of the image."""
    return Backbone.from_module(PartNet(part), image_size=14, mean=0.5, std=0.25, name=part)


def counting_backbone(image_size=16, seed=0, n_features=16):
    """Make a backbone whose ``module`` counts; the counts start at zero."""
    backbone = Backbone.from_module(
        CountingNet(TinyConvNet(n_features, seed)), image_size=image_size, mean=0.5, std=0.25
    )
    backbone.module.reset()
    return backbone


def roving_backbone(folder, **params):
    """Make a backbone whose ``module`` notes in which processes it runs."""
    net = RovingNet(TinyConvNet(), folder, **params)
    return Backbone.from_module(net, image_size=16, mean=0.5, std=0.25)


def unimportable_net():
    """Make a net of a class that no import statement can reach."""

    class UnimportableNet(TinyConvNet):
        pass

    return UnimportableNet()
