"""Folders that hold a training and a test part, in place of classes."""

import re
from itertools import combinations
from pathlib import Path

from sklgm.datasets._listing import has_card, subfolders

_SPLIT = re.compile(
    "train(ing|val)?|test(ing)?|val(id(ation)?)?|dev(elopment)?|eval(uation)?", re.IGNORECASE
)
# What may stand beside such a word without a meaning of its own.
_FILLING = {"set", "image", "images", "img", "imgs", "data", "split", "dir", "folder"}


def refuse_splits(root: Path, classes: list[Path]) -> None:
    """Raise ValueError if a root's subfolders are no classes, but called train, test or so."""
    if has_card(root):
        raise ValueError(
            f"{str(root)!r} holds saved prototypes. Read them by PrototypeSet.load, or pass "
            f"{str(root / 'images')!r} to take their pictures for a folder of classes."
        )
    if len(classes) == 1 and not _split_of(classes[0]):
        if nested := subfolders(classes[0]):
            refuse_splits(classes[0], nested)
        return
    parts = _parts(classes)
    if parts:
        meant = next((part for part in parts if "train" in part.name.lower()), parts[0])
        others = ", ".join(repr(str(part)) for part in parts if part != meant)
        raise ValueError(
            f"{str(root)!r} is no folder of classes: these are one floor below, in "
            f"{' and '.join(repr(part.name) for part in parts)}. Pass {str(meant)!r} in its place"
            f"{others and f', and {others} where test images are asked for'}."
        )


def _parts(classes: list[Path]) -> list[Path]:
    """Return the folders that are splits of a data set, and not classes."""
    splits = {folder: split for folder in classes if (split := _split_of(folder))}
    inside = {folder: {entry.name for entry in subfolders(folder)} for folder in splits}
    alike = any(
        splits[one][0] != splits[other][0]
        and splits[one][1] == splits[other][1]
        and inside[one] & inside[other]
        for one, other in combinations(splits, 2)
    )
    words = {word for word, rest in splits.values() if not rest}
    only_splits = len(words) == len(classes)
    return [folder for folder in splits if inside[folder]] if alike or only_splits else []


def _split_of(folder: Path) -> tuple[str, tuple[str, ...]] | None:
    """Return which split a folder names, and the other words of its name, as "seg" of seg_train."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", folder.name)
    for word in words:
        if _SPLIT.fullmatch(word):
            rest = (other.lower() for other in words if other != word)
            return word.lower()[:3], tuple(other for other in rest if other not in _FILLING)
    return None
