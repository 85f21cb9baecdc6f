"""Class labels as folder names that every file system and image-folder reader accepts."""

import re
import unicodedata

import numpy as np

_RESERVED_ON_WINDOWS = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
# Hugging Face reads a folder called "train", or "bullet train", as a split instead of a class.
_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train(?:ing)?|valid(?:ation)?|val|dev|test(?:ing)?|eval(?:uation)?)(?![a-z])",
    re.IGNORECASE,
)


def folder_names(classes: np.ndarray) -> list[str]:
    """Give each class a folder name of its own.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Distinct labels of any type.

    Returns
    -------
    list of str
        Short ASCII names that differ by more than case. Integers are zero-padded, so that sorted
        folders are in the order of the classes, unless some are negative.
    """
    texts = [str(label) for label in classes.tolist()]
    if classes.dtype.kind in "iu":
        longest = max(map(len, texts))
        texts = [text.zfill(longest) for text in texts]
    names: dict[str, str] = {}  # by what they are in lower case
    for index, text in enumerate(texts):
        name = stem = _safe_name(text) or f"class_{index}"
        copy = 1
        while name.lower() in names:
            copy += 1
            name = f"{stem}-{copy}"
        names[name.lower()] = name
    return list(names.values())


def _safe_name(text: str) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9 ._-]+", "_", ascii_text)[:60].lstrip(" ._").rstrip(" .")
    # The mark is none of the characters that Hugging Face takes for the end of a word.
    return _RESERVED_ON_WINDOWS.sub(r"\1~", _SPLIT_WORD.sub(r"\1~", name))
