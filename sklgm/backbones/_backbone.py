"""`Backbone`: a frozen net with its preprocessing, and the process-wide set of named ones."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from sklgm._devices import resolve_device
from sklgm.backbones._checks import check_patches, check_size, check_triple
from sklgm.backbones._libraries import LIBRARIES, find_spec
from sklgm.backbones._modules import dump_module, hash_module, hash_structure, own_rng
from sklgm.backbones._spec import BackboneSpec

_CPU = torch.device("cpu")


class Backbone:
    """A frozen vision net that maps images to features.

    Made by `Backbone.from_name` or `Backbone.from_module`. Nothing about a backbone changes
    once it is made: its weights need no gradient, its BatchNorm layers are in evaluation mode,
    and scikit-learn's `clone`, `copy.copy` and `copy.deepcopy` return the same object.

    Attributes
    ----------
    spec : BackboneSpec
        The record it was made from.
    name : str
        Canonical name.
    image_size : int
        Side of the square images that the net sees, in pixels.
    canvas_size : int
        Side of the prototypes made for it: 8/7 of `image_size`, rounded.
    pretrained : bool
        Whether the weights are trained ones; always True around a user's module.
    device : torch.device
        Where the net is.

    Notes
    -----
    What a pickle of a backbone holds:

    ==============  =============================================================
    made by         pickle
    ==============  =============================================================
    `from_name`     record, image size and `pretrained`: under 2 kB. Loading does
                    no I/O and imports no model library; the weights are loaded
                    again at first use. An untrained net is initialised from a
                    fixed seed, so it comes back the same.
    `from_module`   the module's class by reference, its attributes and its tensors.
    ==============  =============================================================

    Loaded backbones are on the CPU until `to` or `get_backbone` places them.
    """

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
        self._n_features = spec.n_features
        self._resize_steps: list[Callable[[Image.Image], Image.Image]] | None = None
        self._structure = ""
        self._fingerprint: str | None = None
        self._placed = {device: self}
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    @classmethod
    def from_name(
        cls, name: str, *, image_size: int | None = None, pretrained: bool = True
    ) -> Backbone:
        """Take a backbone by name; its weights are loaded at first use.

        Equal calls return the same object, so that a process holds one copy of the weights.

        Parameters
        ----------
        name : str
            One of `list_backbones`, ``"timm:<name>"`` for any net of timm, or
            ``"open_clip:<architecture>/<pretrained>"`` for any image tower of open_clip.
        image_size : int, default=None
            Side of the images that the net sees; None takes the record's size. Position
            embeddings are interpolated by the net's own library.
        pretrained : bool, default=True
            False gives the architecture with random weights from a fixed seed.

        Returns
        -------
        Backbone
            On the CPU.

        Raises
        ------
        ValueError
            If the name is unknown, or the size is not one that the net can take.
        """
        spec = find_spec(name, pretrained)
        size = spec.image_size if image_size is None else check_size(image_size)
        check_patches(spec.name, size, spec.patch_size)
        return _named(spec, size, bool(pretrained), _CPU)

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        *,
        image_size: int,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        name: str | None = None,
    ) -> Backbone:
        """Wrap a net of your own.

        The backbone works on a deep copy in float32, put in evaluation mode and with
        ``requires_grad_(False)``; the module that was passed is left as it is. Later changes to
        it do not reach the backbone.

        Parameters
        ----------
        module : torch.nn.Module
            Maps normalised images (n, 3, image_size, image_size) to features (n, n_features).
            Images must not influence each other.
        image_size : int
            Side of the images that the net sees.
        mean, std : float or sequence of 3 floats, default=0.0 and 1.0
            The net sees ``(pixels - mean) / std``, with RGB pixels in [0, 1].
        name : str, default=None
            For display; None takes the name of the module's class.

        Returns
        -------
        Backbone
            On the device of the module's first parameter. Images are prepared by a bicubic
            resize of the shorter side to `canvas_size` and a centre crop.

        Raises
        ------
        ValueError
            If the net does not return one feature vector an image.
        """
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
        size = check_size(image_size)
        spec = BackboneSpec(
            name=name or type(module).__name__,
            source="module",
            architecture=f"{type(module).__module__}.{type(module).__qualname__}",
            weights="",
            image_size=size,
            mean=check_triple("mean", mean),
            std=check_triple("std", std),
            resize="canvas",
            pooling="the module's own",
        )
        if min(spec.std) <= 0:
            raise ValueError(f"std must be positive, got {std!r}.")
        net = copy.deepcopy(module).float().eval().requires_grad_(False)
        net.zero_grad(set_to_none=True)
        devices = [tensor.device for tensor in (*net.parameters(), *net.buffers())]
        device = resolve_device(devices[0]) if devices else _CPU
        backbone = cls(spec, size, True, device, net)
        # Before the net first runs: it may keep notes of its calls.
        backbone._structure = hash_structure(net)
        _ = backbone.n_features  # one forward now: an unfit net is an error here, not in `fit`
        return backbone

    @property
    def name(self) -> str:
        """Canonical name."""
        return self.spec.name

    @property
    def canvas_size(self) -> int:
        """Side of the prototypes made for this backbone."""
        return round(self.image_size * 8 / 7)

    @property
    def module(self) -> torch.nn.Module:
        """The frozen net: normalised images in, features out. Loaded when first read.

        Raises
        ------
        WeightsNotFoundError
            If the weights are neither on this machine nor within reach.
        """
        with self._lock:
            if self._module is None:
                self._module = self._load()
            return self._module

    @property
    def n_features(self) -> int:
        """Length of the feature vectors; loads the net when no record tells."""
        if self._n_features is None:
            size = (2, 3, self.image_size, self.image_size)
            grey = torch.full(size, 0.5, device=self.device)
            with torch.no_grad():
                self._n_features = self.features(grey).shape[1]
        return self._n_features

    def features(
        self, pixels: torch.Tensor, *, autocast: torch.dtype | None = None
    ) -> torch.Tensor:
        """Embed images.

        Parameters
        ----------
        pixels : float tensor of shape (n, 3, image_size, image_size)
            RGB in [0, 1]; moved to the backbone's device where it is elsewhere.
        autocast : torch.dtype, default=None
            Precision of `torch.autocast`; None is plain float32, whatever autocast the caller
            is in.

        Returns
        -------
        float32 tensor of shape (n, n_features)
            With gradients to `pixels`, unless called under `torch.no_grad`.

        Raises
        ------
        ValueError
            If the pixels have another shape, or the net returns no (n, n_features) tensor.
        """
        side = self.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(
                f"Backbone {self.name!r} takes pixels of shape (n, 3, {side}, {side}), got "
                f"{tuple(pixels.shape)}."
            )
        if not pixels.is_floating_point():
            raise ValueError(f"pixels must be floats in [0, 1], got {pixels.dtype}.")
        module = self.module
        normalised = (pixels.to(self.device, torch.float32) - self._mean) / self._std
        normalised = normalised.contiguous(memory_format=self._memory_format(module))
        with torch.autocast(self.device.type, dtype=autocast, enabled=autocast is not None):
            features = module(normalised)
        if not isinstance(features, torch.Tensor) or features.shape[:-1] != pixels.shape[:1]:
            shape = getattr(features, "shape", type(features).__name__)
            raise ValueError(
                f"Backbone {self.name!r} must return features of shape (n, n_features), one row "
                f"an image; for {len(pixels)} images it returned "
                f"{tuple(shape) if isinstance(shape, torch.Size) else shape}. Pool or flatten "
                "inside the module."
            )
        return features.float()

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resize and crop one image as the backbone's own library does at test time.

        Parameters
        ----------
        image : uint8 array of shape (height, width, 3)
            RGB, any size.

        Returns
        -------
        uint8 array of shape (image_size, image_size, 3)

        Raises
        ------
        ValueError
            If the image has another dtype or shape.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                "an image must be a uint8 array of shape (height, width, 3), got "
                f"{image.dtype} of shape {image.shape}."
            )
        if self._resize_steps is None:  # two threads may both make it: they make the same
            self._resize_steps = self._make_resize_steps()
        picture = Image.fromarray(image)
        for step in self._resize_steps:
            picture = step(picture)
        return np.array(picture)

    def prepare(self, images: Iterable[np.ndarray]) -> torch.Tensor:
        """Resize and crop images, and bring them to the form that `features` takes.

        Parameters
        ----------
        images : iterable of uint8 arrays of shape (height, width, 3)
            A list, or an array of shape (n, height, width, 3); sizes may differ.

        Returns
        -------
        float32 tensor of shape (n, 3, image_size, image_size)
            In [0, 1], on the CPU.
        """
        side = self.image_size
        resized = [self.resize(image) for image in images]
        batch = np.stack(resized) if resized else np.empty((0, side, side, 3), np.uint8)
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float().div_(255)

    def to(self, device: str | int | torch.device) -> Backbone:
        """Return this backbone on a device; itself if it is there already.

        Parameters
        ----------
        device : str, int or torch.device
            As `sklgm` estimators take it.

        Returns
        -------
        Backbone
            Repeated calls return the same object.
        """
        device = resolve_device(device)
        if device == self.device:
            return self
        if self.spec.source != "module":
            return _named(self.spec, self.image_size, self.pretrained, device)
        with self._lock:
            if device not in self._placed:
                module = copy.deepcopy(self.module).to(device)
                other = Backbone(self.spec, self.image_size, True, device, module)
                other._n_features = self._n_features
                other._structure = self._structure
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
            If the net cannot take that size, or belongs to the user.
        """
        size = check_size(image_size)
        if size == self.image_size:
            return self
        if self.spec.source == "module":
            raise ValueError(
                f"Backbone {self.name!r} was made by Backbone.from_module for image_size="
                f"{self.image_size}; for {size} make another one with that size."
            )
        check_patches(self.name, size, self.spec.patch_size)
        return _named(self.spec, size, self.pretrained, self.device)

    def fingerprint(self) -> str:
        """Identify what `features` computes, as a key for caches.

        Returns
        -------
        str
            Name, image size and kind of weights; around a user's module a hash of its classes,
            its attributes as they were when the backbone was made, its tensors and its
            normalisation. Attributes that cannot be hashed, such as a lambda, make it unlike
            that of any other backbone. The device is no part of it.
        """
        if self._fingerprint is None:
            if self.spec.source == "module":
                content = hash_module(self.module, self._structure, self.spec)
                self._fingerprint = f"module-{content}"
            else:
                kind = "pretrained" if self.pretrained else "untrained"
                self._fingerprint = f"{self.name}-{self.image_size}px-{kind}"
        return self._fingerprint

    def _load(self) -> torch.nn.Module:
        spec, size = self.spec, self.image_size
        if not spec.fixed_size and size != spec.image_size:
            return self.with_image_size(spec.image_size).module
        with own_rng():
            module: torch.nn.Module = LIBRARIES[spec.source].build(spec, size, self.pretrained)
        embed = getattr(module, "patch_embed", None)
        patch = getattr(embed, "patch_size", None)
        if spec.fixed_size and patch:
            check_patches(spec.name, size, patch if isinstance(patch, int) else patch[-1])
        module = module.eval().requires_grad_(False).to(self.device)
        module.to(memory_format=self._memory_format(module))
        return module

    def _memory_format(self, module: torch.nn.Module) -> torch.memory_format:
        """Channels last is 1.5 times as fast for conv nets, but breaks `view` in users' nets."""
        if self.spec.source == "module" or self.device.type == "mps":
            return torch.contiguous_format
        n_convs = sum(isinstance(part, torch.nn.Conv2d) for part in module.modules())
        return torch.channels_last if n_convs > 1 else torch.contiguous_format

    def _make_resize_steps(self) -> list[Callable[[Image.Image], Image.Image]]:
        from torchvision import transforms

        if self.spec.source == "module":
            bicubic = transforms.InterpolationMode.BICUBIC
            return [
                transforms.Resize(self.canvas_size, interpolation=bicubic),
                transforms.CenterCrop(self.image_size),
            ]
        steps: list[Any] = LIBRARIES[self.spec.source].transform(self.spec, self.image_size)
        to_tensor = next(i for i, s in enumerate(steps) if isinstance(s, transforms.ToTensor))
        return steps[:to_tensor]

    def __repr__(self) -> str:
        untrained = "" if self.pretrained else ", pretrained=False"
        return f"Backbone({self.name!r}, image_size={self.image_size}{untrained})"

    def __sklearn_clone__(self) -> Backbone:
        return self

    def __copy__(self) -> Backbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.spec.source != "module":
            # A device is a property of the machine, so the pickle leaves it out.
            return _named, (self.spec, self.image_size, self.pretrained, _CPU)
        return _from_bytes, (
            self.spec,
            self.image_size,
            dump_module(self.name, self.to(_CPU).module),
            self._structure,
        )


def get_backbone(
    backbone: str | Backbone,
    *,
    image_size: int | None = None,
    device: str | int | torch.device = "auto",
) -> Backbone:
    """Resolve a ``backbone=`` parameter to a loaded backbone on a device.

    Named backbones live in one process-wide set, keyed by name, image size and device: whoever
    asks gets the same object, and threads that ask at once wait for one load.

    Parameters
    ----------
    backbone : str or Backbone
        A name as for `Backbone.from_name`, or a backbone.
    image_size : int, default=None
        Side of the images that the net sees; None leaves it to the record or the backbone.
    device : str, int or torch.device, default="auto"
        Where the net is to run.

    Returns
    -------
    Backbone
        Loaded and placed.

    Raises
    ------
    ValueError
        If the name is unknown, the size does not fit, or the device is not there.
    WeightsNotFoundError
        If the weights cannot be had.
    """
    place = resolve_device(device)
    if isinstance(backbone, str):
        found = Backbone.from_name(backbone, image_size=image_size)
    elif isinstance(backbone, Backbone):
        found = backbone if image_size is None else backbone.with_image_size(image_size)
    else:
        raise ValueError(
            f"backbone must be a name or a Backbone, got {type(backbone).__name__}. For a net of "
            "your own use Backbone.from_module(net, image_size=...)."
        )
    found = found.to(place)
    _ = found.module
    return found


_NAMED: dict[tuple[BackboneSpec, int, bool, torch.device], Backbone] = {}
_NAMED_LOCK = threading.Lock()


def _named(spec: BackboneSpec, image_size: int, pretrained: bool, device: torch.device) -> Backbone:
    key = (spec, image_size, pretrained, device)
    with _NAMED_LOCK:
        if key not in _NAMED:
            _NAMED[key] = Backbone(spec, image_size, pretrained, device)
        return _NAMED[key]


def _from_bytes(spec: BackboneSpec, image_size: int, data: bytes, structure: str) -> Backbone:
    backbone = Backbone(spec, image_size, True, _CPU, pickle.loads(data))
    backbone._structure = structure
    return backbone
