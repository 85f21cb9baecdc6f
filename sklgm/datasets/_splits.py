"""Folders that hold a training and a test part, in place of classes."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

from sklgm.datasets._listing import has_card, subfolders

# Such as "train", "Training Set", "val2017", "seg_test" or "asl-train"; not "bullet train".
_SPLIT = re.compile(
    r"(?:.*[_-])?(train(?:ing|val)?|test(?:ing)?|val(?:id(?:ation)?)?|dev|eval(?:uation)?)"
    r"(?:[ _-]?(?:set|images?|imgs?|data|split))?[ _-]?\d*",
    re.IGNORECASE,
)


def refuse_splits(root: Path) -> None:
    """Raise ValueError if the classes are one floor below, in folders called train, test or so.

    Parameters
    ----------
    root : Path
        What was passed as the folder of classes.
    """
    if has_card(root):
        raise ValueError(
            f"{str(root)!r} holds saved prototypes. Read them by PrototypeSet.load, or pass "
            f"{str(root / 'images')!r} to take their pictures for a folder of classes."
        )
    classes = subfolders(root)
    if len(classes) == 1 and not _SPLIT.fullmatch(classes[0].name):
        if subfolders(classes[0]):
            refuse_splits(classes[0])
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
    """Return those of some folders that are splits of a data set; true classes are none."""
    words = {}
    for folder in classes:
        if found := _SPLIT.fullmatch(folder.name):
            words[folder] = found[1].lower()[:3]
    inside = {folder: {entry.name for entry in subfolders(folder)} for folder in words}
    alike = any(
        words[one] != words[other] and inside[one] & inside[other]
        for one, other in combinations(words, 2)
    )
    only_splits = len(set(words.values())) == len(classes)
    return [folder for folder in words if inside[folder]] if alike or only_splits else []
