"""Prototypes as a folder: exact floats, pictures for other tools, and cards for both readers."""

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sklgm.matching.files import write_tensors
from sklgm.prototypes.card import data_card
from sklgm.prototypes.names import folder_names
from sklgm.utils.files import try_writing

_FORMAT = {"format": "sklgm-prototypes", "format_version": 1}
CARD = "card.json"
_TENSORS = "prototypes.safetensors"
PICTURES = "images"
_README = "README.md"
OF_LOADING = (CARD, _TENSORS)
"""Files that prototypes are loaded from; the others are for people and other tools."""


def check_target(directory: str | Path, *, overwrite: bool) -> None:
    """Raise an error if prototypes cannot be saved in a folder, which is tried.

    With ``overwrite``, prototypes saved there before may be replaced.
    """
    target = Path(os.path.realpath(directory))
    # To list what is no folder, such as a file or a loop of links, is an OSError.
    if os.path.lexists(target) and any(target.iterdir()):
        if not overwrite:
            raise FileExistsError(
                f"{str(target)!r} is not empty. Choose another folder, or allow to overwrite it: "
                f"overwrite=True, or --overwrite of the command."
            )
        _read_card(target)  # refuses a folder of something else
    if target.is_mount():
        raise ValueError(
            f"{str(target)!r} is a mounted disk, which cannot be replaced as a whole. Name a "
            f"folder in it, such as {str(target / 'prototypes')!r}."
        )
    try_writing(target, PICTURES, "x" * 66)


def write_folder(directory: Path, prototypes: Any) -> None:
    """Write a `PrototypeSet`, complete or not at all, in place of a folder that may be there."""
    target = directory.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:12]
    new = target.with_name(f".{target.name}.{token}.partial")
    old = target.with_name(f".{target.name}.{token}.old")
    try:
        new.mkdir()
        _write(new, prototypes)
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
    if old.exists():
        for entry in old.iterdir():
            if entry.name not in (CARD, _TENSORS, PICTURES, _README):
                entry.rename(target / entry.name)
        shutil.rmtree(old)  # where a user's file could not be moved, it stays here


def read_folder(
    directory: Path,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any], np.ndarray | None]:
    """Return the fields of a `PrototypeSet`, not checked yet, of what :func:`write_folder` wrote.

    A ValueError says if a file is missing, damaged, does not fit the card, or was written in
    another format.
    """
    card = _read_card(directory)
    path = directory / _TENSORS
    try:
        if not path.is_file():
            raise ValueError(f"{_TENSORS} is missing.")
        if _checksum(path) != card["sha256"]:
            raise ValueError(f"{_TENSORS} is damaged: its checksum differs from the card's.")
        tensors, labels = load_file(path), _read_labels(**card["labels"])
        return tensors["images"], labels, card["provenance"], tensors.get("probabilities")
    except (KeyError, TypeError, ValueError, OverflowError, OSError, SafetensorError) as error:
        reason = f"{error} is missing." if isinstance(error, KeyError) else error
        raise ValueError(
            f"The prototypes in {str(directory)!r} cannot be read: {reason}"
        ) from error


def _write(folder: Path, prototypes: Any) -> None:
    images, labels = prototypes.images, prototypes.labels
    arrays = {"images": images}
    if prototypes.probabilities is not None:
        arrays["probabilities"] = prototypes.probabilities
    # Copies, since torch refuses to look at read-only memory.
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    write_tensors(folder / _TENSORS, tensors)
    kind = "str" if labels.dtype.kind == "U" else labels.dtype.name
    card = {
        **_FORMAT,
        "shape": list(images.shape),
        "sha256": _checksum(folder / _TENSORS),
        "labels": {"dtype": kind, "values": labels.tolist()},
        "provenance": prototypes.provenance,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    classes, of_class = np.unique(labels, return_inverse=True)
    if images.ndim == 4:
        names = folder_names(classes)
        for row, (image, index) in enumerate(zip(images, of_class, strict=True)):
            place = folder / PICTURES / names[index]
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
            picture.save(place / f"{row:04d}.png")
    # Names of folders that are not UTF-8 hold what cannot be encoded.
    text = data_card(prototypes).encode("utf-8", "backslashreplace")
    (folder / _README).write_bytes(text)


def _read_labels(dtype: str, values: list[Any]) -> np.ndarray:
    # Other types that numpy knows may ask for any amount of memory.
    if dtype not in ("str", "object") and np.dtype(dtype).kind not in "biuf":
        raise ValueError(f"the card's labels are of type {dtype!r}.")
    labels = np.array(values, dtype=dtype)
    if labels.tolist() != values:
        raise ValueError(f"the card's labels are not all of type {dtype}.")
    return labels


def _read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a folder; raise a ValueError unless it describes saved prototypes."""
    path = folder / CARD
    if not path.is_file():  # a pipe would be waited for
        why = f"it has no {CARD}" if folder.is_dir() else "there is no such folder"
        raise ValueError(f"{str(folder)!r} holds no saved prototypes: {why}.")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged or unreadable: {error}") from error
    if not (isinstance(card, dict) and _FORMAT.items() <= card.items()):
        raise ValueError(
            f"{str(path)!r} does not describe saved prototypes in the format {_FORMAT}, which this "
            f"version reads. Update sklgm to read a newer one."
        )
    return card


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
