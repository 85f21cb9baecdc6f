"""What is said where a package of an extra is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(name: str, what: str) -> Iterator[None]:
    """Let an import that fails say what needs it, and name the extra to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'{what} needs the extra "{name}": pip install "sklgm[{name}]"'
        ) from error
