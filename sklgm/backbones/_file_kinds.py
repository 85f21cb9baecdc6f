"""What a file is, by its first bytes: its name may say anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

_UNPACK = "Unpack it, and pass the file inside"
_ANEW = "Download the file itself"
# The number at the start of torch's old format.
_TORCH = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_EXPORT = "Save the tensors of the net it was made from"
# First bytes, what they begin, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` beside it"),
    (b"<", "a web page (HTML or XML)", _ANEW),
    (b"\x1f\x8b", "a gzip archive", "Run `gunzip` on it (its name must end in .gz)"),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF", "an HDF5 file, as Keras writes", _EXPORT),
    (b"GGUF", "a GGUF file", _EXPORT),
    (b"\x93NUMPY", "one NumPy array", "Save all arrays by name: np.savez(path, **arrays)"),
    (
        b"{",
        "JSON text, such as the index of weights in several files",
        "Join those: `from safetensors.torch import load_file, save_file; "
        "save_file({k: v for path in paths for k, v in load_file(path).items()}, "
        '"joined.safetensors")`',
    ),
)


def kind_of_file(path: str) -> tuple[str, str]:
    """Return what a file is, ``"safetensors"``, ``"torch"``, ``"npz"`` or a noun, and advice.

    The advice is what to do with a file of another kind than these three.
    """
    with Path(path).open("rb") as file:
        head = file.read(512)
        file.seek(257)
        is_tar = file.read(5) == b"ustar"
    if not head:
        return "empty", _ANEW
    if head[8:9] == b"{":
        return "safetensors", ""
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if is_tar:
        return "a tar archive", _UNPACK
    if head.startswith(b"\x08") and Path(path).suffix == ".onnx":  # which has no mark of its own
        return "an ONNX file", _EXPORT
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for start, kind, advice in _OTHERS:
        if head.startswith(start) or text.startswith(start):
            return kind, advice
    if not head.startswith(b"\x80"):
        return f"no file of weights, since it begins with {head[:16]!r}", _ANEW
    if _TORCH not in head[:20]:
        return "a pickle that torch.save did not write", f"{_EXPORT}, once you trust it"
    return "torch", ""


def _kind_of_zip(path: str) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a zip archive, as torch.save writes, but damaged", _ANEW
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program", "Run `torch.save(torch.jit.load(path).state_dict(), new)`"
    if any(name.endswith("/archive_format") for name in names):
        return (
            "a program of torch.export",
            "Run `torch.save(torch.export.load(path).state_dict, new)`",
        )
    if any(name.endswith("data.pkl") for name in names):
        return "torch", ""
    if names and all(name.endswith(".npy") for name in names):
        return "npz", ""
    if any(name.endswith(".h5") for name in names):
        return "a Keras model", _EXPORT
    return "a zip archive", _UNPACK
