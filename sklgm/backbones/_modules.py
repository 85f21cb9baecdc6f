"""A user's own module: its record, its preparation of images, its hash; and seeded building."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import uuid
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from joblib.hashing import NumpyHasher

from sklgm.backbones._checks import check_size, check_std, check_triple
from sklgm.backbones._spec import BackboneSpec

_RNG_LOCK = threading.RLock()
# Name of the module inside one that `torch.compile` returned.
_COMPILED = "_orig_mod"


@contextlib.contextmanager
def own_rng() -> Iterator[None]:
    """Run with the CPU generator at a fixed seed, and leave it as it was."""
    # torch.manual_seed would seed the GPU generators too.
    with _RNG_LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def describe(
    module: torch.nn.Module,
    image_size: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    name: str | None,
) -> BackboneSpec:
    """Write the record of a user's module."""
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module; got {module!r}.")
    kind = type(getattr(module, _COMPILED, module))
    return BackboneSpec(
        name=name or kind.__name__,
        source="module",
        architecture=f"{kind.__module__}.{kind.__qualname__}",
        weights="",
        image_size=check_size(image_size),
        mean=check_triple("mean", mean),
        std=check_std(std),
        crop_pct=7 / 8,
        resize="canvas",
        pooling="the module's own",
    )


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return transforms for a net whose own are not known: a resize, and a centre crop."""
    from torchvision import transforms

    canvas_size = math.floor(image_size / spec.crop_pct)
    bicubic = transforms.InterpolationMode.BICUBIC
    resize = transforms.Resize(canvas_size, interpolation=bicubic)
    return [resize, transforms.CenterCrop(image_size)]


def hash_module(module: torch.nn.Module, spec: BackboneSpec) -> str:
    """Hash what decides the features of a user's module.

    These are its record, which has the normalisation, and of each of its parts the class, plain
    attributes, tensors and forward hooks. A value that cannot be hashed makes the result unlike
    any other, so that two modules never pass for one. The same module has the same hash in every
    process, compiled or not.
    """
    # A shared part counts under each of its names: which one it is shared with matters.
    parts = [
        (".".join(word for word in name.split(".") if word != _COMPILED), part)
        for name, part in module.named_modules(remove_duplicate=False)
        if not hasattr(part, _COMPILED)
    ]
    names = {id(part): name for name, part in reversed(parts)}
    kept_by_torch = vars(torch.nn.Module()).keys() - {"training", "_parameters", "_buffers"}
    kept_by_torch |= {"_compiled_call_impl", "_is_torch_compile"}
    digest = hashlib.sha256(repr(spec).encode())
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
            content = obj.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest = hashlib.sha256(content.data).hexdigest()
            obj = ("tensor", str(obj.dtype), tuple(obj.shape), digest)
        elif isinstance(obj, frozenset):  # joblib sorts sets only
            obj = ("frozenset", set(obj))
        super().save(obj)
