"""Torch modules apart from what they embed: seeded building, hashing, pickling."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from joblib.hashing import NumpyHasher

from sklgm.backbones._spec import BackboneSpec

_RNG_LOCK = threading.RLock()


@contextlib.contextmanager
def own_rng() -> Iterator[None]:
    """Run with the CPU generator at a fixed seed, and leave it as it was."""
    # torch.manual_seed would seed the GPU generators too.
    with _RNG_LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def hash_structure(module: torch.nn.Module) -> str:
    """Hash what a module is apart from its tensors: classes, plain attributes, forward hooks.

    A value that cannot be hashed makes the result unlike any other, so that two modules never
    pass for one. The same structure has the same hash in every process.
    """
    # A shared part counts under each of its names: which one it is shared with matters.
    parts = list(module.named_modules(remove_duplicate=False))
    names = {id(part): name for name, part in reversed(parts)}
    kept_by_torch = vars(torch.nn.Module()).keys() - {"training"}
    digest = hashlib.sha256()
    for name, part in parts:
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(repr((name, names[id(part)], kind)).encode())
        entries = {key: value for key, value in vars(part).items() if key not in kept_by_torch}
        # By order: their keys count all hooks of the process.
        entries["forward hooks"] = [
            list(hooks.values()) for hooks in (part._forward_pre_hooks, part._forward_hooks)
        ]
        for key, value in sorted(entries.items()):
            digest.update(repr((key, _hash_value(value, names))).encode())
    return digest.hexdigest()[:32]


def hash_module(module: torch.nn.Module, structure: str, spec: BackboneSpec) -> str:
    """Hash what decides the features of a user's module: structure, tensors, normalisation."""
    digest = hashlib.sha256(repr((spec, structure)).encode())
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()[:32]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _hash_value(value: Any, names: dict[int, str]) -> str:
    try:
        return str(_Hasher(names).hash(value))
    except Exception:  # pickling a user's objects may raise anything
        return uuid.uuid4().hex


class _Hasher(NumpyHasher):
    """joblib's hash by value, which also knows tensors and the parts of the module at hand."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__(hash_name="sha256")
        self._names = names

    def save(self, obj: Any) -> None:
        if isinstance(obj, weakref.ref):  # recurrent layers hold some to their own tensors
            obj = ("weakly", obj())
        if isinstance(obj, torch.nn.Module) and id(obj) in self._names:
            obj = ("part", self._names[id(obj)])
        elif isinstance(obj, torch.Tensor):
            content = hashlib.sha256(_bytes_of(obj)).hexdigest()
            obj = ("tensor", str(obj.dtype), tuple(obj.shape), content)
        elif isinstance(obj, frozenset):  # joblib sorts sets only
            obj = ("frozenset", set(obj))
        super().save(obj)


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
