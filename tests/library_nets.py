"""Random weights for the libraries' large nets, in a fraction of the time of their own."""

import contextlib
import functools
import json
import weakref

import torch
from torch.overrides import TorchFunctionMode

from sklgm.backbones import _cache

_DRAWS = {"uniform_", "normal_", "erfinv_", "trunc_normal_"}
_DRAWS |= {"xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"}
_SCALINGS = {"mul_", "div_", "add_", "clamp_"}


class _NoDraws(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        target = args[0] if args else kwargs.get("tensor")
        if name in _DRAWS or (name in _SCALINGS and isinstance(target, torch.nn.Parameter)):
            return target
        return func(*args, **kwargs)


@contextlib.contextmanager
def undrawn():
    """Make nets without drawing their initial weights, most of the time that it takes.

    They are to be filled afterwards. The global generator is left alone.
    """
    with torch.random.fork_rng(devices=[]), _NoDraws():
        yield


def fill(net, seed=0):
    """Give a net random weights that make every part of it count, and return it.

    Initial weights would hide mistakes: biases are zero, layer scales of DINOv2 are 1e-5, and
    BatchNorm's statistics are trivial.

    Parameters
    ----------
    net : torch.nn.Module
        Changed in place.
    seed : int
        Of the weights.
    """
    noise, scaled, start = _noise(seed), {}, 0
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            kind = name.rpartition(".")[2]
            is_buffer = not isinstance(tensor, torch.nn.Parameter)
            if is_buffer and not kind.startswith("running_"):
                continue
            # Each tensor starts elsewhere in the noise, so that no two hold the same values.
            n = tensor.numel()
            start = (start + 7919) % (len(noise) - n)
            shift = 1 if kind in ("weight", "gamma", "gamma_1", "gamma_2") else 0
            scale = 0.1
            if tensor.ndim > 1:
                shift, scale = 0, tensor[0].numel() ** -0.5
            if n < 1_000_000:
                values = noise[start : start + n] * scale + shift
            else:
                if (shift, scale) not in scaled:
                    scaled[shift, scale] = noise * scale + shift
                values = scaled[shift, scale][start : start + n]
            values = values.view(tensor.shape)
            # Views of the few scaled copies of the noise: a large net's own memory, never
            # touched, is never taken from the system.
            tensor.data = 10 * values.abs() + 0.5 if kind == "running_var" else values
    return net


@functools.cache
def _noise(seed):
    return torch.randn(1 << 23, generator=torch.Generator().manual_seed(seed))


def own_cache(monkeypatch):
    """Let backbones be made anew while a test runs, and be forgotten after it."""
    monkeypatch.setattr(_cache, "_NAMED", weakref.WeakValueDictionary())
    monkeypatch.setattr(_cache, "_KEPT", set())


def save(state, path):
    """Write a state dict to a file, a safetensors file if its name says so."""
    from safetensors.torch import save_file

    if path.suffix == ".safetensors":
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save({key: value.clone() for key, value in state.items()}, path)
    return path


def add_tiny_clip(folder, monkeypatch):
    """Add ``tiny`` and ``tiny-quickgelu``, small CLIPs, to open_clip's registries for a test."""
    import open_clip
    from open_clip import factory, pretrained

    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", list(factory._MODEL_CONFIG_PATHS))
    weights = pretrained._VITB16["openai"] | {"hf_hub": "nobody/tiny/"}
    for name, quick in (("tiny", False), ("tiny-quickgelu", True)):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(TINY_CLIP | {"quick_gelu": quick}))
        open_clip.add_model_config(path)
        monkeypatch.setitem(pretrained._PRETRAINED, name, {"openai": weights})


TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1},
}
