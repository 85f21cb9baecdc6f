"""Torch modules apart from what they embed: seeded building, hashing, pickling."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
import threading
from collections.abc import Iterator

import torch

from sklgm.backbones._spec import BackboneSpec

_RNG_LOCK = threading.Lock()


@contextlib.contextmanager
def own_rng() -> Iterator[None]:
    """Run with the CPU generator at a fixed seed, and leave it as it was."""
    # torch.manual_seed would seed the GPU generators too.
    with _RNG_LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def hash_module(module: torch.nn.Module, spec: BackboneSpec) -> str:
    """Hash what decides the features of a user's module: structure, tensors, normalisation."""
    digest = hashlib.sha256(repr((spec, str(module))).encode())
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def dump_module(name: str, module: torch.nn.Module) -> bytes:
    """Pickle a module on the CPU, or say why it cannot be and what to do."""
    stream = io.BytesIO()
    try:
        for part in module.modules():
            where = sys.modules.get(type(part).__module__)
            if where is None or type(part).__module__ == "__main__":
                raise pickle.PicklingError(f"{type(part).__qualname__} is not in a module")
        pickle.dump(module, stream, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise pickle.PicklingError(
            f"Backbone {name!r} cannot be pickled: {error}. A pickle holds the classes "
            "of a user's module by reference, so they must be importable: define them in a "
            "module of their own, not in a function, a notebook or __main__. With n_jobs=1 "
            "nothing is pickled."
        ) from error
    return stream.getvalue()
