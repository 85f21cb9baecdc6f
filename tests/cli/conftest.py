"""What the tests of several commands share."""

import pytest

from sklgm import FrozenBackboneProbe


@pytest.fixture
def quick_probes(monkeypatch):
    """Train probes on a few views by default, in a few epochs."""
    for name in ("n_views", "max_epochs"):
        monkeypatch.setitem(FrozenBackboneProbe.__init__.__kwdefaults__, name, 2)
