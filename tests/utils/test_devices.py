import contextlib

import pytest
import torch

from sklgm.utils.devices import devices_in_turn, resolve_device, resolve_precision

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
        assert [str(one) for one in devices_in_turn("auto")] == ["cuda:1", "cuda:0"]
        assert [str(one) for one in devices_in_turn("cuda:0")] == ["cuda:0"]
        assert [str(one) for one in devices_in_turn(1)] == ["cuda:1"]
        with pytest.raises(ValueError, match="'7' is not available"):
            resolve_device(7)
    else:
        assert devices_in_turn("auto") == [torch.device(expected)]


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


@pytest.mark.parametrize("in_patches", [False, True])
@pytest.mark.parametrize("units", [{"amx_bf16": True}, {"amx_bf16": False}, {}])
def test_precision_on_cpu(monkeypatch, units, in_patches):
    """Convolutions by channel, as in MobileNets, gain nothing from such units."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    gains = units.get("amx_bf16") and in_patches
    expected = torch.bfloat16 if gains else None
    assert resolve_precision("auto", CPU, in_patches=in_patches) == expected
    assert resolve_precision("float32", CPU, in_patches=in_patches) is None
    for name in ("bfloat16", "float16"):
        dtype = resolve_precision(name, CPU, in_patches=in_patches)
        with torch.autocast("cpu", dtype=dtype):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_precision_follows_the_gpu(monkeypatch):
    """The one that was given, where torch asks the current one."""
    current = [0]

    @contextlib.contextmanager
    def on(device):
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current == [1])
    assert resolve_precision("auto", torch.device("cuda", 0)) is None
    for precision in ("auto", "bfloat16"):
        assert resolve_precision(precision, torch.device("cuda", 1)) == torch.bfloat16
    assert resolve_precision("float16", torch.device("cuda", 0)) == torch.float16
