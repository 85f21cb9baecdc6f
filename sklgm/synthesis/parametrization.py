"""What is optimised: a pyramid of images, plain pixels, or plain rows of features."""

from abc import ABC, abstractmethod
from dataclasses import InitVar, dataclass
from numbers import Integral
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sklgm.synthesis.color import correlate_colors
from sklgm.synthesis.resampling import rescaling, sandwich, summed

# Standard deviation of the noise at the start. Published is 1, which takes steps to get rid of.
_START_SPREAD = 0.1
# Darkest pixel to start from, and 1 less it the brightest: at 0 a sigmoid has no slope.
_DARKEST = 0.03


class Synthetic(ABC):
    """Synthetic samples while they are optimised.

    Attributes
    ----------
    parameters : list of Tensor
        Leaves that require a gradient. The list grows.
    generator : torch.Generator or None
        Tensors that are added later are drawn from it.
    """

    parameters: list[Tensor]
    generator: torch.Generator | None = None

    @abstractmethod
    def decode(self) -> Tensor:
        """Return the samples the parameters stand for, with a graph."""

    def grow(self, step: int) -> bool:
        """Add what is due at the beginning of a step; return whether anything was."""
        return False

    @property
    def level_starts(self) -> list[int]:
        """The steps, counted from 0, at whose beginning :meth:`grow` adds something."""
        return []


class Pyramid(BaseEstimator):
    """A sum of images of growing size: coarse structure first, detail later.

    Linear Gradient Matching was published with such a pyramid [1]_.

    Parameters
    ----------
    start_size : int, default=1
        Side of the coarsest level in pixels. Levels double until the canvas is reached.
    grow_every : int or None, default=None
        Steps between two levels. None means a 25th of all steps. Levels that are not due before
        the last step are left out.
    decorrelate : bool, default=True
        Optimise along the colour axes of natural images [2]_.

    Notes
    -----
    Any object with two methods serves as ``parametrization=``:

    ``check(size)``
        Raises an error where there can be no images of this side.
    ``start(n, size, max_iter, generator, device, around, own)``
        Returns images ``own``, a slice, of ``n``, on the device. What is random is drawn for all
        n, from the generator alone. ``around`` is None or holds n mean images of any size.

    What ``start`` returns has these members, or is of a subclass of
    ``sklgm.synthesis.Synthetic``, which needs only the first two:

    ``parameters``
        List of tensors that require a gradient, each with a row for each image.
    ``decode()``
        Returns the images, of shape (n, 3, size, size), in [0, 1], with a graph.
    ``grow(step)``
        Adds a tensor to the list if one is due, and returns whether it did.
    ``level_starts``
        The steps at which ``grow`` adds one.
    ``generator``
        Generator that ``grow`` draws from, or None.

    References
    ----------
    .. [1] G. Cazenavette, A. Torralba, V. Sitzmann, "Dataset Distillation for Pre-Trained
       Self-Supervised Vision Models", 2025.
    .. [2] C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization", Distill, 2017.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "start_size": [Interval(Integral, 1, None, closed="left")],
        "grow_every": [Interval(Integral, 1, None, closed="left"), None],
        "decorrelate": ["boolean"],
    }

    def __init__(
        self, start_size: int = 1, grow_every: int | None = None, decorrelate: bool = True
    ) -> None:
        self.start_size = start_size
        self.grow_every = grow_every
        self.decorrelate = decorrelate

    def check(self, size: int) -> None:
        """Raise a ``ValueError`` that names a parameter unfit for a canvas.

        Parameters
        ----------
        size : int
            Side of the canvas in pixels.
        """
        self._validate_params()
        if self.start_size > size:
            raise ValueError(
                f"parametrization start_size must be from 1 to the canvas size, {size}; "
                f"got {self.start_size}."
            )

    def start(
        self,
        n: int,
        size: int,
        max_iter: int,
        generator: torch.Generator,
        device: torch.device,
        around: Tensor | None = None,
        own: slice = slice(None),
    ) -> Synthetic:
        """Return random images, to be optimised for ``max_iter`` steps.

        Parameters
        ----------
        n, size : int
            Number of images, and their side in pixels.
        max_iter : int
            Number of steps to come.
        generator : torch.Generator
            Generator on the CPU.
        device : torch.device
            Device of the images.
        around : Tensor of shape (n, 3, h, w), optional
            Images of any size, pixels in [0, 1], that the random ones vary around; grey when
            not given.
        own : slice, optional
            Which of the n images to make. Each is the same as when all are made.

        Returns
        -------
        Synthetic
            The images at their start.
        """
        self.check(size)
        return _PyramidImages(
            n=n,
            own=own,
            sizes=self._sizes(size),
            grow_every=self.grow_every or max(1, max_iter // 25),
            decorrelate=self.decorrelate,
            generator=generator,
            device=device,
            around=around,
        )

    def _sizes(self, size: int) -> list[int]:
        sizes = [self.start_size]
        while sizes[-1] < size:
            sizes.append(min(2 * sizes[-1], size))
        return sizes


class Pixels(Pyramid):
    """Every pixel is a parameter of its own, from the first step.

    Parameters
    ----------
    decorrelate : bool, default=False
        Optimise along the colour axes of natural images.
    """

    _parameter_constraints: dict[str, list[Any]] = {"decorrelate": ["boolean"]}
    start_size = 1
    grow_every = None

    def __init__(self, decorrelate: bool = False) -> None:
        self.decorrelate = decorrelate

    def _sizes(self, size: int) -> list[int]:
        # The coarsest level is the finest one.
        return [size]


@dataclass(kw_only=True, eq=False)
class _PyramidImages(Synthetic):
    n: int
    own: slice
    sizes: list[int]
    grow_every: int
    decorrelate: bool
    generator: torch.Generator
    device: torch.device
    around: InitVar[Tensor | None]

    def __post_init__(self, around: Tensor | None) -> None:
        self.parameters = [self._level(0)]
        self.offset: Tensor | None = None
        if around is not None:
            # Parameters of 0 then decode to these images. Their black and white are kept away from
            # the ends of the sigmoid, where no gradient would reach them.
            around = around[self.own].to(self.device)
            rows, columns = (
                rescaling(side, self.sizes[-1], torch.float32, self.device)
                for side in around.shape[-2:]
            )
            large = sandwich(rows, around, columns)
            self.offset = large.clamp(_DARKEST, 1 - _DARKEST).logit() / 2

    @property
    def is_complete(self) -> bool:
        """Whether :meth:`grow` has nothing more to add."""
        return len(self.parameters) == len(self.sizes)

    @property
    def level_starts(self) -> list[int]:
        return [self.grow_every * count for count in range(1, len(self.sizes))]

    def grow(self, step: int) -> bool:
        if self.is_complete or step < self.grow_every * len(self.parameters):
            return False
        # The sum of levels keeps its spread: old ones shrink to make room for the new one.
        count = len(self.parameters)
        with torch.no_grad():
            for level in self.parameters:
                level *= count / (count + 1)
        self.parameters.append(self._level(count))
        return True

    def decode(self) -> Tensor:
        # In place, where autograd allows: canvases are what memory goes to with many classes.
        coarse = self.parameters[: len(self.sizes) - 1]
        images = summed(coarse, self.sizes[-1]) if coarse else torch.zeros_like(self.parameters[0])
        if self.is_complete:
            images += self.parameters[-1]  # as large as the images
        if self.decorrelate:
            images = correlate_colors(images)
        if self.offset is not None:
            images += self.offset
        return images.mul_(2).sigmoid_()

    def _level(self, index: int) -> Tensor:
        side = self.sizes[index]
        level = torch.randn(self.n, 3, side, side, generator=self.generator)[self.own]
        # Not by pinned memory: it would stay pinned, and a level may be large.
        level = (level * (_START_SPREAD / (index + 1))).to(self.device)
        return level.requires_grad_()


class FeatureRows(Synthetic):
    """Vectors instead of images, in units of the real features' spread around their mean.

    Of ``n`` rows those in ``own`` are made, each the same as when all are made. They start at
    ``around``, of shape (n, d), or normally distributed, drawn from a generator on the CPU.
    """

    def __init__(
        self,
        n: int,
        mean: Tensor,
        std: Tensor,
        generator: torch.Generator,
        own: slice = slice(None),
        around: Tensor | None = None,
    ) -> None:
        self.mean = mean
        self.std = std
        if around is None:
            rows = torch.randn(n, len(mean), generator=generator)[own]
        else:
            rows = (around[own] - mean) / torch.where(std > 0, std, 1)
        self.parameters = [rows.to(mean).requires_grad_()]

    def decode(self) -> Tensor:
        """Return the rows, shape (n, d)."""
        return self.mean + self.std * self.parameters[0]
