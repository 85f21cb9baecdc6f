"""Tensors in a file that others may read, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors and texts, both by name, to a safetensors file.

    It has the permissions that this process gives its files. A failure is an OSError.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:  # with which safetensors says that the disk is full
        raise OSError(f"{path} cannot be written: {error}.") from error
    # The library may have replaced the file by one that its owner alone can read.
    path.chmod(mode)
