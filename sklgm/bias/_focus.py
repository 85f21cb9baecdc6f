"""How much of what a probe looks at is the object."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import class_scores
from sklgm.images import ImageSource
from sklgm.images.decoding import array_to_rgb
from sklgm.passes.encoder import Encoder

Scores = Callable[[Tensor], Tensor]

# Patches along a side of the image, when no size is given.
_PATCHES = 7


@dataclass(frozen=True, eq=False, repr=False)
class ObjectFocus:
    """What :func:`object_focus` returns.

    Parameters
    ----------
    fractions : ndarray of shape (n_samples,)
        Share of the effect that falls on the object, in [0, 1]; NaN where there is no effect.
    areas : ndarray of shape (n_samples,)
        Share of the image that is object, in what the net sees.
    method : str
        "gradient" or "occlusion".
    """

    fractions: np.ndarray
    areas: np.ndarray
    method: str

    def summary(self) -> dict[str, Any]:
        """Average over the images that have an effect.

        Returns
        -------
        dict
            ``fraction`` and ``area``, the means; ``lift``, the former divided by the latter: 1
            where the probe looks at the object as at any other place; ``n_images``, how many had
            an effect.
        """
        seen = np.isfinite(self.fractions)
        fraction = area = lift = np.nan
        if seen.any():
            fraction, area = float(self.fractions[seen].mean()), float(self.areas[seen].mean())
            lift = fraction / area if area else np.nan
        return {"fraction": fraction, "area": area, "lift": lift, "n_images": int(seen.sum())}

    def __repr__(self) -> str:
        figures = ", ".join(f"{name}={value:.3g}" for name, value in self.summary().items())
        return f"ObjectFocus(method={self.method!r}, {figures})"


@validate_params(
    {
        "probe": [FrozenBackboneProbe],
        "method": [StrOptions({"gradient", "occlusion"})],
        "patch_size": [Interval(Integral, 1, None, closed="left"), None],
    },
    prefer_skip_nested_validation=True,
)
def object_focus(
    probe: FrozenBackboneProbe,
    X: Any,
    masks: Any,
    *,
    method: str = "gradient",
    patch_size: int | None = None,
) -> ObjectFocus:
    """Measure how much of what moves a probe's decision lies on the object.

    The decision is the margin: the score of the class that the probe predicts, less that of the
    next. Compare the share of the effect that lies in the mask with the share of the area.

    Parameters
    ----------
    probe : FrozenBackboneProbe
        Fitted, for instance with ``distiller=``, with a backbone and a linear head.
    X : array-like of images
        Real images, such as test images.
    masks : array-like of shape (n_samples, height, width), or list of (height, width) arrays
        How much of each pixel is object: booleans, or numbers in [0, 1]. They are resized and
        cropped as the images are.
    method : {"gradient", "occlusion"}, default="gradient"
        "gradient": the squared gradient of the margin with respect to the pixels, summed over the
        colours. "occlusion": by how much the margin falls, if it does, when a patch is painted
        over with the mean colour of the image; patches are laid side by side.
    patch_size : int or None, default=None
        Side of the patches in pixels of what the net sees; None is a seventh of it, rounded up.

    Returns
    -------
    ObjectFocus
        A share for each image.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If ``probe`` is not fitted.
    ValueError
        If it has no backbone or no linear head, or masks do not fit the images.

    Notes
    -----
    The gradient tells what small changes do, and is noisy; occlusion what the loss of a part does,
    at a pass of the net for each patch. Neither knows whether a part matters by what it shows or
    by what it hides.

    Examples
    --------
    How much of a probe's decisions, trained on prototypes, rests on the objects::

        probe = FrozenBackboneProbe("clip", distiller=LGMDistiller("clip")).fit(X, y)
        object_focus(probe, test.images, test.masks).summary()
    """
    check_is_fitted(probe)
    encoder = probe._encoder()
    if probe.backbone is None:
        raise ValueError("object_focus needs images, but probe has backbone=None.")
    probe._check_same_net(encoder)
    source: Any = probe._check_X(X, reset=False)
    check_consistent_length(source, masks)
    pairs: Any = _Masked(source, masks)

    def resize_both(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return np.concatenate([encoder.backbone.resize(part) for part in pair], axis=2)

    side = patch_size or -(-encoder.backbone.image_size // _PATCHES)
    scores = _scores(probe, encoder)
    found = []
    for both in encoder.batches(pairs, resize_both):
        pixels, share = both[:, :3], both[:, 3]
        if method == "gradient":
            effect = _gradient_energy(scores, pixels)
        else:
            effect = _occlusion_effect(scores, pixels, side)
        total = effect.sum(dim=(1, 2))
        inside = (effect * share).sum(dim=(1, 2))
        found.append((torch.where(total > 0, inside / total, torch.nan), share.mean(dim=(1, 2))))
    fractions, areas = (torch.cat(parts).cpu().double() for parts in zip(*found, strict=True))
    return ObjectFocus(fractions.numpy(), areas.numpy(), method)


def _scores(probe: FrozenBackboneProbe, encoder: Encoder) -> Scores:
    """Return a function from pixels to the scores of a probe's linear head, with a graph.

    Weights and biases are read off the scores of unit vectors, whatever the head calls them.
    """
    n_features = encoder.backbone.n_features
    bias = class_scores(probe, np.zeros((1, n_features), np.float32))
    weight = class_scores(probe, np.eye(n_features, dtype=np.float32)) - bias
    rows = np.random.default_rng(0).normal(size=(32, n_features)).astype(np.float32)
    found, linear = class_scores(probe, rows), rows @ weight + bias
    if np.abs(found - linear).max() > 1e-3 * np.abs(linear).max():
        raise ValueError(
            f"Scores of {probe.head_!r} are no linear function of features. Use a linear head."
        )
    device = encoder.backbone.device
    slopes, start = (torch.as_tensor(p, dtype=torch.float32, device=device) for p in (weight, bias))
    return lambda pixels: encoder.features(pixels) @ slopes + start


@dataclass(frozen=True, eq=False)
class _Masked:
    """Images with their masks, which are checked when they are read: pairs of uint8 arrays."""

    source: ImageSource
    masks: Any

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: slice) -> ImageSource:
        return self.source.take(rows)

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        image, share = self.source[i], np.asarray(self.masks[i], dtype=np.float32)
        if share.shape != image.shape[:2] or not (share.min() >= 0 and share.max() <= 1):
            raise ValueError(
                f"masks[{i}] must have the height and width of {self.source.name(i)} and values in "
                f"[0, 1]; got shape {share.shape}, from {share.min():.4g} to {share.max():.4g}."
            )
        return image, array_to_rgb(share)


def _margin(scores: Tensor, winners: Tensor) -> Tensor:
    """Return the score of each row's winner less that of the best other class."""
    own = scores.gather(1, winners[:, None])[:, 0]
    others = scores.scatter(1, winners[:, None], -torch.inf)
    return own - others.amax(dim=1)


def _gradient_energy(scores: Scores, pixels: Tensor) -> Tensor:
    """Return the squared gradient (n, s, s) of the margin, summed over colours."""
    pixels = pixels.requires_grad_()
    found = scores(pixels)
    margin = _margin(found, found.argmax(dim=1))
    (gradient,) = torch.autograd.grad(margin.sum(), pixels)
    return gradient.square().sum(dim=1)


@torch.no_grad()
def _occlusion_effect(scores: Scores, pixels: Tensor, side: int) -> Tensor:
    """Return by how much the margin falls, (n, s, s), when the patch of each pixel is hidden."""
    found = scores(pixels)
    winners = found.argmax(dim=1)
    whole = _margin(found, winners)
    effect = torch.zeros_like(pixels[:, 0])
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    for top in range(0, pixels.shape[2], side):
        for left in range(0, pixels.shape[3], side):
            patch = ..., slice(top, top + side), slice(left, left + side)
            hidden = pixels.clone()
            hidden[patch] = mean
            without = _margin(scores(hidden), winners)
            # Shared out among the pixels of the patch.
            area = effect[0][patch].numel()
            effect[patch] = ((whole - without).clamp(min=0) / area)[:, None, None]
    return effect
