"""Differentiable augmentation: flip, random resized crop, blur and noise.

What is random is drawn first, as a few numbers a view (:class:`Views`), and applied later,
as often as needed: the two phases of a distillation step see exactly the same views.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sklgm.matching.moving import to_device
from sklgm.synthesis.resampling import blurring, rescaling, resizing, sandwich

# Tries at a crop box that fits, before the whole canvas is taken.
_BOX_TRIES = 10
# Mean and standard deviation of the noise, as published, for pixels in [0, 1].
_NOISE = 0.5, 0.2


@dataclass(frozen=True)
class Views:
    """The random numbers of a batch of views, on the CPU.

    Attributes
    ----------
    boxes : Tensor of shape (n, 4)
        Crop boxes ``top, left, height, width`` in pixels of the canvas, int64.
    flip, blur : Tensor of shape (n,)
        Whether a view is mirrored, whether it is blurred; bool.
    noise_seeds : Tensor of shape (n,)
        Seed of a view's noise, -1 for none; int64.
    """

    boxes: Tensor
    flip: Tensor
    blur: Tensor
    noise_seeds: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: slice) -> Views:
        return Views(self.boxes[rows], self.flip[rows], self.blur[rows], self.noise_seeds[rows])


class Augmentation(Protocol):
    """What makes views, such as `StandardAugmentation`, where the methods are explained."""

    def draw(self, n: int, canvas_size: int, generator: torch.Generator) -> Any:
        """Draw what is random."""

    def apply(self, images: Tensor, views: Any, size: int) -> Tensor:
        """Make the views."""


class StandardAugmentation(BaseEstimator):
    """Random views of an image.

    Parameters
    ----------
    scale : tuple of (float, float), default=(0.15, 1.0)
        Smallest and largest share of the canvas area that a crop covers, in (0, 1].
    ratio : tuple of (float, float), default=(3/4, 4/3)
        Smallest and largest width over height of a crop.
    flip : float, default=0.5
        Probability that a view is mirrored.
    blur : float, default=0.0
        Probability of a blur by the mean of 3 x 3 pixels.
    noise : float, default=0.0
        Probability of Gaussian noise of mean 0.5 and standard deviation 0.2, for pixels in [0, 1].
        They are clipped to [0, 1] afterwards.

    Notes
    -----
    ``StandardAugmentation(scale=(0.08, 1), noise=0.5)`` is the setting of [1]_ for distillation.
    Noise is drawn on the device of the images, and one seed gives other noise on a GPU than on a
    CPU.

    Any object with the first two of these serves as ``augmentation=``:

    ``draw(n, canvas_size, generator)``
        Draws all that is random about n views, from the generator alone. Returns a tensor or list
        of length n, or a dataclass of tensors that can be sliced.
    ``apply(images, views, size)``
        Makes a view of each image by a slice of what was drawn: differentiable, not random, each
        by itself.
    ``flip``
        Probability that a centre crop is mirrored; ``views.flip``, a tensor of bool, says which.
        Where there is no such attribute, none is.

    References
    ----------
    .. [1] G. Cazenavette, A. Torralba, V. Sitzmann, "Dataset Distillation for Pre-Trained
       Self-Supervised Vision Models", 2025.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "scale": [tuple, list],
        "ratio": [tuple, list],
        "flip": [Interval(Real, 0, 1, closed="both")],
        "blur": [Interval(Real, 0, 1, closed="both")],
        "noise": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        scale: tuple[float, float] = (0.15, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        blur: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.blur = blur
        self.noise = noise

    def check(self) -> None:
        """Raise a ``ValueError`` that names the first parameter out of its range."""
        self._validate_params()
        for name, most in (("scale", 1.0), ("ratio", sys.float_info.max)):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
                raise ValueError(
                    f"augmentation {name} must be (low, high) with 0 < low <= high <= {most:g}; "
                    f"got {pair}."
                )

    def draw(self, n: int, canvas_size: int, generator: torch.Generator) -> Views:
        """Draw the random numbers of ``n`` views.

        Parameters
        ----------
        n : int
            Number of views.
        canvas_size : int
            Side of the square images, in pixels.
        generator : torch.Generator
            Generator on the CPU.

        Returns
        -------
        Views
            The numbers, as :meth:`apply` takes them.
        """

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        def between(low: float, high: float, u: Tensor) -> Tensor:
            return low + (high - low) * u

        area = canvas_size**2 * between(*self.scale, uniform(n, _BOX_TRIES))
        log_low, log_high = (torch.tensor(r, dtype=torch.float64).log() for r in self.ratio)
        ratio = between(float(log_low), float(log_high), uniform(n, _BOX_TRIES)).exp()
        width = (area * ratio).sqrt().round().long().clamp_min(1)
        height = (area / ratio).sqrt().round().long().clamp_min(1)
        fits = (width <= canvas_size) & (height <= canvas_size)
        first = fits.long().argmax(dim=1, keepdim=True)
        found = fits.any(dim=1)
        height = torch.where(found, height.gather(1, first)[:, 0], canvas_size)
        width = torch.where(found, width.gather(1, first)[:, 0], canvas_size)
        top = (uniform(n) * (canvas_size - height + 1)).long()
        left = (uniform(n) * (canvas_size - width + 1)).long()
        flip = uniform(n) < self.flip
        blur = uniform(n) < self.blur
        seeds = torch.randint(2**62, (n,), generator=generator)
        noise_seeds = torch.where(uniform(n) < self.noise, seeds, -1)
        return Views(torch.stack([top, left, height, width], 1), flip, blur, noise_seeds)

    def apply(self, images: Tensor, views: Views, size: int) -> Tensor:
        """Cut the views out of their images.

        The result is differentiable, deterministic, and does not depend on how views are batched.

        Parameters
        ----------
        images : Tensor of shape (n, 3, canvas, canvas)
            Pixels in [0, 1].
        views : Views of length n
            The numbers that :meth:`draw` returned.
        size : int
            Side of a view in pixels.

        Returns
        -------
        Tensor of shape (n, 3, size, size)
            Pixels in [0, 1].
        """
        # Of boxes (top, left, height, width): first all vertical sides, then all horizontal ones.
        start, length = to_device(views.boxes.view(-1, 2, 2).permute(1, 2, 0), images.device)
        flip = to_device(views.flip, images.device)[:, None, None]
        matrices = resizing(start.flatten(), length.flatten(), images.shape[-1], size, images.dtype)
        rows, columns = matrices.chunk(2)
        cut = sandwich(rows, images, torch.where(flip, columns.flip(1), columns))
        if views.blur.any():
            blur = blurring(size, cut.dtype, cut.device)
            cut = _where(views.blur, sandwich(blur, cut, blur), cut)
        noisy = views.noise_seeds >= 0
        if noisy.any():
            cut = _where(noisy, (cut + _noise(views.noise_seeds, cut)).clamp(0, 1), cut)
        return cut


def _where(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    """Return images, those changed that are chosen."""
    return torch.where(to_device(chosen, images.device)[:, None, None, None], changed, images)


def _noise(seeds: Tensor, like: Tensor) -> Tensor:
    """Return noise that each seed draws for an image of its own; none where it is negative."""
    # On the device, since on a CPU the noise of 64 views takes longer than their pass on a GPU.
    noise = torch.zeros(like.shape, device=like.device)
    for image, seed in zip(noise, seeds.tolist(), strict=True):
        if seed >= 0:
            image.normal_(*_NOISE, generator=torch.Generator(like.device).manual_seed(seed))
    return noise.to(like.dtype)


def centre_views(images: Tensor, size: int, share: float) -> Tensor:
    """Return the centre crop (n, 3, size, size) of square images (n, 3, canvas, canvas).

    ``share`` is the side of the crop as a share of the image's, in (0, 1]. Where no resizing is
    needed, the crops share memory with the images.
    """
    canvas = images.shape[-1]
    side = round(canvas * share)
    start = round((canvas - side) / 2)
    crop = images[..., start : start + side, start : start + side]
    if side == size:
        return crop
    matrix = rescaling(side, size, images.dtype, images.device)
    return sandwich(matrix, crop, matrix)


def mirrors(augmentation: Augmentation) -> bool:
    """Return whether an augmentation has some of the centre crops mirrored."""
    return getattr(augmentation, "flip", 0) > 0


def mirror(images: Tensor, views: Any) -> Tensor:
    """Mirror the images (n, 3, h, w) whose views are mirrored."""
    return _where(views.flip, images.flip(-1), images)
