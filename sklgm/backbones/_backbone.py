"""`Backbone`: a frozen net with its preprocessing, and the process-wide set of named ones."""

from __future__ import annotations

import copy
import math
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import torch
from PIL import Image

from sklgm.backbones._checks import check_patches, check_size, check_std, check_triple
from sklgm.backbones._folding import fold_batch_norms
from sklgm.backbones._libraries import LIBRARIES, find_spec, with_checkpoint
from sklgm.backbones._list import list_backbones
from sklgm.backbones._modules import dump_module, hash_module, hash_structure
from sklgm.backbones._shared import shared
from sklgm.backbones._spec import BackboneSpec
from sklgm.utils.devices import resolve_device

_CPU = torch.device("cpu")


class Backbone:
    """A frozen vision net that maps images to features.

    Made by `Backbone.from_name`; by `Backbone.from_timm` or `Backbone.from_open_clip`, with
    weights from a file; or by `Backbone.from_module`, around a net of your own. Nothing about a
    backbone changes once it is made: its weights need no gradient, its BatchNorm layers are in
    evaluation mode, and scikit-learn's `clone`, `copy.copy` and `copy.deepcopy` return the same
    object.

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

    Attributes
    ----------
    name : str
        Canonical name.
    canvas_size : int
        Side of the square that images are brought to before their centre is cut out, and of the
        prototypes: `image_size` where the library's own preparation cuts nothing off, as for CLIP,
        and up to 8/7 of it elsewhere.

    Notes
    -----
    A pickle of a backbone holds:

    ==============  =============================================================
    made by         pickle
    ==============  =============================================================
    `from_module`   the module's class by reference, its attributes and its tensors.
    the others      record, image size and `pretrained`: under 2 kB. Loading does
                    no I/O and imports no model library; the weights are loaded
                    again at first use. An untrained net is initialised from a
                    fixed seed, so it comes back the same; a file that holds
                    other weights by then is an error.
    ==============  =============================================================

    Loaded backbones are on the CPU until `to` or `get_backbone` places them.
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
        self._n_features = spec.n_features
        self._resize_steps: list[Callable[[Image.Image], Image.Image]] | None = None
        self._structure = ""
        self._fingerprint: str | None = None
        self._placed = {device: self}
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        image_size: int | None = None,
        pretrained: bool = True,
    ) -> Backbone:
        """Take a backbone by name; its weights are loaded at first use.

        Equal calls return the same object, so that a process holds one copy of the weights.

        Parameters
        ----------
        name : str
            One of `list_backbones`; ``"timm:<name>"`` for any net of timm;
            ``"open_clip:<architecture>/<pretrained>"`` for any image tower of open_clip;
            ``"hf-hub:<owner>/<name>"``, perhaps with ``"@<revision>"``, for a Hugging Face
            repository of either library; ``"local-dir:<path>"`` for a folder that either saved;
            or ``"<name>@<path>"`` for weights in a file, after any name but a repository or a
            folder.
        checkpoint : str or path-like, default=None
            File to take the weights from, as ``"<name>@<path>"`` does: safetensors, or what
            `torch.save` wrote of a state dict. For ``"mocov3"`` it may be an original
            ``.pth.tar``.
        image_size : int, default=None
            Side of the images that the net sees; None takes the record's size. Position
            embeddings are interpolated by the net's own library.
        pretrained : bool, default=True
            False gives the architecture with random weights from a fixed seed.

        Returns
        -------
        Backbone
            The backbone, on the CPU.

        Raises
        ------
        ValueError
            If the name is unknown, or the size is not one that the net can take.
        FileNotFoundError
            If there is no such file or folder.
        WeightsNotFoundError
            If the description of a hub repository is out of reach.
        """
        # Weights of one's own serve architectures for which a library has none.
        spec = find_spec(name, pretrained and checkpoint is None)
        if checkpoint is not None:
            if spec.checkpoint or not pretrained:
                other = "weights of its own" if spec.checkpoint else "pretrained=False"
                raise ValueError(
                    f"Backbone {name!r} has {other}, and checkpoint={os.fspath(checkpoint)!r} are "
                    f"others. Leave one of them out."
                )
            spec = with_checkpoint(spec, os.fspath(checkpoint))
        return cls._from_spec(spec, image_size, pretrained)

    @classmethod
    def from_timm(
        cls,
        architecture: str,
        *,
        checkpoint: str | os.PathLike[str],
        image_size: int | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Backbone:
        """Take an architecture of timm with weights from a file.

        timm converts original checkpoints of many authors, and interpolates position embeddings.
        The classifier, if the file has one, is left out; every other tensor must have its place.

        Parameters
        ----------
        architecture : str
            A name of ``timm.list_models()``, perhaps with a tag, whose preprocessing is then used.
        checkpoint : str or path-like
            A ``.safetensors`` file, or what `torch.save` wrote of a state dict.
        image_size : int, default=None
            Side of the images that the net sees; None takes timm's.
        mean, std : float or sequence of 3 floats, default=None
            Normalisation of RGB pixels in [0, 1]; None takes timm's for the architecture.

        Returns
        -------
        Backbone
            The backbone, on the CPU. The file is read at first use.

        Raises
        ------
        ValueError
            If the architecture is unknown or the size does not fit; at first use, if the file
            holds more than tensors, or not those of the architecture.
        FileNotFoundError
            If there is no such file.
        """
        return cls._from_file("timm", architecture, checkpoint, image_size, mean, std)

    @classmethod
    def from_open_clip(
        cls,
        architecture: str,
        *,
        checkpoint: str | os.PathLike[str],
        image_size: int | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Backbone:
        """Take an image tower of open_clip with weights from a file.

        Parameters
        ----------
        architecture : str
            A name of ``open_clip.list_models()``. For weights trained with QuickGELU, such as
            OpenAI's, it ends in ``"-quickgelu"``: the weights themselves do not tell. With
            ``"/<pretrained>"`` after it, the preprocessing is that of those weights.
        checkpoint : str or path-like
            A ``.safetensors`` file, or what `torch.save` wrote of a state dict: of the whole
            model, or of its image tower.
        image_size : int, default=None
            Side of the images that the net sees; None takes the architecture's.
        mean, std : float or sequence of 3 floats, default=None
            Normalisation of RGB pixels in [0, 1]; None takes open_clip's for the architecture.

        Returns
        -------
        Backbone
            The backbone, on the CPU. The file is read at first use.

        Raises
        ------
        ValueError
            If the architecture is unknown or the size does not fit; at first use, if the file
            holds more than tensors, or not those of the architecture.
        FileNotFoundError
            If there is no such file.
        """
        return cls._from_file("open_clip", architecture, checkpoint, image_size, mean, std)

    @classmethod
    def _from_file(
        cls,
        library: str,
        architecture: str,
        checkpoint: str | os.PathLike[str],
        image_size: int | None,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
    ) -> Backbone:
        if not isinstance(architecture, str):
            raise ValueError(f"architecture must be a string, got {architecture!r}.")
        if architecture in list_backbones():
            raise ValueError(
                f"{architecture!r} is a backbone of its own, not an architecture of {library}. "
                f"Use Backbone.from_name({architecture!r}, checkpoint=...)."
            )
        name = f"{library}:{architecture.removeprefix(f'{library}:')}"
        spec = with_checkpoint(find_spec(name, pretrained=False), os.fspath(checkpoint))
        spec = replace(
            spec,
            mean=spec.mean if mean is None else check_triple("mean", mean),
            std=spec.std if std is None else check_std(std),
        )
        return cls._from_spec(spec, image_size, pretrained=True)

    @classmethod
    def _from_spec(cls, spec: BackboneSpec, image_size: int | None, pretrained: bool) -> Backbone:
        size = spec.image_size if image_size is None else check_size(image_size)
        check_patches(spec.name, size, spec.patch_size)
        return _named(spec, size, bool(pretrained), _CPU)

    @classmethod
    @torch.inference_mode(False)
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
            Name for display; None takes that of the module's class.

        Returns
        -------
        Backbone
            The backbone, on the device of the module's first parameter. Images are prepared by a
            bicubic resize of the shorter side to `canvas_size` and a centre crop.

        Raises
        ------
        ValueError
            If the net does not return one feature vector an image.
        """
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
        if not isinstance(name, str | None):
            raise ValueError(f"name must be a string or None, got {name!r}.")
        size = check_size(image_size)
        spec = BackboneSpec(
            name=name or type(module).__name__,
            source="module",
            architecture=f"{type(module).__module__}.{type(module).__qualname__}",
            weights="",
            image_size=size,
            mean=check_triple("mean", mean),
            std=check_std(std),
            crop_pct=7 / 8,
            resize="canvas",
            pooling="the module's own",
        )
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
        return math.floor(self.image_size / self.spec.crop_pct)

    @property
    def centre_share(self) -> float:
        """Side of the centre crop as a share of the canvas, in (0, 1]."""
        return self.image_size / self.canvas_size

    @property
    def module(self) -> torch.nn.Module:
        """The frozen net: normalised images in, features out. Loaded when first read.

        Pretrained conv nets have their batch norms folded into the convolutions before them.

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
            try:
                with torch.no_grad():
                    self._n_features = self.features(grey).shape[1]
            except (AssertionError, RuntimeError) as error:
                if self.image_size == self.spec.image_size:
                    raise
                raise self._unfit_size("run at", error) from error
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

        Raises
        ------
        ValueError
            If the pixels have another shape, or the net returns no (n, n_features) tensor.
        """
        side = self.image_size
        if not isinstance(pixels, torch.Tensor):
            raise ValueError(
                f"pixels must be a tensor, as prepare makes it of images; got "
                f"{type(pixels).__name__}."
            )
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
            The image that the net is to see, before pixels are normalised.

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
            Pixels in [0, 1], on the CPU.
        """
        side = self.image_size
        resized = [self.resize(image) for image in images]
        batch = np.stack(resized) if resized else np.empty((0, side, side, 3), np.uint8)
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float().div_(255)

    @torch.inference_mode(False)
    def to(self, device: str | int | torch.device) -> Backbone:
        """Return this backbone on a device; itself if it is there already.

        Parameters
        ----------
        device : str, int or torch.device
            A device as the estimators of `sklgm` take it.

        Returns
        -------
        Backbone
            The backbone there. Repeated calls return the same object.
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
            Name, image size and kind of weights; the content of the file, where they are from
            one; around a user's module a hash of its classes, its attributes as they were when
            the backbone was made, its tensors and its normalisation. Attributes that cannot be
            hashed, such as a lambda, make it unlike that of any other backbone. The device is no
            part of it.
        """
        if self._fingerprint is None:
            if self.spec.source == "module":
                content = hash_module(self.module, self._structure, self.spec)
                self._fingerprint = f"module-{content}"
            else:
                kind = "pretrained" if self.pretrained else "untrained"
                if self.spec.checkpoint:  # where the file lies does not matter, its content does
                    kind = f"{kind}-{joblib.hash(replace(self.spec, checkpoint=''))}"
                self._fingerprint = f"{self.name}-{self.image_size}px-{kind}"
        return self._fingerprint

    @torch.inference_mode(False)
    def _load(self) -> torch.nn.Module:
        spec, size = self.spec, self.image_size
        if not spec.fixed_size and size != spec.image_size:
            return self.with_image_size(spec.image_size).module
        library = LIBRARIES[spec.source]
        try:
            module: torch.nn.Module = library.build(spec, size, self.pretrained)
        except (AssertionError, RuntimeError, TypeError) as error:
            if size == spec.image_size:
                raise
            raise self._unfit_size("built for", error) from error
        module = module.eval().requires_grad_(False)
        if self.pretrained:
            module = fold_batch_norms(module, size)
        module = module.to(self.device)
        module.to(memory_format=self._memory_format(module))
        return module

    def _unfit_size(self, action: str, error: Exception) -> ValueError:
        reason = f" ({error})" if str(error) else ""
        return ValueError(
            f"Backbone {self.name!r} cannot be {action} image_size={self.image_size}{reason}. Its "
            f"own size is {self.spec.image_size}."
        )

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
        The device that the net is to run on.

    Returns
    -------
    Backbone
        The backbone, loaded and on the device.

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
    _ = found.n_features  # where no record tells, a net unfit for the size is an error now
    return found


def _named(spec: BackboneSpec, image_size: int, pretrained: bool, device: torch.device) -> Backbone:
    backbone: Backbone = shared(
        (spec, image_size, pretrained, device),
        lambda: Backbone(spec, image_size, pretrained, device),
    )
    return backbone


def _from_bytes(spec: BackboneSpec, image_size: int, data: bytes, structure: str) -> Backbone:
    backbone = Backbone(spec, image_size, True, _CPU, pickle.loads(data))
    backbone._structure = structure
    return backbone
