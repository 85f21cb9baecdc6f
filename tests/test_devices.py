import contextlib

import pytest
import torch

from sklgm.utils.devices import resolve_device, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["cpu", "cpu:0", CPU])
def test_cpu_is_always_there(device):
    assert resolve_device(device) == CPU


@pytest.mark.parametrize(
    ("n_gpus", "mps", "expected"), [(0, False, "cpu"), (0, True, "mps"), (2, True, "cuda:1")]
)
def test_auto_prefers_cuda_then_mps(monkeypatch, n_gpus, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(resolve_device("auto")) == expected
    if n_gpus:
        assert str(resolve_device("cuda")) == "cuda:1"
        assert str(resolve_device(1)) == "cuda:1"
        with pytest.raises(ValueError, match="'7' is not available"):
            resolve_device(7)


@pytest.mark.parametrize("device", ["cuda", "cuda:31", "mps", "cpu:3", "meta", 9])
def test_device_that_is_not_there(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"is not available.*here: cpu\. Use"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["graphics card", "", None, True, 1.5, -1])
def test_nonsense_device(device):
    with pytest.raises(ValueError, match=r"device=.*Devices available here: cpu"):
        resolve_device(device)


def test_precision_on_cpu():
    assert resolve_precision("auto", CPU) is None
    assert resolve_precision("float32", CPU) is None
    for name in ("bfloat16", "float16"):
        dtype = resolve_precision(name, CPU)
        with torch.autocast("cpu", dtype=dtype):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_precision_follows_the_gpu(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert resolve_precision("auto", gpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    assert resolve_precision("auto", gpu) is None
    assert resolve_precision("float16", gpu) == torch.float16
    with pytest.raises(ValueError, match="Old GPU"):
        resolve_precision("bfloat16", gpu)


def test_precision_asks_the_gpu_it_was_given(monkeypatch):
    asked = []

    class Current:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            asked.append(self.device)

        def __exit__(self, *_):
            asked.append(None)

    def is_supported(including_emulation=True):
        return asked[-1] == torch.device("cuda", 1)

    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    for precision in ("auto", "bfloat16"):
        assert resolve_precision(precision, torch.device("cuda", 1)) == torch.bfloat16
    assert resolve_precision("auto", torch.device("cuda", 0)) is None
    with pytest.raises(ValueError, match="Old GPU"):
        resolve_precision("bfloat16", torch.device("cuda", 0))


def test_unknown_precision():
    with pytest.raises(ValueError, match=r"'float64' is unknown.*'auto', 'float32'"):
        resolve_precision("float64", CPU)
