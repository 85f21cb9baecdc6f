"""What is said where a package of an extra is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(name: str, what: str) -> Iterator[None]:
    """Let an import that fails name the extra to install.

    Parameters
    ----------
    name : str
        The extra.
    what : str
        What needs it.

    Raises
    ------
    ImportError
        If the body raises one.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'{what} needs the extra "{name}": pip install "sklgm[{name}]"'
        ) from error
