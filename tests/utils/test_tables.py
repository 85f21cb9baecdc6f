"""What stands in tables and lines."""

import pytest

from sklgm.utils.tables import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99.4, "99 s"), (100, "2 min"), (3570, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
