"""Passes over images through a frozen backbone, resolved for one call of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import Tensor

from sklgm.backbones import Backbone
from sklgm.images import ImageSource, iter_batches, resize_crop
from sklgm.images.decoding import RGBImage
from sklgm.matching import RealGradients
from sklgm.matching.moving import to_device
from sklgm.passes.views import ViewStream
from sklgm.synthesis import Augmentation, BatchSize, Objective
from sklgm.synthesis.augmentation import centre_views
from sklgm.utils.arrays import gather


@dataclass(frozen=True)
class Encoder:
    """A backbone with everything a pass needs.

    ``autocast`` is the precision that the net computes in, None is float32, and ``n_jobs`` counts
    the threads that decode images.
    """

    backbone: Backbone
    autocast: torch.dtype | None
    batch_size: BatchSize
    n_jobs: int | None

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.backbone.name

    @property
    def n_features(self) -> int:
        """Number of features of an image."""
        return self.backbone.n_features

    @property
    def fingerprint(self) -> str:
        """Which net it is, by its weights and the size of what it sees."""
        return self.backbone.fingerprint()

    @property
    def key(self) -> tuple[str, str]:
        """Everything that features depend on, beside the images."""
        return f"{self.fingerprint}-{self.backbone.canvas_size}", str(self.autocast)

    def to(self, device: torch.device) -> Encoder:
        """Return this encoder with its backbone on a device."""
        return replace(self, backbone=self.backbone.to(device))

    def features(self, pixels: Tensor) -> Tensor:
        """Embed pixels (n, 3, s, s) in [0, 1] on the device, with a graph."""
        return self.backbone.features(pixels, autocast=self.autocast)

    def objective(self, gradients: RealGradients) -> Objective:
        """Return what images are optimised for: gradients like these, through this net."""
        net, size = self.backbone, self.batch_size
        return Objective(gradients, self.features, net.image_size, size, net.centre_share)

    @torch.no_grad()
    def still_features(self, pixels: Tensor) -> Tensor:
        """Embed pixels without a graph, in parts where memory asks for it."""
        size = self.batch_size
        return size.run(
            lambda: torch.cat([self.features(part) for part in pixels.split(size.images)])
        )

    def batches(
        self, source: ImageSource, resize: Callable[[RGBImage], np.ndarray], start: int = 0
    ) -> Iterator[Tensor]:
        """Yield images from ``start`` on as pixels (n, 3, s, s) in [0, 1].

        Bytes become floats on the device.
        """
        source = source.take(slice(start, None)) if start else source
        device = self.backbone.device
        batches = iter_batches(
            source, resize, batch_size=self.batch_size.images, n_jobs=self.n_jobs
        )
        with closing(batches):
            for batch in batches:
                images = to_device(torch.from_numpy(batch), device)
                yield images.permute(0, 3, 1, 2).float().div_(255)

    def canvases(self, source: ImageSource | np.ndarray, start: int = 0) -> Iterator[Tensor]:
        """Yield images from ``start`` on, brought to the canvas, from which views are cut.

        Exact images, float32 in [0, 1] of shape (n, side, side, 3), are yielded as they are.
        """
        if isinstance(source, np.ndarray):
            pixels = as_tensor(source[start:]).permute(0, 3, 1, 2)
            for part in pixels.split(self.batch_size.images):
                yield part.to(self.backbone.device)
        else:
            resize = partial(resize_crop, size=self.backbone.canvas_size)
            yield from self.batches(source, resize, start)

    def canvas_array(self, source: ImageSource) -> np.ndarray:
        """Return images brought to the canvas, float32 of shape (n, canvas, canvas, 3)."""
        parts = [pixels.permute(0, 2, 3, 1).cpu().numpy() for pixels in self.canvases(source)]
        return np.ascontiguousarray(np.concatenate(parts))

    @torch.no_grad()
    def embed(self, source: ImageSource, path: Path | None = None) -> np.ndarray:
        """Embed images as the backbone's own library prepares them.

        Return float32 of shape (n, n_features), kept in a file if there is a path.
        """

        def parts(start: int) -> Iterator[np.ndarray]:
            for pixels in self.batches(source, self.backbone.resize, start):
                yield self.still_features(pixels).cpu().numpy()

        return gather(parts, (len(source), self.n_features), path)

    def embed_canvases(self, canvases: np.ndarray) -> np.ndarray:
        """Return features (n, n_features), float32, of the centre crops of exact images."""
        return self.bank(canvases, augmentation=None, n_views=1, seed=0)[:, 0]

    @torch.no_grad()
    def bank(
        self,
        source: ImageSource | np.ndarray,
        augmentation: Augmentation | None,
        n_views: int,
        seed: int,
        path: Path | None = None,
    ) -> np.ndarray:
        """Embed random views of images, or the centre crop of each, once, without augmentation.

        ``source`` is what :meth:`canvases` takes. Return float32 of shape (n, n_views, n_features),
        kept in a file if there is a path.
        """
        size = self.backbone.image_size
        n_views = 1 if augmentation is None else n_views

        def parts(start: int) -> Iterator[np.ndarray]:
            stream: ViewStream | None = None
            for images in self.canvases(source, start):
                if augmentation is None:
                    centre = centre_views(images, size, self.backbone.centre_share)
                    features = [self.still_features(centre)]
                else:
                    # Prototypes may have been made for another size than this backbone's.
                    before = start * n_views
                    stream = stream or ViewStream(augmentation, images.shape[-1], seed, before)
                    views = stream.take(len(images) * n_views)
                    owners = torch.arange(len(views), device=images.device) // n_views
                    features = []
                    for rows in gen_batches(len(views), self.batch_size.images):
                        shown = augmentation.apply(images[owners[rows]], views[rows], size)
                        features.append(self.still_features(shown))
                flat = torch.cat(features).cpu().numpy()
                yield flat.reshape(len(images), n_views, -1)

        return gather(parts, (len(source), n_views, self.n_features), path)


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor of an array, a copy of read-only memory, which torch would warn of."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
