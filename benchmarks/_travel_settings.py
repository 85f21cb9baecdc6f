"""What was tried so that prototypes travel: each name is what a distiller is made with."""

import copy
import math
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import nn

from sklgm import (
    Backbone,
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    Pyramid,
    RandomImages,
    StandardAugmentation,
)
from sklgm.estimators import distiller
from sklgm.estimators.soft_labels import real_moments
from sklgm.images import check_images
from sklgm.matching import real
from sklgm.matching.discriminant import discriminant_head
from sklgm.matching.gradients import angular_distance, probe_gradients
from sklgm.synthesis import augmentation, loop

REAL = {"random": RandomImages, "nearest to class mean": ClassCentroids}
"""Selections of real images by the net at home."""


# What prototypes are made of --------------------------------------------------------------------


class Changed(Pyramid):
    """A pyramid that ends early, is damped towards its fine levels, or is averaged over steps.

    Parameters
    ----------
    finest : int or None, default=None
        Side of the last level; None is that of the images.
    damping : float, default=1.0
        What a level counts, as a share of the next coarser one.
    average : float, default=0.0
        Share of the mean over earlier steps that is kept at each step; the mean is the result.
    """

    _parameter_constraints = {
        **Pyramid._parameter_constraints,
        **dict.fromkeys(("finest", "damping", "average"), "no_validation"),
    }

    def __init__(self, finest=None, damping=1.0, average=0.0):
        super().__init__()
        self.finest, self.damping, self.average = finest, damping, average

    def start(self, *args, **kwargs):
        """Return a pyramid whose methods are changed."""
        images = super().start(*args, **kwargs)
        grow, decode, means = images.grow, images.decode, []

        def grow_less(step):
            n_levels = len(images.parameters)
            finer = images.sizes[n_levels] if n_levels < len(images.sizes) else math.inf
            return finer <= (self.finest or math.inf) and grow(step)

        def decode_damped():
            plain = images.parameters
            if not torch.is_grad_enabled() and means:
                images.parameters = list(means)
            elif self.average:
                with torch.no_grad():
                    for i, level in enumerate(plain):
                        if i == len(means):
                            means.append(level.detach().clone())
                        means[i].lerp_(level, 1 - self.average)
            shown = images.parameters
            images.parameters = [level * self.damping**i for i, level in enumerate(shown)]
            decoded = decode()
            images.parameters = plain
            return decoded

        images.grow, images.decode = grow_less, decode_damped
        return images


# What views show --------------------------------------------------------------------------------


class Views(StandardAugmentation):
    """Views that differ in colour, by stronger blur, or by larger crops at first.

    Parameters
    ----------
    scale, blur
        As in `StandardAugmentation`.
    colour : float, default=0.0
        Largest change of a channel's contrast, as a logarithm, and twice that of its brightness.
    strongest_blur : float, default=1.0
        Largest factor by which half of the views are made smaller before they are enlarged again.

    Attributes
    ----------
    smallest : float or None
        Smallest share of the canvas that a crop covers now; None is that of ``scale``.
    """

    smallest = None

    def __init__(self, scale=(0.15, 1.0), blur=0.5, colour=0.0, strongest_blur=1.0):
        super().__init__(scale=scale, blur=blur)
        self.colour, self.strongest_blur = colour, strongest_blur

    def draw(self, n, canvas_size, generator):
        """Draw the random numbers of views."""
        plain = self.scale
        if self.smallest is not None:
            self.scale = (self.smallest, plain[1])
        drawn = super().draw(n, canvas_size, generator)
        self.scale = plain
        return _Drawn(**vars(drawn), more=torch.rand(n, 8, generator=generator))

    def apply(self, images, views, size):
        """Make the views."""
        shown = super().apply(images, views, size)
        if self.colour:
            more = views.more.to(shown)
            gain = ((2 * more[:, :3] - 1) * self.colour).exp()[:, :, None, None]
            shift = ((more[:, 3:6] - 0.5) * self.colour)[:, :, None, None]
            mean = shown.mean(dim=(2, 3), keepdim=True)
            shown = ((shown - mean) * gain + mean + shift).clamp(0, 1)
        if self.strongest_blur > 1:
            shown = torch.cat([self._blur(*one) for one in zip(shown, views.more, strict=True)])
        return shown

    def _blur(self, image, more):
        if more[6] < 0.5:
            return image[None]
        side = round(image.shape[-1] / (1 + (self.strongest_blur - 1) * float(more[7])))
        small = nn.functional.interpolate(image[None], side, mode="bilinear", antialias=True)
        return nn.functional.interpolate(small, image.shape[-1], mode="bilinear")


@dataclass(frozen=True)
class _Drawn(augmentation.Views):
    more: torch.Tensor

    def __getitem__(self, rows):
        return _Drawn(**{name: values[rows] for name, values in vars(self).items()})


def _large_crops_first(bench, home):
    views = Views()

    def steps(state, labels, objectives, settings):
        matched = loop.match_gradients(state, labels, objectives, settings)
        for index in range(state.next_step, settings.max_iter):
            views.smallest = 0.15 + 0.65 * (1 - index / settings.max_iter)
            yield next(matched)

    within = mock.patch.object(distiller, "match_gradients", steps)
    return {"augmentation": views, "within": within}


# What features are ------------------------------------------------------------------------------


class Deep(nn.Module):
    """Pooled features of late stages beside the last, all of one scale.

    Parameters
    ----------
    net : torch.nn.Module
        The net.
    stages : list of str
        Names of its modules.
    squares : bool
        Whether the pooled squares of a stage count too, as batch norms see them.
    """

    def __init__(self, net, stages, squares):
        super().__init__()
        self.net, self.squares, self.seen = net, squares, {}
        self.scales = [1.0] * (1 + len(stages) * (1 + squares))
        for name in stages:
            net.get_submodule(name).register_forward_hook(self._note)

    def _note(self, module, inputs, output):
        places = (2, 3) if output.ndim == 4 else 1
        self.seen.append(output.mean(dim=places))
        if self.squares:
            self.seen.append((output**2).mean(dim=places))

    def forward(self, images):
        """Return the features, (n, sum of the numbers of features)."""
        self.seen = []
        parts = [self.net(images), *self.seen]
        self.seen = [part.detach() for part in self.seen]  # what has a graph cannot be copied
        return torch.cat([part * scale for part, scale in zip(parts, self.scales, strict=True)], 1)


STAGES = {
    "CLIP": ["transformer.resblocks.7", "transformer.resblocks.9"],
    "lite0": ["blocks.4", "blocks.5"],
    "lite2": ["blocks.4", "blocks.5"],
    "MobileNetV2": ["blocks.4", "blocks.5"],
    "ViT": ["blocks.7", "blocks.9"],
    "ResNet": ["blocks.12", "blocks.14"],
}


def _around(backbone, module, name):
    spec = backbone.spec
    size = {"image_size": backbone.image_size, "mean": spec.mean, "std": spec.std}
    return Backbone.from_module(module, **size, name=name)


def _deep(squares):
    def settings(bench, home):
        backbone = bench.net(home)["backbone"]
        net = Deep(copy.deepcopy(backbone.module), STAGES[home], squares)
        X, y = bench.train
        features = BackboneEmbedder(_around(backbone, net, "stages")).fit_transform(X)
        means = np.stack([features[np.asarray(y) == c].mean(axis=0) for c in np.unique(y)])
        between = means.var(axis=0)
        first = next(net.parameters())
        images = torch.zeros(1, 3, backbone.image_size, backbone.image_size).to(first)
        with torch.no_grad():
            net(images)
            n_last = net.net(images).shape[1]
        ends = np.cumsum([n_last, *(part.shape[1] for part in net.seen[: len(net.scales) - 1])])
        lengths = [part.sum() for part in np.split(between, ends[:-1])]
        net.scales = [float(np.sqrt(lengths[0] / length)) for length in lengths]
        net.seen = []
        return {"backbone": _around(backbone, net, f"{home} and its stages")}

    return settings


def _whitened(shrinkage):
    def settings(bench, home):
        net = bench.net(home)
        X, y = bench.train
        features = BackboneEmbedder(**net).fit_transform(X).astype(np.float64)
        classes, labels = np.unique(y, return_inverse=True)
        means = np.stack([features[labels == c].mean(axis=0) for c in range(len(classes))])
        spread = np.cov(features - means[labels], rowvar=False)
        spread[np.diag_indices_from(spread)] += shrinkage * np.trace(spread) / len(spread)
        values, vectors = np.linalg.eigh(spread)
        root = (vectors * values**-0.5) @ vectors.T * np.sqrt(values.mean())
        layer = nn.Linear(*root.shape, bias=False)
        layer.weight.data = torch.from_numpy(root).float()
        module = nn.Sequential(copy.deepcopy(net["backbone"].module), layer)
        return {"backbone": _around(net["backbone"], module, f"{home}, whitened")}

    return settings


# How gradients are matched ----------------------------------------------------------------------


def _orthogonal(gradient):
    """Set the singular values of each head's gradient to 1, but those that are nearly 0."""
    wide = gradient.double()
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    roots = torch.where(values > 1e-6 * values.amax(-1, keepdim=True), values, torch.inf) ** -0.5
    return (vectors * roots[:, None, :]) @ vectors.mT @ wide


@torch.enable_grad()
def _orthogonal_loss(features, labels, heads, targets, matching, *, rows=slice(None)):
    features = features.detach().requires_grad_()
    made = _orthogonal(probe_gradients(features, labels, heads))
    loss = angular_distance(made, _orthogonal(targets.to(features)), matching).float()
    (derivative,) = torch.autograd.grad(loss, features)
    return loss.detach(), derivative[rows]


def _one_net_a_step(state, labels, objectives, settings):
    recent = state.recent
    while state.next_step < settings.max_iter:
        drawn = int(torch.randint(len(objectives), (), generator=state.generator))
        state.recent = [recent[drawn]]
        step = next(loop.match_gradients(state, labels, [objectives[drawn]], settings))
        state.recent = recent
        yield step


class _SoftLoss:
    """Gradients of the cross-entropy to what a teacher says, of real and of synthetic images."""

    def __init__(self, coef, intercept):
        self.coef, self.intercept = (torch.from_numpy(part).float() for part in (coef, intercept))

    def gradients(self, features, labels, heads, sample_weight=None):
        coef, intercept = self.coef.to(features), self.intercept.to(features)
        taught = (features @ coef.T + intercept).softmax(dim=-1)
        logits = torch.einsum("nd,hcd->nhc", features, heads)
        residuals = logits.softmax(dim=-1) - taught[:, None]
        if sample_weight is not None:
            residuals = residuals * sample_weight[:, None, None]
        flat = residuals.flatten(1)
        both = torch.cat([flat.T @ features, flat.sum(0)[:, None]], dim=1)
        return both.view(*heads.shape[:2], -1)

    @torch.enable_grad()
    def loss(self, features, labels, heads, targets, matching, *, rows=slice(None)):
        features = features.detach().requires_grad_()
        made = self.gradients(features, labels, heads)
        loss = angular_distance(made, targets.to(features), matching)
        (derivative,) = torch.autograd.grad(loss, features)
        return loss.detach(), derivative[rows]

    @contextmanager
    def within(self):
        of_real = mock.patch.object(real, "probe_gradients", self.gradients)
        with of_real, mock.patch.object(loop, "matching_loss", self.loss):
            yield


def _soft_loss(**more):
    def settings(bench, home):
        X, y = bench.train
        encoder = FrozenBackboneProbe(**bench.net(home))._encoder()
        indices = np.unique(y, return_inverse=True)[1]
        cpu = torch.device("cpu")
        known = real_moments(encoder, cpu, check_images(X), indices, np.ones(len(y)), None)
        loss = _SoftLoss(*discriminant_head(*known))
        return {"within": loss.within(), **more}

    return settings


PARTNER = dict.fromkeys(("CLIP", "MobileNetV2", "ViT", "ResNet"), "lite0")
PARTNER |= dict.fromkeys(("lite0", "lite2"), "MobileNetV2")


def _two_nets(**more):
    def settings(bench, home):
        nets = [bench.net(name)["backbone"] for name in (home, PARTNER[home])]
        return {"backbone": nets, **more}

    return settings


def _fixed(**settings):
    return lambda bench, home: settings


ORTHOGONAL = mock.patch.object(loop, "matching_loss", _orthogonal_loss)
ONE_NET = mock.patch.object(distiller, "match_gradients", _one_net_a_step)

SETTINGS = {
    "nothing": _fixed(),
    "nearest": _fixed(init="nearest", learning_rate=0.06),
    "nearest, rate .02": _fixed(init="nearest", learning_rate=0.02),
    "nearest, rate .01": _fixed(init="nearest", learning_rate=0.01),
    "nearest, damped": _fixed(
        init="nearest", learning_rate=0.06, parametrization=Changed(damping=0.7)
    ),
    "nearest, to 28 pixels": _fixed(
        init="nearest", learning_rate=0.04, parametrization=Changed(finest=28)
    ),
    "damped": _fixed(parametrization=Changed(damping=0.7)),
    "to 56 pixels": _fixed(parametrization=Changed(finest=56)),
    "mean of steps": _fixed(parametrization=Changed(average=0.9)),
    "colour": _fixed(augmentation=Views(colour=0.5)),
    "stronger blur": _fixed(augmentation=Views(blur=0.0, strongest_blur=8.0)),
    "large crops": _fixed(augmentation=Views(scale=(0.4, 1.0))),
    "small crops": _fixed(augmentation=Views(scale=(0.05, 1.0))),
    "large crops first": _large_crops_first,
    "noise": _fixed(augmentation=StandardAugmentation(blur=0.5, noise=0.5)),
    "nearest, rate .02, colour": _fixed(
        init="nearest", learning_rate=0.02, augmentation=Views(colour=0.5)
    ),
    "nearest, rate .01, colour": _fixed(
        init="nearest", learning_rate=0.01, augmentation=Views(colour=0.5)
    ),
    "nearest, rate .02, stronger blur": _fixed(
        init="nearest", learning_rate=0.02, augmentation=Views(blur=0.0, strongest_blur=8.0)
    ),
    "stages": _deep(squares=False),
    "stages and squares": _deep(squares=True),
    "whitened": _whitened(1.0),
    "whitened less": _whitened(10.0),
    "orthogonalised": _fixed(within=ORTHOGONAL),
    "soft loss": _soft_loss(),
    "soft loss, nearest, rate .02": _soft_loss(init="nearest", learning_rate=0.02),
    "two nets": _two_nets(),
    "two nets, one drawn a step": _two_nets(within=ONE_NET),
    "two nets, nearest, rate .02": _two_nets(init="nearest", learning_rate=0.02),
    "two a class, one random view": _fixed(prototypes_per_class=2, n_views=1),
}
"""By name: a function of a bench and the net at home that returns parameters of `LGMDistiller`;
``within``, if there, is a context manager that its fit runs in, without a cache."""
