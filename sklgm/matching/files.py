"""Tensors in a file that others may read, too."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write contiguous tensors and texts, both by name, to a safetensors file.

    It has the permissions that this process gives its files. A failure is an OSError.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # with which safetensors says that the disk is full
        raise OSError(f"{path} cannot be written: {error}.") from error
    # The library may have replaced the file by one that its owner alone can read.
    path.chmod(mode)
