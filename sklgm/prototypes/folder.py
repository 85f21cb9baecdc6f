"""Prototypes as a folder: exact floats, pictures for other tools, and cards for both readers."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sklgm.matching.files import write_tensors
from sklgm.prototypes.card import data_card
from sklgm.prototypes.names import folder_names

T = TypeVar("T")

_FORMAT = "sklgm-prototypes"
_FORMAT_VERSION = 1
_CARD = "card.json"
_TENSORS = "prototypes.safetensors"
_PICTURES = "images"
_README = "README.md"

# What labels may be, as the card calls it, and how JSON gives each back.
_LABEL_KINDS: dict[str, type] = {"str": str, "object": str, "bool": bool}
_LABEL_KINDS |= {f"{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)}
_LABEL_KINDS |= {f"float{bits}": float for bits in (16, 32, 64)}


def check_target(directory: str | Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if prototypes cannot be saved in a folder.

    Parameters
    ----------
    directory : str or Path
        The folder to make.
    overwrite : bool
        Whether prototypes saved there before may be replaced.
    """
    target = Path(directory).resolve()
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise FileExistsError(f"{str(target)!r} is a file; prototypes are saved as a folder.")
    if not overwrite:
        raise FileExistsError(
            f"{str(target)!r} is not empty. Choose another folder, or pass overwrite=True to "
            "replace prototypes saved there."
        )
    try:
        _read_card(target / _CARD, newer=True)
    except ValueError as error:
        raise FileExistsError(
            f"{str(target)!r} is not overwritten, as it holds no saved prototypes. {error}"
        ) from error


def write_folder(
    directory: Path, images: np.ndarray, labels: np.ndarray, provenance: dict[str, Any]
) -> None:
    """Write a folder, complete or not at all, in place of one that may be there.

    Parameters
    ----------
    directory : Path
        The folder.
    images, labels, provenance
        The attributes of a `PrototypeSet`.
    """
    target = directory.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:12]
    partial = target.with_name(f".{target.name}.{token}.partial")
    try:
        partial.mkdir()
        _write(partial, images, labels, provenance)
        _move_into_place(partial, target, aside=target.with_name(f".{target.name}.{token}.old"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_folder(directory: Path, make: Callable[[np.ndarray, np.ndarray, dict[str, Any]], T]) -> T:
    """Read what :func:`write_folder` wrote.

    Parameters
    ----------
    directory : Path
        The folder.
    make : callable
        It is called with images, labels and provenance.

    Returns
    -------
    object
        The result of ``make``.

    Raises
    ------
    ValueError
        If a file is missing, damaged, does not fit the card, or was written in a newer format.
    """
    card = _read_card(directory / _CARD)
    try:
        images = _read_images(directory / _TENSORS, card)
        return make(images, _labels_from_json(card["labels"]), card["provenance"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"the card lacks {error}." if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"The prototypes in {str(directory)!r} cannot be read: {reason}"
        ) from error


def _write(
    folder: Path, images: np.ndarray, labels: np.ndarray, provenance: dict[str, Any]
) -> None:
    # A copy, since torch refuses to look at read-only memory.
    write_tensors(folder / _TENSORS, {"images": torch.from_numpy(images.copy())})
    classes = np.unique(labels)
    card: dict[str, Any] = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "shape": list(images.shape),
        "sha256": _checksum(folder / _TENSORS),
        "labels": _labels_to_json(labels),
        "provenance": provenance,
    }
    if images.ndim == 4:
        names = folder_names(classes)
        of_class = np.searchsorted(classes, labels)
        _write_pictures(folder / _PICTURES, images, [names[i] for i in of_class])
        card["class_folders"] = [
            {"class": label, "folder": name}
            for label, name in zip(classes.tolist(), names, strict=True)
        ]
    (folder / _CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    text = data_card(images.shape, classes.tolist(), provenance)
    (folder / _README).write_text(text, encoding="utf-8")


def _write_pictures(folder: Path, images: np.ndarray, names: list[str]) -> None:
    digits = max(4, len(str(len(images) - 1)))
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = np.rint(image * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{row:0{digits}d}.png")


def _labels_to_json(labels: np.ndarray) -> dict[str, Any]:
    name = {"U": "str", "O": "object"}.get(labels.dtype.kind, labels.dtype.name)
    return {"dtype": name, "values": labels.tolist()}


def _labels_from_json(labels: dict[str, Any]) -> np.ndarray:
    name, values = labels["dtype"], labels["values"]
    # No other names that numpy knows: some of them ask for any amount of memory.
    if name not in _LABEL_KINDS:
        raise ValueError(
            f"the card's labels are of type {name!r}, none of {', '.join(_LABEL_KINDS)}."
        )
    if not all(type(value) is _LABEL_KINDS[name] for value in values):
        raise ValueError(f"the card's labels are not all of type {name}.")
    return np.array(values, dtype=name)


def _move_into_place(partial: Path, target: Path, *, aside: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    target.rename(aside)
    try:
        partial.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    for entry in aside.iterdir():
        if entry.name not in (_CARD, _TENSORS, _PICTURES, _README):
            entry.rename(target / entry.name)
    shutil.rmtree(aside)


def _read_card(path: Path, *, newer: bool = False) -> dict[str, Any]:
    """Read and check the card; `newer` accepts formats this version cannot read."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no {_CARD} in {str(path.parent)!r}.")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged or unreadable: {error}") from error
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        raise ValueError(f"{str(path)!r} does not describe sklgm prototypes.")
    version = card.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{str(path)!r} is damaged: format_version is {version!r}.")
    if version > _FORMAT_VERSION and not newer:
        raise ValueError(
            f"{str(path)!r} has format {version}, but this version of sklgm reads formats up to "
            f"{_FORMAT_VERSION}. Update sklgm to read it."
        )
    return card


def _read_images(path: Path, card: dict[str, Any]) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"{_TENSORS} is missing.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{_TENSORS} is damaged or unreadable: {error}.") from error
    images = tensors.get("images")
    if images is None or images.dtype != np.float32:
        raise ValueError(f"{_TENSORS} holds no float32 tensor called 'images'.")
    if list(images.shape) != card["shape"]:
        raise ValueError(f"{_TENSORS} has shape {images.shape}, but the card says {card['shape']}.")
    if _checksum(path) != card["sha256"]:
        raise ValueError(f"{_TENSORS} was changed after it was saved: its checksum differs.")
    return images


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
