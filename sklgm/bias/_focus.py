"""How much of what a probe looks at is the object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklgm.estimators.probe import FrozenBackboneProbe, is_default
from sklgm.estimators.probing import class_scores
from sklgm.images import ImageSource
from sklgm.passes.encoder import Encoder

_METHODS = ("gradient", "occlusion")
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
        fraction = float(self.fractions[seen].mean()) if seen.any() else np.nan
        area = float(self.areas[seen].mean()) if seen.any() else np.nan
        lift = fraction / area if area else np.nan
        return {"fraction": fraction, "area": area, "lift": lift, "n_images": int(seen.sum())}

    def __repr__(self) -> str:
        found = self.summary()
        return (
            f"ObjectFocus(method={self.method!r}, n_images={found['n_images']}, "
            f"fraction={found['fraction']:.3f}, area={found['area']:.3f}, "
            f"lift={found['lift']:.2f})"
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
        How much of each pixel is object: booleans, or floats in [0, 1]. They are resized and
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
    if not isinstance(probe, FrozenBackboneProbe):
        raise ValueError(f"probe must be a FrozenBackboneProbe; got {probe!r}.")
    check_is_fitted(probe)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}; got {method!r}.")
    encoder = probe._encoder()
    if encoder is None:
        raise ValueError("object_focus needs images, but probe has backbone=None.")
    probe._check_same_net(encoder)
    source = probe._check_X(X, reset=False)
    assert isinstance(source, ImageSource)
    checked = _check_masks(masks, len(source))
    size = encoder.backbone.image_size
    if patch_size is None:
        patch_size = -(-size // _PATCHES)
    if not isinstance(patch_size, int | np.integer) or not 1 <= patch_size <= size:
        raise ValueError(
            f"patch_size must be a whole number from 1 to the {size} pixels that the net sees; got "
            f"{patch_size!r}."
        )
    weight, bias = _linear(probe)
    weight, bias = (t.to(encoder.backbone.device) for t in (weight, bias))
    fractions, areas = [], []
    for pixels, share in _batches(encoder, source, checked):
        if method == "gradient":
            effect = _gradient_energy(encoder, pixels, weight, bias)
        else:
            effect = _occlusion_effect(encoder, pixels, weight, bias, int(patch_size))
        total = effect.sum(dim=(1, 2))
        inside = (effect * share).sum(dim=(1, 2))
        fractions.append(torch.where(total > 0, inside / total, torch.nan).cpu().numpy())
        areas.append(share.mean(dim=(1, 2)).cpu().numpy())
    return ObjectFocus(
        np.concatenate(fractions).astype(np.float64),
        np.concatenate(areas).astype(np.float64),
        method,
    )


def _check_masks(masks: Any, n_images: int) -> list[np.ndarray]:
    """Return masks as uint8 arrays, 255 for object."""
    if len(masks) != n_images:
        raise ValueError(
            f"There are {len(masks)} masks for {n_images} images. Pass one for each image."
        )
    found = []
    for i, mask in enumerate(masks):
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype.kind not in "bf":
            raise ValueError(
                f"masks[{i}] has shape {mask.shape} and dtype {mask.dtype}; a mask has shape "
                f"(height, width) and holds booleans, or floats in [0, 1]."
            )
        if not (mask.min() >= 0 and mask.max() <= 1):
            raise ValueError(f"masks[{i}] has values outside [0, 1].")
        found.append(np.rint(mask * 255.0).astype(np.uint8))
    return found


def _linear(probe: FrozenBackboneProbe) -> tuple[Tensor, Tensor]:
    """Return weights (n_classes, d) and biases (n_classes,) of a probe's head, float32."""
    head = probe.head_
    if is_default(head):
        return head.module_.weight.detach(), head.module_.bias.detach()
    if not (hasattr(head, "coef_") and hasattr(head, "intercept_")):
        raise ValueError(
            f"The head {type(head).__name__} has no coef_. object_focus needs a linear head: "
            f"head=None or a linear classifier of scikit-learn, by itself."
        )
    coef, intercept = np.atleast_2d(head.coef_), np.atleast_1d(head.intercept_)
    if len(coef) == 1:  # two classes: for the second, and against the first
        coef, intercept = (np.concatenate([-part / 2, part / 2]) for part in (coef, intercept))
    # Not so for one-against-one, whose rows are pairs of classes.
    rows = np.eye(*coef.shape, dtype=np.float32)
    wanted, linear = class_scores(probe, rows), rows @ coef.T + intercept
    if wanted.shape != linear.shape or not np.allclose(wanted, linear, rtol=1e-3, atol=1e-5):
        raise ValueError(
            f"The scores of {type(head).__name__} are no linear function with a row of coef_ for "
            f"each class. Use head=None, or a classifier such as LogisticRegression or LinearSVC."
        )
    return (torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in (coef, intercept))  # type: ignore[return-value]


def _batches(
    encoder: Encoder, source: ImageSource, masks: list[np.ndarray]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels (n, 3, s, s) in [0, 1] and shares of object (n, s, s), both resized alike."""
    backbone = encoder.backbone
    for start in range(0, len(source), encoder.batch_size.images):
        images, shares = [], []
        for i in range(start, min(start + encoder.batch_size.images, len(source))):
            image, mask = source[i], masks[i]
            if image.shape[:2] != mask.shape:
                raise ValueError(
                    f"masks[{i}] has shape {mask.shape}, but {source.name(i)} is an image of shape "
                    f"{image.shape}. A mask is as high and wide as its image."
                )
            images.append(backbone.resize(image))
            shares.append(backbone.resize(np.repeat(mask[:, :, None], 3, axis=2))[:, :, 0])
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        share = torch.from_numpy(np.stack(shares))
        yield tuple(part.to(backbone.device).float() / 255 for part in (pixels, share))  # type: ignore[misc]


def _margin(scores: Tensor, winners: Tensor) -> Tensor:
    """Return the score of each row's winner less that of the best other class."""
    own = scores.gather(1, winners[:, None])[:, 0]
    others = scores.scatter(1, winners[:, None], -torch.inf)
    return own - others.amax(dim=1)


def _gradient_energy(encoder: Encoder, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the squared gradient (n, s, s) of the margin, summed over colours."""
    pixels = pixels.requires_grad_()
    scores = encoder.features(pixels) @ weight.T + bias
    margin = _margin(scores, scores.argmax(dim=1))
    (gradient,) = torch.autograd.grad(margin.sum(), pixels)
    return gradient.square().sum(dim=1)


@torch.no_grad()
def _occlusion_effect(
    encoder: Encoder, pixels: Tensor, weight: Tensor, bias: Tensor, side: int
) -> Tensor:
    """Return by how much the margin falls, (n, s, s), when the patch of each pixel is hidden."""
    scores = encoder.features(pixels) @ weight.T + bias
    winners = scores.argmax(dim=1)
    whole = _margin(scores, winners)
    effect = torch.zeros_like(pixels[:, 0])
    mean = pixels.mean(dim=(2, 3), keepdim=True)
    for top in range(0, pixels.shape[2], side):
        for left in range(0, pixels.shape[3], side):
            patch = ..., slice(top, top + side), slice(left, left + side)
            hidden = pixels.clone()
            hidden[patch] = mean
            without = _margin(encoder.features(hidden) @ weight.T + bias, winners)
            # Shared out among the pixels of the patch.
            area = effect[0][patch].numel()
            effect[patch] = ((whole - without).clamp(min=0) / area)[:, None, None]
    return effect
