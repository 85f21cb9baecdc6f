"""What all tests share. Where they run side by side, each process computes in one thread."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


@pytest.fixture
def at_every_step(monkeypatch):
    """Keep work after each batch and step."""
    monkeypatch.setattr("sklgm.utils.files._SECONDS", 0)
    monkeypatch.setattr("sklgm.utils.files._LEAST_TIMES", 0)
