"""Gradient of the softmax cross-entropy linear probe, in closed form, for many heads at once.

For features ``Z`` (n, d), one-hot labels ``Y`` (n, C) and a head ``W`` (C, d) without bias,
``P = softmax(Z W^T) - Y`` and the gradient of the summed cross-entropy is ``[P^T Z, P^T 1]``:
the last column belongs to the bias. It needs no autograd, so a gradient of that gradient costs
one ordinary pass instead of a double backward. Only directions of gradients are compared, so a sum
over a million images and one over ten serve as well as their means.
"""

from typing import Literal

import torch
from sklearn.utils import gen_batches
from torch import Tensor

Matching = Literal["global", "row"]

# Floats of the largest intermediate, (samples, heads, classes) or (heads, classes, features + 1),
# of which a few live at once: 4 MiB each in float32.
_CHUNK_FLOATS = 2**20


def heads_per_chunk(n_samples: int, n_classes: int, n_features: int) -> int:
    """Return how many heads can be worked off at once, at least 1."""
    return max(1, _CHUNK_FLOATS // (n_classes * max(n_samples, n_features + 1)))


def residuals(
    features: Tensor, labels: Tensor, heads: Tensor, sample_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``softmax(Z W^T)`` and ``P`` of every sample and head, both of shape (n, H, C).

    The arguments are those of :func:`probe_gradients`. Weights multiply ``P`` alone.
    """
    n_heads, n_classes, n_features = heads.shape
    logits = features @ heads.reshape(-1, n_features).T
    probabilities = logits.view(-1, n_heads, n_classes).softmax(dim=-1)
    one_hot = probabilities.new_zeros(len(labels), n_classes).scatter_(1, labels[:, None], 1)
    difference = probabilities - one_hot[:, None, :]
    if sample_weight is not None:
        difference = difference * sample_weight[:, None, None]
    return probabilities, difference


def probe_gradients(
    features: Tensor, labels: Tensor, heads: Tensor, sample_weight: Tensor | None = None
) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to every head and its bias.

    Differentiable with respect to ``features``.

    Parameters
    ----------
    features : Tensor of shape (n, d)
        Features, float32 or float64.
    labels : Tensor of shape (n,)
        Class indices, int64 in [0, C).
    heads : Tensor of shape (H, C, d)
        Linear heads; their bias is 0.
    sample_weight : Tensor of shape (n,), optional
        Weight of each sample; 1 when not given.

    Returns
    -------
    Tensor of shape (H, C, d + 1)
        ``[dW, db]`` of each head.
    """
    n_heads, n_classes, n_features = heads.shape
    _, difference = residuals(features, labels, heads, sample_weight)
    return _gradients(difference, features).view(n_heads, n_classes, n_features + 1)


def _gradients(difference: Tensor, features: Tensor) -> Tensor:
    """Return ``P^T [Z, 1]``, the rows of all heads one below the other."""
    flat = difference.flatten(1)
    return torch.cat([flat.T @ features, flat.sum(0)[:, None]], dim=1)


def angular_distance(a: Tensor, b: Tensor, matching: Matching = "global") -> Tensor:
    """Return ``1 - cos(a, b)``, averaged over heads.

    Parameters
    ----------
    a, b : Tensor of shape (H, C, d + 1)
        Gradients of the same heads.
    matching : {"global", "row"}
        The cosine of the whole flattened gradient, or the mean of the cosines of its rows,
        one a class.

    Returns
    -------
    Tensor of shape ()
        The distance, in [0, 2]. A zero gradient counts as orthogonal to everything.
    """
    (unit_a, _), (unit_b, _) = _directions(a, matching), _directions(b, matching)
    return 1 - (unit_a * unit_b).sum(-1).mean()


def matching_loss(
    features: Tensor,
    labels: Tensor,
    heads: Tensor,
    targets: Tensor,
    matching: Matching = "global",
    *,
    rows: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Return the angular distance to the target gradients and its derivative by the features.

    Both are in closed form, so no graph is kept, and heads are worked off in chunks; with very
    many classes, samples too.

    Parameters
    ----------
    features : Tensor of shape (n, d)
        Features of the synthetic views.
    labels : Tensor of shape (n,)
        Class indices, int64 in [0, C).
    heads : Tensor of shape (H, C, d)
        Linear heads; their bias is 0.
    targets : Tensor of shape (H, C, d + 1)
        Real gradient of each head. Only their directions matter.
    matching : {"global", "row"}
        See :func:`angular_distance`.
    rows : slice, optional
        Samples whose derivative is wanted; all when not given. The gradient is that of all.

    Returns
    -------
    loss : Tensor of shape ()
        Mean over heads of the angular distance.
    derivative : Tensor of shape (n_rows, d)
        ``d loss / d features[rows]``.
    """
    n_heads, n_classes, n_features = heads.shape
    wanted = range(len(features))[rows]
    loss = features.new_zeros(())
    derivative = features.new_zeros(len(wanted), n_features)
    # With many classes one head's logits for all samples are too much: samples come in parts.
    at_once = max(1, min(len(features), _CHUNK_FLOATS // n_classes))
    parts = list(gen_batches(len(features), at_once))
    step = heads_per_chunk(at_once, n_classes, n_features)
    for chunk, target in zip(heads.split(step), targets.to(features).split(step), strict=True):
        gradient = torch.zeros_like(target).flatten(0, 1)
        for part in parts:
            probabilities, difference = residuals(features[part], labels[part], chunk)
            gradient += _gradients(difference, features[part])
        distance, by_gradient = _distance_and_derivative(gradient.view_as(target), target, matching)
        loss += distance / n_heads
        by_gradient = (by_gradient / n_heads).flatten(0, 1)
        for i in range(wanted.start, wanted.stop, at_once):
            own = slice(i, min(i + at_once, wanted.stop))
            if len(parts) > 1:
                of_own = residuals(features[own], labels[own], chunk)
            else:  # those of all samples were just computed
                of_own = probabilities[own], difference[own]
            rows_out = slice(own.start - wanted.start, own.stop - wanted.start)
            derivative[rows_out] += _by_features(features[own], *of_own, chunk, by_gradient)
    return loss, derivative


def _by_features(
    features: Tensor, probabilities: Tensor, difference: Tensor, heads: Tensor, by_gradient: Tensor
) -> Tensor:
    """Take a derivative by the gradients, rows of all heads, back to some samples' features.

    ``G = P^T [Z, 1]``: once through Z itself, once through P, a softmax of ``Z W^T`` less Y.
    """
    through_features = difference.flatten(1) @ by_gradient[:, :-1]
    by_residual = features @ by_gradient[:, :-1].T + by_gradient[:, -1]
    by_residual = by_residual.view_as(probabilities)
    inner = (by_residual * probabilities).sum(-1, keepdim=True)
    by_logits = probabilities * (by_residual - inner)
    return through_features + by_logits.flatten(1) @ heads.flatten(0, 1)


def _distance_and_derivative(
    gradient: Tensor, target: Tensor, matching: Matching
) -> tuple[Tensor, Tensor]:
    """Return the angular distance summed over heads, and its derivative by ``gradient``."""
    unit, length = _directions(gradient, matching)
    unit_target, _ = _directions(target, matching)
    n_rows = unit.shape[1]
    cosine = (unit * unit_target).sum(-1, keepdim=True)
    # Of 1 - cos(G, T) by G it is (cos G/|G| - T/|T|) / |G|.
    derivative = (cosine * unit - unit_target) / length / n_rows
    # A zero gradient has no direction to turn. A tiny one would have a derivative so large that its
    # square, which Adam takes, is infinite.
    tiny = torch.finfo(gradient.dtype).tiny ** 0.5
    derivative = torch.where(length > tiny, derivative, 0)
    return (1 - cosine).sum() / n_rows, derivative.view_as(gradient)


def _directions(gradient: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Return what is compared at length 1, shape (H, rows, ...), and the length it had, never 0.

    With ``"global"`` the whole gradient of a head is one row. Lengths are right where squares
    overflow or vanish, too.
    """
    rows = gradient.flatten(1)[:, None] if matching == "global" else gradient
    tiny = torch.finfo(rows.dtype).tiny
    largest = rows.detach().abs().amax(dim=-1, keepdim=True).clamp_min(tiny)
    length = (largest * (rows / largest).norm(dim=-1, keepdim=True)).clamp_min(tiny)
    return rows / length, length
