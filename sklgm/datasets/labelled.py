"""Data sets of images with labels, as other libraries have them, taken apart into X and y."""

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklgm.images import ImageSource, check_images
from sklgm.images.columns import (
    Field,
    columns_of_kind,
    field_of,
    has_items,
    take_field,
    without_decoding,
)
from sklgm.utils.targets import check_column, named_labels, number_names, plain_label

_LABELS = ("label", "labels", "target", "cls", "class")
_NO_LABEL = "{} no label. Select the others, as dataset.filter does."


@dataclass(frozen=True, eq=False)
class LabelledStream:
    """Images and labels that come one after the other, as :func:`as_X_y` returns them.

    Parameters
    ----------
    items : iterable
        Tuples or dicts with an image and a label each.
    image, label : int or str
        Place of each in the items, or its name.
    names : tuple of str or None, default=None
        Names of the classes, which the labels number; None where labels are what they are.
    """

    items: Iterable[Any]
    image: Any
    label: Any
    names: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[tuple[Any, Hashable]]:
        return ((take_field(item, self.image), self._label(item)) for item in self.items)

    def count_classes(self) -> dict[Any, int]:
        """Count the images of each class in a pass of its own.

        Of a streamed data set of Hugging Face no image is decoded in it.

        Returns
        -------
        dict
            Number of images by label.

        Raises
        ------
        ValueError
            If the items can be passed over once only.
        """
        items: Any = self.items
        if iter(items) is items:
            raise ValueError(
                "The items come from an iterator, which can be passed over once only. Pass "
                "class_counts={label: number of images, ...}."
            )
        if self.label in (getattr(items, "column_names", None) or ()):
            items = items.select_columns([self.label])
        return dict(Counter(map(self._label, items)))

    def _label(self, item: Any) -> Hashable:
        label = plain_label(take_field(item, self.label))
        if hasattr(label, "item"):  # a number of numpy or torch
            label = label.item()
        if self.names is not None:
            (label,) = number_names([label], self.names)
        if label is None:
            raise ValueError(_NO_LABEL.format("An image has"))
        return label


def as_X_y(
    dataset: Any, *, image: int | str | None = None, label: int | str | None = None
) -> tuple[ImageSource | LabelledStream, NDArray[Any] | None]:
    """Take a data set of images and labels apart, without reading its images.

    Parameters
    ----------
    dataset : datasets.Dataset, torch.utils.data.Dataset, sequence or iterable
        A data set of Hugging Face's `datasets`; a map-style data set of torch, such as
        torchvision's ``ImageFolder`` or a ``Subset`` of one; or another sequence of pairs. Its
        images may be of any kind that :func:`sklgm.images.check_images` takes; those of
        torchvision need no transform. Items are asked for one at a time, and must be the same
        each time.

        A streamed data set (``datasets.IterableDataset``, torch's ``IterableDataset``, webdataset)
        or another iterable of pairs or dicts gives a stream.
    image, label : int or str, optional
        Where the items have the image and the label. By default these are the columns of kind
        ``Image`` and ``ClassLabel`` of a data set of Hugging Face, or a label called "label",
        "labels", "target", "cls" or "class"; the same labels and "image" of dicts, unless they are
        streamed; and the first and second of pairs.

    Returns
    -------
    X : ImageSource or LabelledStream
        The images, decoded when they are asked for; scikit-learn's splitters select from it
        without reading any. A stream, images and labels together, is for
        :meth:`LGMDistiller.compute_gradients <sklgm.LGMDistiller.compute_gradients>` alone.
    y : ndarray of shape (n_samples,) or None
        The labels, by the names of the classes where the data set has names. None for a stream.
        Those of torch's data sets come from ``targets`` where there is such an attribute;
        otherwise every item is read once for them.

    Raises
    ------
    ValueError
        If it cannot be told which field is the image or the label, or images have no label.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm.datasets import as_X_y
    >>> pairs = [(np.zeros((8, 8, 3), np.uint8), "black"), (np.ones((8, 8, 3)), "white")]
    >>> X, y = as_X_y(pairs)
    >>> X, y
    (<SequenceSource of 2 images>, array(['black', 'white'], dtype='<U5'))
    """
    if isinstance(dataset, LabelledStream):
        return dataset, None
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"Got {len(dataset)} data sets, {', '.join(map(repr, dataset))}. Choose one of them, "
            f"such as dataset[{next(iter(dataset), 'train')!r}]."
        )
    if hasattr(dataset, "column_names") and hasattr(dataset, "select_columns"):
        return _from_columns(dataset, image, label)
    if hasattr(dataset, "columns") and hasattr(dataset, "shape"):
        names = getattr(dataset, "column_names", None) or list(dataset.columns)
        raise ValueError(
            f"Got a table of columns {names}. Take it apart by their names, such as X, y = "
            f"table['path'], table['label']."
        )
    is_indexed = has_items(dataset)
    first = dataset[0] if is_indexed and len(dataset) else None
    if isinstance(first, Mapping) and 0 not in first:
        image, label = _fields_of(image, label, ["image"], _LABELS, list(first))
    image, label = 0 if image is None else image, 1 if label is None else label
    is_other = isinstance(dataset, str | os.PathLike) or hasattr(dataset, "batch_sampler")
    if is_other or not (is_indexed or isinstance(dataset, Iterable)):
        raise ValueError(
            f"Got {dataset!r}, which is no data set. Read a folder by load_folder and a table of "
            f"paths by load_csv; of a DataLoader, which has batches, pass loader.dataset."
        )
    if not is_indexed:
        return LabelledStream(dataset, image, label), None
    return check_images(Field(dataset, image)), _labels_of(dataset, label, first)


def _from_columns(
    dataset: Any, image: Any, label: Any
) -> tuple[ImageSource | LabelledStream, NDArray[Any] | None]:
    columns = dataset.column_names
    if columns is None:  # a stream that a function makes does not know them
        image, label = image or "image", label or "label"
    images = columns_of_kind(dataset, "Image")
    named = columns_of_kind(dataset, "ClassLabel") or _LABELS
    image, label = _fields_of(image, label, images, named, columns or [])
    if has_items(dataset):
        labels = named_labels(dataset[label])[:]  # at once, where items would come one by one
        return check_images(field_of(dataset, image)), _as_array(labels)
    names = getattr((dataset.features or {}).get(label), "names", None)
    stream = without_decoding(dataset, image)
    return LabelledStream(stream, image, label, names and tuple(names)), None


def _fields_of(
    image: Any, label: Any, images: Sequence[str], labels: Sequence[str], columns: list[str]
) -> tuple[Any, Any]:
    """Return the names of image and label: as given, or the only ones that may be meant."""
    if image is None:
        image = _the_only(images, "image", columns)
    return image, _the_only(labels, "label", columns) if label is None else label


def _the_only(names: Sequence[str], what: str, columns: list[str]) -> str:
    found = [name for name in names if name in columns]
    if len(found) != 1:
        raise ValueError(
            f"Cannot tell which column is the {what}: of the columns {columns}, "
            f"{found or 'none'} may be. Pass {what}=, the name of the one that is meant."
        )
    return found[0]


def _labels_of(dataset: Any, label: Any, first: Any) -> NDArray[Any]:
    """Return the labels of torch's data sets without reading images where that is possible."""
    whole, rows = dataset, np.arange(len(dataset))
    while hasattr(whole, "indices") and hasattr(whole, "dataset"):  # a Subset
        whole, rows = whole.dataset, np.asarray(whole.indices)[rows]
    targets: Any = getattr(whole, "targets", ())
    # Something may still be done to them on the way to the items.
    if len(targets) != len(whole) or targets[rows[0]] != take_field(first, label):
        return _as_array([take_field(dataset[i], label) for i in range(len(dataset))])
    y = np.asarray(targets)[rows]
    names = getattr(whole, "classes", None)
    return _as_array(number_names(y, names) if names and y.dtype.kind in "iu" else y)


def _as_array(labels: Any) -> NDArray[Any]:
    labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if None in labels:
        n, first = labels.count(None), labels.index(None)
        which = f"{n} of {len(labels)} images, the first is X[{first}], have"
        raise ValueError(_NO_LABEL.format(which))
    return check_column(labels, "y")
