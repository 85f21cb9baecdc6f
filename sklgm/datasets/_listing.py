"""Which files of a folder are images, and which folders are no class of the user's."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sklgm.images.decoding import register_plugins

# What file servers, archives, systems and editors keep; hidden folders are no classes either.
_SERVICE = frozenset(
    (
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "#recycle", "#snapshot"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx"),
        *("~snapshot", "@sharebin", "found.000", "_gsdata_", "_notes"),
        *("network trash folder", "temporary items", "ipod photo cache", "_vti_cnf", "__pycache__"),
    )
)
# Below a class these are a viewer's. Beside classes they may be one, such as of hands.
_THUMBNAILS = frozenset(
    before + name for before in ("", "_", "__", "wp") for name in ("thumb", "thumbs", "thumbnails")
)
# Pillow knows these formats by name, but has other programs read them.
_STUBS = frozenset(["BUFR", "GRIB", "HDF5", "MPEG", "EPS"] + ["WMF"] * (os.name != "nt"))
_HEIF = frozenset([".heic", ".heif", ".heics", ".heifs", ".hif"])
# What people call an image, whether Pillow reads it or not: raw pictures of cameras, and others.
_OTHERS = (
    ".3fr .ari .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw "
    ".orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f "
    ".avif .avifs .webp .jxl .jxr .wdp .bpg .flif .svg .svgz .psd .psb .xcf .ai .eps .epsf .epsi "
    ".gpr .insp .livp .jpg_large .download "
    ".ps .wmf .emf .exr .hdr .dcm .dicom .nii .nrrd .mha .mhd .czi .nd2 .lif .svs .ndpi .mrxs"
)
_IMAGE_LIKE = _HEIF.union(_OTHERS.split())


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may be classes, sorted by name.

    Left out are hidden folders, those that systems keep, those that this package wrote, and links
    to the folder or one above it.
    """
    found = [
        entry
        for entry in folder.iterdir()
        if entry.is_dir() and not _is_passed_over(entry) and not _leads_up(entry, folder)
    ]
    return sorted(found, key=lambda entry: entry.name)


def list_images(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the images of a class, in nested folders too, and count those that are left out.

    Images are the sorted paths of files in formats that Pillow reads. Left out are other files that
    people call images, counted by extension, and images among thumbnails. Links to folders are
    followed, but no folder is listed twice, so that loops end.
    """
    extensions = readable()
    images, left_out = [], Counter[str]()
    for parent, names in _walk(folder):
        nested = map(str.lower, parent.relative_to(folder).parts)
        is_copy = not _THUMBNAILS.isdisjoint(nested)
        for name in names:
            extension = Path(name).suffix.lower()
            if not extension and _is_image(parent / name):
                left_out["without extension"] += 1
            elif extension not in extensions:
                left_out[extension] += extension in _IMAGE_LIKE
            elif is_copy:
                left_out["thumbnails"] += 1
            else:
                images.append(str(parent / name))
    return sorted(images), +left_out


def _is_image(path: Path) -> bool:
    try:
        Image.open(path).close()
    except Exception:  # Pillow's plugins raise nearly anything
        return False
    return True


def readable() -> set[str]:
    """Return the extensions of the formats that Pillow reads by itself."""
    register_plugins()
    extensions = Image.registered_extensions()  # loads the formats
    formats = Image.OPEN.keys() - _STUBS
    return {extension for extension, name in extensions.items() if name in formats}


def describe_left_out(left_out: Counter[str]) -> str:
    """Say what was left out, and what would have it read."""
    counts = ", ".join(f"{n} {kind}" for kind, n in left_out.most_common())
    lines = [f"{counts}."]
    if _HEIF & left_out.keys():
        lines.append("Install pillow-heif to have HEIC read: pip install 'sklgm[heif]'.")
    if "without extension" in left_out:
        lines.append("Give files their extension, such as .jpg.")
    if left_out.keys() - _HEIF - {"thumbnails", "without extension"}:
        lines.append("Convert what Pillow does not read to PNG or JPEG.")
    if "thumbnails" in left_out:
        lines.append("Rename folders called thumbs or thumbnails if they belong to a class.")
    return " ".join(lines)


def has_card(folder: Path) -> bool:
    """Tell whether prototypes are saved in a folder."""
    return all((folder / name).is_file() for name in ("card.json", "prototypes.safetensors"))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder of a class and those below it, with the names of visible files in each."""

    def fail(error: OSError) -> None:
        raise error

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        real = os.path.realpath(parent)
        if real in seen or _leads_up(parent, folder.parent):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_passed_over(Path(parent, name)))
        yield Path(parent), [name for name in files if name[0] != "."]


def _leads_up(entry: str | Path, folder: Path) -> bool:
    """Return whether an entry is a link to a folder or to one that this is in."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(entry))


def _is_passed_over(folder: Path) -> bool:
    name = folder.name.lower()
    if name[0] == "." or name in _SERVICE or name.endswith(".lrdata") or has_card(folder):
        return True
    # What --memory and --resume keep, and what the demo writes.
    if (folder / "joblib").is_dir():
        return {entry.name for entry in folder.iterdir()} <= {"joblib", ".gitignore"}
    return (folder / "embedding.png").is_file() and has_card(folder / "prototypes")
