"""What a file of weights is, by its first bytes: its name may say anything."""

import zipfile
from pathlib import Path

from sklgm.images.kinds import N_BYTES, name_kind

# The number at the start of torch's old format.
_TORCH = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
_EXPORT = "save the tensors of the net it was made from"
_OTHERS = (
    (rb"\xff\xd8|\x89PNG|GIF8|RIFF.{4}WEBP", "a picture; pass a file of weights"),
    (rb"\x89HDF", f"an HDF5 file, as Keras writes; {_EXPORT}"),
    (rb"\x93NUMPY", "one NumPy array; save all arrays by name: np.savez(path, **arrays)"),
    (rb"\x80", f"a pickle that torch.save did not write; {_EXPORT}, once you trust it"),
    (
        rb"\s*\{",
        "JSON text, such as the index of weights in several files; join those: `from "
        "safetensors.torch import load_file, save_file; save_file({k: v for path in paths for "
        'k, v in load_file(path).items()}, "joined.safetensors")`',
    ),
)
# An ending of a name inside a zip archive, and what the archive then is.
_ARCHIVES = {
    "/constants.pkl": "it is a TorchScript program; run `torch.save(torch.jit.load(path)"
    ".state_dict(), new)`",
    "/archive_format": "it is a program of torch.export; run `torch.save(torch.export.load(path)"
    ".state_dict, new)`",
    "data.pkl": "torch",
    ".npy": "npz",
    ".h5": f"it is a Keras model; {_EXPORT}",
}


def kind_of_file(path: str) -> str:
    """Return ``"safetensors"``, ``"torch"``, ``"npz"``, or a sentence on what else a file is."""
    with Path(path).open("rb") as file:
        head = file.read(N_BYTES)
    if head[8:9] == b"{":
        return "safetensors"
    if _TORCH in head[:20]:
        return "torch"
    if head.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "it is a zip archive, as torch.save writes, that breaks off; fetch it again"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        for ending, kind in _ARCHIVES.items():
            if any(name.endswith(ending) for name in names):
                return kind
    return name_kind(head, _OTHERS)
