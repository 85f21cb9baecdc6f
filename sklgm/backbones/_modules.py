"""A user's own module: its record, its preparation of images, its pickle and its hash."""

import contextlib
import copy
import hashlib
import io
import pickle
import sys
import threading
import uuid
import weakref
from typing import Any

import torch
from joblib.hashing import NumpyHasher

try:
    import cloudpickle
except ImportError:  # joblib before 1.6 brings its own
    from joblib.externals import cloudpickle

from sklgm.backbones import _image_processors
from sklgm.backbones._checks import brief, check_preparation, check_size
from sklgm.backbones._spec import BackboneSpec

transform = _image_processors.transform

_BY_VALUE = threading.Lock()
# Name of the module inside one that `torch.compile` returned.
_COMPILED = "_orig_mod"


def describe(
    module: torch.nn.Module, name: str | None, image_size: int, **preparation: Any
) -> BackboneSpec:
    """Write the record of a user's module."""
    kind = type(getattr(module, _COMPILED, module))
    return BackboneSpec(
        name=name or kind.__name__,
        source="module",
        architecture=f"{kind.__module__}.{kind.__qualname__}",
        weights="",
        image_size=check_size(image_size),
        resize="canvas",
        pooling="the module's own",
        **check_preparation(**preparation),
    )


def frozen_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a user's module: in float32, in evaluation mode, without gradients."""
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module; got {brief(module)}.")
    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        module = module.module
    net = copy.deepcopy(module).float().eval()
    for tensor in net.parameters():
        tensor.detach_().grad = None  # which TorchScript allows too
    return net


def try_out(backbone: Any) -> tuple[int, bool]:
    """Return the number of features of a user's module, and whether it lets gradients through.

    A module that does not take such images, or returns no features, is a ValueError.
    """
    size = (2, 3, backbone.image_size, backbone.image_size)
    grey = torch.full(size, 0.5, device=backbone.device)
    # Nets that block gradients serve for embedding alone.
    with contextlib.suppress(Exception), torch.enable_grad():
        return backbone.features(grey.clone().requires_grad_()).shape[1], True
    try:
        with torch.no_grad():
            return backbone.features(grey).shape[1], False
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"The module {type(backbone.module).__name__} does not take float32 images of shape "
            f"{size}: {error}. Set image_size to what it was made for, and let it compute in "
            f"float32; a net for grey images is torch.nn.Sequential("
            f"torchvision.transforms.Grayscale(), net)."
        ) from error


def portable(net: torch.nn.Module) -> Any:
    """Return a net, or where other processes cannot import all of it, what unpickles to it.

    That has the code of classes and functions in it, as those of a notebook or of `torch.hub`.
    """
    modules = {type(part).__module__.partition(".")[0] for part in net.modules()}
    hidden = [sys.modules[name] for name in modules - {"__main__"} if not _is_importable(name)]
    if not hidden:
        with contextlib.suppress(Exception):  # whatever their pickling raises
            _WithoutTensors(io.BytesIO()).dump(net)
            return net
    with _BY_VALUE:  # what is registered is the whole process's
        for module in hidden:
            cloudpickle.register_pickle_by_value(module)
        try:
            return _ByValue(cloudpickle.dumps(net))
        finally:
            for module in hidden:
                cloudpickle.unregister_pickle_by_value(module)


class _ByValue:
    def __init__(self, code: bytes) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.code,)


def _is_importable(name: str) -> bool:
    """Return whether other processes find a module: those of `torch.hub` are off the path."""
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return name not in sys.modules or any(find and find(name, None) for find in finders)


class _WithoutTensors(pickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        return "tensor" if isinstance(obj, torch.Tensor) else None


def hash_module(module: torch.nn.Module, spec: BackboneSpec) -> str:
    """Hash a user's module: record, and class, attributes, tensors and hooks of every part.

    A value that cannot be hashed makes the result unlike any other, so that two modules never pass
    for one. The same module has the same hash in every process, compiled or not.
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
