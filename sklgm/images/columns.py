"""Data sets of other libraries, known by their attributes: none of the libraries is needed."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def has_items(dataset: Any) -> bool:
    """Return whether a data set is indexed; others can only be iterated over."""
    from torch.utils.data import IterableDataset  # those of other libraries derive from it

    is_indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    return is_indexed and not isinstance(dataset, IterableDataset)


def columns_of_kind(dataset: Any, kind: str) -> list[str]:
    """Return the columns of a data set whose feature is of a kind, such as "Image"."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, dict):
        return []
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def take_field(item: Any, key: Any) -> Any:
    """Return a field of an item, by its place in a tuple or its name in a dict."""
    with contextlib.suppress(KeyError, IndexError, TypeError):
        if isinstance(item, Mapping | Sequence) and not isinstance(item, str | bytes):
            return item[key]
    has = f" with the keys {list(item)}" if isinstance(item, dict) else ""
    raise ValueError(
        f"An item of kind {type(item).__name__}{has} has no field {key!r}. Say where the image "
        f"and the label are by sklgm.datasets.as_X_y(dataset, image=..., label=...), or pass the "
        f"labels as y beside images"
    )


@dataclass(frozen=True)
class Field:
    """One field of a data set's items, by its place in tuples or its name in dicts.

    Items are made when they are asked for.
    """

    dataset: Any
    key: Any

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return take_field(self.dataset[index], self.key)

    @property
    def fingerprint(self) -> str | None:
        """What Hugging Face's `datasets` tell the content by; None for other data sets."""
        kept = getattr(self.dataset, "_fingerprint", None)
        return None if kept is None else f"{kept}-{self.key}"


def without_decoding(dataset: Any, name: str) -> Any:
    """Return a Hugging Face data set whose images are left as files or the bytes of files.

    They are then decoded as all files are, in several threads. A data set with a transform of the
    user's own stays as it is.
    """
    has_transform = getattr(dataset, "format", {}).get("type") == "custom"
    if has_transform or name not in columns_of_kind(dataset, "Image"):
        return dataset
    feature = dataset.features[name]
    if feature.mode is not None:  # it is converted to that
        return dataset.with_format(None)
    return dataset.with_format(None).cast_column(name, type(feature)(decode=False))


def field_of(dataset: Any, name: str) -> Field:
    """Return a column of a Hugging Face data set, of which nothing else is read."""
    if dataset.format["type"] != "custom":  # a transform may ask for every column
        dataset = without_decoding(dataset, name).select_columns([name])
    return Field(dataset, name)
