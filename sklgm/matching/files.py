"""Tensors in a file that others may read, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file with the permissions that this process gives its files.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to Tensor
        Contiguous.
    metadata : mapping of str to str, optional
        Beside them.

    Raises
    ------
    OSError, SafetensorError
        If it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    # The library may have replaced the file by one that its owner alone can read.
    path.chmod(mode)
