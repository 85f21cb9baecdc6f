"""What a net needs to run in half precision: weights cast once, gradients that do not vanish."""

from __future__ import annotations

import copy
import weakref

import torch
from torch import Tensor, nn

# Layers whose weights autocast would cast at each forward. What else a net has stays in float32.
_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention)
_COPIES: weakref.WeakKeyDictionary[nn.Module, dict[torch.dtype, nn.Module]] = (
    weakref.WeakKeyDictionary()
)


def with_cast_weights(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a net for use under autocast whose weights need no cast, the same at each call.

    Autocast casts frozen weights at each forward, and each graph that is kept has its own copy.

    Parameters
    ----------
    net : torch.nn.Module
        A frozen net in float32.
    dtype : torch.dtype
        The dtype of autocast.

    Returns
    -------
    torch.nn.Module
        It computes what the net computes under autocast, and shares its other tensors with it.
    """
    copies = _COPIES.setdefault(net, {})
    if dtype not in copies:
        shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
        made = copy.deepcopy(net, shared)
        for part in made.modules():
            for name, weight in part.named_parameters(recurse=False):
                if isinstance(part, _CAST):
                    setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=False))
        copies[dtype] = made
    return copies[dtype]


def enlarge_gradients(inputs: Tensor, features: Tensor) -> None:
    """Let gradients pass a net enlarged, as a loss scaler does, so that float16 can hold them.

    The largest one by the features becomes 1 to 2: a power of two that float32 loses nothing by.

    Parameters
    ----------
    inputs : Tensor
        What the net was given, in float32.
    features : Tensor
        What it returned, in float32. Without a graph nothing is done.
    """
    if not (inputs.requires_grad and features.requires_grad):
        return
    factor = torch.ones((), device=features.device)

    def enlarge(gradient: Tensor) -> Tensor:
        _, exponent = torch.frexp(gradient.abs().amax())
        factor.copy_(torch.ldexp(torch.ones_like(factor), 1 - exponent))
        return gradient * factor

    features.register_hook(enlarge)
    inputs.register_hook(lambda gradient: gradient / factor)
