"""Procedural textures of six kinds, told apart at a glance: each has a pattern and two colours.

A texture is drawn from a generator: colours, direction, frequency and phase vary within a kind.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Pattern = Callable[[np.random.Generator, NDArray, NDArray], NDArray]


def _turned(
    rng: np.random.Generator, x: NDArray, y: NDArray, degrees: float
) -> tuple[NDArray, NDArray]:
    """Return coordinates turned by an angle, give or take ten degrees, and shifted."""
    angle = np.deg2rad(degrees + rng.uniform(-10, 10))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return u + rng.random(), v + rng.random()


def _stripes(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    u, _ = _turned(rng, x, y, 45)
    return 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(4, 6) * u)


def _dots(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    u, v = _turned(rng, x, y, 20)
    n = rng.uniform(4, 6)
    return (np.hypot(n * u % 1 - 0.5, n * v % 1 - 0.5) < 0.3).astype(float)


def _bricks(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    n = rng.uniform(5, 7)
    row = n * (y + rng.random())
    along = n / 2 * (x + rng.random()) + 0.5 * (np.floor(row) % 2)
    return ((row % 1 < 0.18) | (along % 1 < 0.09)).astype(float)


def _clouds(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    blurred = gaussian_filter(rng.normal(size=x.shape), len(x) / 10, mode="wrap")
    return 0.5 + 0.3 * blurred / blurred.std()


def _checks(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    u, v = _turned(rng, x, y, 0)
    n = rng.uniform(4, 6)
    return (np.floor(n * u) + np.floor(n * v)) % 2


def _rings(rng: np.random.Generator, x: NDArray, y: NDArray) -> NDArray:
    radius = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8))
    return 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(5, 7) * radius + rng.random()))


# Where the pattern is 0, and where it is 1.
_KINDS: dict[str, tuple[Pattern, tuple[float, ...], tuple[float, ...]]] = {
    "stripes": (_stripes, (0.10, 0.22, 0.50), (0.55, 0.75, 0.90)),
    "dots": (_dots, (0.30, 0.55, 0.20), (0.85, 0.90, 0.45)),
    "bricks": (_bricks, (0.62, 0.26, 0.18), (0.80, 0.76, 0.70)),
    "clouds": (_clouds, (0.55, 0.55, 0.60), (0.98, 0.98, 1.00)),
    "checks": (_checks, (0.12, 0.12, 0.12), (0.95, 0.75, 0.30)),
    "rings": (_rings, (0.45, 0.15, 0.50), (0.95, 0.70, 0.85)),
}

TEXTURES = tuple(_KINDS)
"""Names of the kinds."""


def draw_texture(kind: str, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a texture of one of the `TEXTURES`, of shape (size, size, 3)."""
    pattern, low, high = _KINDS[kind]
    y, x = np.mgrid[:size, :size] / size
    first, second = (np.asarray(colour) + rng.uniform(-0.06, 0.06, 3) for colour in (low, high))
    share = np.clip(pattern(rng, x, y), 0, 1)[:, :, None]
    colours = (1 - share) * first + share * second
    return np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)
