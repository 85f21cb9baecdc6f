"""Numbers that users give."""

from typing import Any

import numpy as np


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer, of Python or numpy, and no boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
