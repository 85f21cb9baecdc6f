"""What all tests share. Where they run side by side, each process computes in one thread."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


@pytest.fixture(autouse=True)
def plain_processor(monkeypatch):
    """Let no CPU have units for bfloat16: "auto" is float32 then, in which results are compared."""
    import torch

    units = {**getattr(torch.cpu, "get_capabilities", dict)(), "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)


@pytest.fixture
def at_every_step(monkeypatch):
    """Keep work after each batch and step."""
    monkeypatch.setattr("sklgm.utils.files._SECONDS", 0)
    monkeypatch.setattr("sklgm.utils.files._LEAST_TIMES", 0)
