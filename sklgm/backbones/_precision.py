"""What a net needs to run in half precision: weights cast once, gradients that do not vanish."""

import copy
import threading
import weakref

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

# Layers whose weights autocast would cast at each forward. Classes that inherit from these may
# compute something with their weights first, and all else stays in float32.
_CAST = {
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention),
    NonDynamicallyQuantizableLinear,  # of nn.MultiheadAttention
}
_COPIES: weakref.WeakKeyDictionary[nn.Module, dict[torch.dtype, nn.Module]] = (
    weakref.WeakKeyDictionary()
)
_LOCK = threading.Lock()


@torch.inference_mode(False)
def with_cast_weights(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a frozen float32 net for use under autocast to a dtype, whose weights need no cast.

    Autocast casts frozen weights at each forward, and each graph that is kept has its own copy.
    The net returned is the same at each call, and shares its other tensors with the one given.
    """
    with _LOCK:
        copies = _COPIES.setdefault(net, {})
        if dtype not in copies:
            shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
            copies[dtype] = copy.deepcopy(net, shared)
            for part in copies[dtype].modules():
                for name, weight in part.named_parameters(recurse=False):
                    if type(part) in _CAST:
                        setattr(part, name, nn.Parameter(weight.to(dtype), requires_grad=False))
        return copies[dtype]


def enlarge_gradients(inputs: Tensor, features: Tensor) -> None:
    """Let gradients pass a net enlarged, as a loss scaler does, so that float16 can hold them.

    The largest one by the features becomes 1 to 2: a power of two that float32 loses nothing by.
    Without a graph, or for no images, nothing is done.
    """
    if not (inputs.requires_grad and features.requires_grad and len(features)):
        return
    factor = torch.ones((), device=features.device)

    def enlarge(gradient: Tensor) -> Tensor:
        # A gradient of 0 stays 0 under the largest factor that there is.
        largest = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)
        factor.copy_(torch.exp2(-largest.log2().floor()))
        return gradient * factor

    features.register_hook(enlarge)
    inputs.register_hook(lambda gradient: gradient / factor)
