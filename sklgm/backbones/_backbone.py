"""`Backbone`: a frozen net with its preprocessing."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image

from sklgm.backbones import _checks, _modules
from sklgm.backbones._cache import find_or_make
from sklgm.backbones._libraries import LIBRARIES, load_net, naming_size
from sklgm.backbones._named import NamedBackbones
from sklgm.backbones._precision import enlarge_gradients, with_cast_weights
from sklgm.backbones._spec import BackboneSpec
from sklgm.images.decoding import WHITE, RGBImage
from sklgm.images.items import item_to_rgb
from sklgm.images.resizing import Picture
from sklgm.utils.devices import resolve_device

_CPU = torch.device("cpu")


class Backbone(NamedBackbones):
    """A frozen vision net that maps images to features.

    Made by `Backbone.from_name`, `from_timm`, `from_open_clip`, `from_transformers`, or by
    `Backbone.from_module` around a net of your own. Nothing about a backbone changes once it is
    made: its weights need no gradient, its BatchNorm layers are in evaluation mode, and
    scikit-learn's `clone`, `copy.copy` and `copy.deepcopy` return the same object.

    Parameters
    ----------
    spec : BackboneSpec
        The record that the backbone is made from.
    image_size : int
        Side of the square images that the net sees, in pixels.
    pretrained : bool
        Whether the weights are trained ones; always True around a user's module.
    device : torch.device
        The device of the net.
    module : torch.nn.Module or None, default=None
        The net; None is loaded at first use.

    Notes
    -----
    A pickle holds the record, the image size and `pretrained`, and of a net of your own that net,
    with its code where no import finds it. Loading it does no I/O and leaves the backbone on the
    CPU; weights are loaded again at first use, and a file that holds others is an error.
    """

    # Tensors made in a caller's inference mode would serve no gradient later on.
    @torch.inference_mode(False)
    def __init__(
        self,
        spec: BackboneSpec,
        image_size: int,
        pretrained: bool,
        device: torch.device,
        module: torch.nn.Module | None = None,
    ) -> None:
        self.spec = spec
        self.image_size = image_size
        self.pretrained = pretrained
        self.device = device
        self._lock = threading.RLock()
        self._module = module
        self._memory_format = torch.contiguous_format
        self._n_features = spec.n_features
        self._resize_steps: list[Callable[[Image.Image], Image.Image]] | None = None
        self._fingerprint: str | None = None
        self._passes_gradients = True
        self._placed = {device: self} if spec.source == "module" else {}
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    @classmethod
    @torch.inference_mode(False)
    def from_module(
        cls,
        module: torch.nn.Module,
        *,
        image_size: int,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        crop_pct: float = 0.875,
        interpolation: str = "bicubic",
        name: str | None = None,
    ) -> Backbone:
        """Wrap a net of your own: a deep copy of it, in float32 and evaluation mode, frozen.

        Parameters
        ----------
        module : torch.nn.Module
            Maps normalised images (n, 3, image_size, image_size) to features (n, n_features).
            Images must not influence each other.
        image_size : int
            Side of the images that the net sees.
        mean, std : float or sequence of 3 floats, default=0.0 and 1.0
            The net sees ``(pixels - mean) / std``, with RGB pixels in [0, 1].
        crop_pct : float, default=0.875
            Side of the centre crop that the net sees, as a share of the shorter side of the resized
            image, in (0, 1]. With 1 prototypes are as large as what the net sees.
        interpolation : {"bicubic", "bilinear"}, default="bicubic"
            Filter of the resize before an image is embedded. Random views are always cut from
            images that the bicubic filter has resized to `canvas_size`.
        name : str, default=None
            Name for display; None takes that of the module's class.

        Returns
        -------
        Backbone
            On the device of the module's first parameter. Images are prepared by a resize of the
            shorter side to `canvas_size` and a centre crop.

        Raises
        ------
        ValueError
            If it is no module, does not take such images, returns something else than a row of
            features for each, or an option is out of its range.
        """
        net = _modules.frozen_copy(module)
        prepared = {"mean": mean, "std": std, "crop_pct": crop_pct, "interpolation": interpolation}
        spec = _modules.describe(net, name, image_size, **prepared)
        first = next(itertools.chain(net.parameters(), net.buffers(), [torch.empty(0)]))
        backbone = cls(spec, spec.image_size, True, resolve_device(first.device), net)
        # Before the net first runs: it may keep notes of its calls.
        backbone._fingerprint = f"module-{_modules.hash_module(net, spec)}"
        backbone._n_features, backbone._passes_gradients = _modules.try_out(backbone)
        return backbone

    @property
    def name(self) -> str:
        """Canonical name."""
        return self.spec.name

    @property
    def canvas_size(self) -> int:
        """Side of prototypes, and of the square that images are brought to before a centre crop.

        It is ``image_size / crop_pct``, rounded down: `image_size` for CLIP, and 8/7 of it with a
        ``crop_pct`` of 0.875.
        """
        return self.spec.canvas_size(self.image_size)

    @property
    def centre_share(self) -> float:
        """Side of the centre crop as a share of the canvas, in (0, 1]."""
        return self.image_size / self.canvas_size

    @property
    def module(self) -> torch.nn.Module:
        """The frozen net: normalised images in, features out. Loaded when first read.

        Pretrained conv nets have their batch norms folded into the convolutions before them.
        """
        with self._lock:
            if self._module is None:
                with naming_size(self.spec, self.image_size):
                    self._module, self._memory_format = self._load()
            return self._module

    @property
    def n_features(self) -> int:
        """Length of the feature vectors; loads the net when no record tells."""
        if self._n_features is None:
            size = (2, 3, self.image_size, self.image_size)
            grey = torch.full(size, 0.5, device=self.device)
            with naming_size(self.spec, self.image_size), torch.no_grad():
                self._n_features = self.features(grey).shape[1]
        return self._n_features

    def features(
        self, pixels: torch.Tensor, *, autocast: torch.dtype | None = None
    ) -> torch.Tensor:
        """Embed images.

        Parameters
        ----------
        pixels : float tensor of shape (n, 3, image_size, image_size)
            RGB in [0, 1]. Pixels on another device are moved to the backbone's.
        autocast : torch.dtype, default=None
            Precision of `torch.autocast`; None is plain float32, whatever autocast the caller
            is in.

        Returns
        -------
        float32 tensor of shape (n, n_features)
            The features, with gradients to `pixels` unless called under `torch.no_grad`.
        """
        _checks.check_pixels(self.name, pixels, self.image_size)
        net = self.module
        if autocast is not None and self.spec.source != "module":  # a user's own is left as it is
            net = with_cast_weights(net, autocast)
        normalised = (pixels.to(self.device, torch.float32) - self._mean) / self._std
        normalised = normalised.contiguous(memory_format=self._memory_format)
        with torch.autocast(self.device.type, dtype=autocast, enabled=autocast is not None):
            found = net(normalised)
        _checks.check_features(self.name, found, len(pixels))
        features = found.float()
        if pixels.requires_grad and torch.is_grad_enabled():
            _checks.check_differentiable(self.name, features.requires_grad)
        if autocast is torch.float16:
            enlarge_gradients(normalised, features)
        return features

    def resize(self, image: RGBImage) -> np.ndarray:
        """Resize and crop one image as the backbone's own library does at test time.

        Parameters
        ----------
        image : uint8 array of shape (height, width, 3), or PIL image of mode RGB
            Any size. It is not modified.

        Returns
        -------
        uint8 array of shape (image_size, image_size, 3)
            The image that the net sees, before it is normalised.
        """
        if self._resize_steps is None:  # two threads may both make it: they make the same
            self._resize_steps = LIBRARIES[self.spec.source].transform(self.spec, self.image_size)
        picture: Image.Image = Picture(image)
        for step in self._resize_steps:
            picture = step(picture)
        return np.array(picture)

    def prepare(self, images: Iterable[Any]) -> torch.Tensor:
        """Resize and crop images, and bring them to the form that `features` takes.

        Parameters
        ----------
        images : iterable of arrays, PIL images or paths
            Of any kind and size that the estimators take, such as an array of shape
            (n, height, width, 3).

        Returns
        -------
        float32 tensor of shape (n, 3, image_size, image_size)
            Pixels in [0, 1], on the CPU.
        """
        side = self.image_size
        resized = [self.resize(item_to_rgb(image, WHITE)) for image in images]
        batch = np.stack(resized) if resized else np.empty((0, side, side, 3), np.uint8)
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float().div_(255)

    @torch.inference_mode(False)
    def to(self, device: str | int | torch.device) -> Backbone:
        """Return this backbone on a device.

        Parameters
        ----------
        device : str, int or torch.device
            Device, as the estimators take it.

        Returns
        -------
        Backbone
            The same object whenever the device is the same.
        """
        device = resolve_device(device)
        if device == self.device:
            return self
        if self.spec.source != "module":
            return find_or_make(type(self), self.spec, self.image_size, self.pretrained, device)
        with self._lock:
            if device not in self._placed:
                module = copy.deepcopy(self.module).to(device)
                other = Backbone(self.spec, self.image_size, True, device, module)
                other._n_features = self._n_features
                other._fingerprint = self._fingerprint
                other._passes_gradients = self._passes_gradients
                other._lock, other._placed = self._lock, self._placed
                self._placed[device] = other
            return self._placed[device]

    def with_image_size(self, image_size: int) -> Backbone:
        """Return this backbone for another image size; itself if it has that size.

        Parameters
        ----------
        image_size : int
            Side of the images that the net is to see.

        Returns
        -------
        Backbone
            Nets that take any size share their weights with this one.

        Raises
        ------
        ValueError
            If the net cannot take the size, or was made by `from_module` for another.
        """
        size = _checks.check_size(image_size)
        if size == self.image_size:
            return self
        if self.spec.source == "module":
            raise ValueError(
                f"Backbone {self.name!r} was made by Backbone.from_module for image_size="
                f"{self.image_size}; for {size} make another one with that size."
            )
        _checks.check_patches(self.name, size, self.spec.patch_size)
        return find_or_make(type(self), self.spec, size, self.pretrained, self.device)

    def fingerprint(self) -> str:
        """Identify what `features` computes, as a key for caches.

        Returns
        -------
        str
            Name, image size and kind of weights, and the content of a file that they are from.
            Of a user's module it is a hash of its classes, attributes, tensors and normalisation;
            attributes that cannot be hashed, such as a lambda, make it unlike any other. The
            device is no part of it.
        """
        if self._fingerprint is None:
            kind = "pretrained" if self.pretrained else "untrained"
            # Where a file lies does not matter, its content does.
            content = joblib.hash(replace(self.spec, checkpoint=""))
            self._fingerprint = f"{self.name}-{self.image_size}px-{kind}-{content}"
        return self._fingerprint

    @torch.inference_mode(False)
    def _load(self) -> tuple[torch.nn.Module, torch.memory_format]:
        """Return the net on its device, and how its pixels are best laid out in memory."""
        spec, size = self.spec, self.image_size
        if not spec.fixed_size and size != spec.image_size:
            # Held, so that other sizes find it, and its weights, as long as this one lives.
            self._original = self.with_image_size(spec.image_size)
            return self._original.module, self._original._memory_format
        return load_net(spec, size, self.pretrained, self.device)

    def __repr__(self) -> str:
        untrained = "" if self.pretrained else ", pretrained=False"
        return f"Backbone({self.name!r}, image_size={self.image_size}{untrained})"

    def __sklearn_clone__(self) -> Backbone:
        return self

    __copy__ = __sklearn_clone__

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.spec.source != "module":
            # A device is a property of the machine, so the pickle leaves it out.
            return find_or_make, (type(self), self.spec, self.image_size, self.pretrained, _CPU)
        known = {"_fingerprint": self._fingerprint, "_passes_gradients": self._passes_gradients}
        net = _modules.portable(self.to(_CPU).module)
        return Backbone, (self.spec, self.image_size, True, _CPU, net), known
