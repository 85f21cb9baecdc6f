"""Data sets of other libraries, taken apart into X and y."""

from enum import Enum

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from sklgm.datasets import LabelledStream, as_X_y, load_folder
from sklgm.images.items import item_to_rgb
from sklgm.utils.targets import named_labels

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
NAMES = ["cat", "cat", "cat", "dog", "dog", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pets")
    for i, (name, pixels) in enumerate(zip(NAMES, PIXELS, strict=True)):
        (root / name).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def hugging_face(folder, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=cache)["train"]


def assert_is(X, y, rows=slice(None)):
    assert_array_equal(np.stack(list(X)), PIXELS[rows])
    assert y.tolist() == np.array(NAMES)[rows].tolist()


def test_data_sets_of_hugging_face(hugging_face):
    assert_is(*as_X_y(hugging_face))
    rows = [5, 0]
    assert_is(*as_X_y(hugging_face.select(rows)), rows)
    renamed = hugging_face.rename_columns({"image": "photo", "label": "kind"})
    assert_is(*as_X_y(renamed))
    twice = renamed.add_column("label", list(range(6)))
    assert as_X_y(twice)[1].tolist() == NAMES
    assert as_X_y(twice, label="label")[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_labels_of_a_column_have_the_names_of_their_classes(hugging_face):
    assert named_labels(hugging_face["label"]) == NAMES
    assert named_labels(NAMES) is NAMES


@pytest.mark.parametrize("missing", [-1, None])
def test_images_without_a_label_are_an_error(hugging_face, missing):
    features = hugging_face.features
    labels = datasets.Dataset.from_dict({"label": [0, missing]}).cast_column(
        "label", features["label"]
    )
    assert named_labels(labels["label"]) == ["cat", None]
    data = datasets.concatenate_datasets(
        [hugging_face.remove_columns("label").select([0, 1]), labels], axis=1
    )
    with pytest.raises(ValueError, match=r"1 of 2 images, the first is X\[1\], have no label"):
        as_X_y(data)


def test_data_sets_of_torch(folder):
    plain = ImageFolder(folder)
    assert_is(*as_X_y(plain))
    assert_is(*as_X_y(ImageFolder(folder, transform=ToTensor())))
    assert_is(*as_X_y(Subset(Subset(plain, [5, 0, 3]), [1, 2])), [0, 3])
    lower = ImageFolder(folder, target_transform=lambda label: ["Katze", "Hund"][label])
    assert as_X_y(lower)[1].tolist() == ["Katze"] * 3 + ["Hund"] * 3
    X, y = as_X_y(ConcatDataset([plain, plain]))
    assert len(X) == 12
    assert y.tolist() == [0, 0, 0, 1, 1, 1] * 2  # it has no names
    tensors = TensorDataset(torch.from_numpy(PIXELS).movedim(-1, 1), torch.arange(6))
    X, y = as_X_y(tensors)
    assert_array_equal(np.stack(list(X)), PIXELS)
    assert y.tolist() == [0, 1, 2, 3, 4, 5]


class OnlyFirst(torch.utils.data.Dataset):
    """Pairs, of which only the first can be read."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        assert index == 0
        return PIXELS[0], "cat"


def test_of_a_subset_no_other_item_is_read():
    assert_is(*as_X_y(Subset(OnlyFirst(), [0])), [0])


class Animal(str, Enum):  # noqa: UP042, of which numpy makes "Animal.CAT"
    CAT = "cat"
    DOG = "dog"


def test_labels_that_are_enums_are_taken_by_their_values():
    pairs = list(zip(PIXELS, [Animal(name) for name in NAMES], strict=True))
    assert_is(*as_X_y(pairs))
    stream, _ = as_X_y(iter(pairs))
    assert [type(label) for _, label in stream] == [str] * 6


def test_a_negative_target_is_no_label(folder):
    dataset = ImageFolder(folder)
    dataset.targets[1] = -1
    with pytest.raises(ValueError, match=r"1 of 6 images, the first is X\[1\], have no label"):
        as_X_y(dataset)


class Shifted(Subset):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label + 10

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_labels_that_the_items_change_are_those_of_the_items(folder):
    assert as_X_y(Shifted(ImageFolder(folder), [0, 5]))[1].tolist() == [10, 11]


def test_targets_without_a_label_are_an_error(folder):
    data = ImageFolder(folder)
    data.targets = [0, 0, 0, 1, 1, -1]
    with pytest.raises(ValueError, match="no label"):
        as_X_y(data)


def test_no_image_is_read_for_the_labels(folder):
    asked = []

    def loader(path):
        asked.append(path)
        with Image.open(path) as image:
            return image.copy()

    _, y = as_X_y(Subset(ImageFolder(folder, loader=loader), [0, 5]))
    assert y.tolist() == ["cat", "dog"]
    assert asked == [asked[0]] * 2  # the first, which tells what the items and labels are


def test_it_agrees_with_load_folder(folder):
    paths, labels = load_folder(folder, return_X_y=True)
    X, y = as_X_y(list(zip(paths, labels, strict=True)))
    assert_is(X, y)


class Shards(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(zip(PIXELS, NAMES, strict=True))


def samples():
    return ({"png": p, "cls": n} for p, n in zip(PIXELS, NAMES, strict=True))


def test_streams(hugging_face):
    dicts = as_X_y(samples(), image="png", label="cls")
    streams = [as_X_y(hugging_face.to_iterable_dataset()), as_X_y(Shards()), dicts]
    for stream, y in streams:
        assert y is None
        assert isinstance(stream, LabelledStream)
        assert as_X_y(stream) == (stream, None)
        images, labels = zip(*stream, strict=True)
        assert_array_equal(np.stack([item_to_rgb(one, (255, 255, 255)) for one in images]), PIXELS)
        assert list(labels) == NAMES


def test_classes_of_a_stream_are_counted_without_decoding(hugging_face, monkeypatch):
    stream, _ = as_X_y(hugging_face.to_iterable_dataset())
    monkeypatch.setattr(datasets.Image, "decode_example", None)  # decoding would fail
    assert stream.count_classes() == {"cat": 3, "dog": 3}
    assert as_X_y(Shards())[0].count_classes() == {"cat": 3, "dog": 3}
    with pytest.raises(ValueError, match=r"passed over once only\. Pass class_counts"):
        as_X_y(samples(), image="png", label="cls")[0].count_classes()


@pytest.mark.parametrize("items", [[()], [0], iter([{"img": 0}])])
def test_items_without_the_field_are_described(items):
    for dataset in (items, datasets.IterableDataset.from_generator(lambda: iter([{"img": 0}]))):
        with pytest.raises(ValueError, match=r"no field.*image=\.\.\., label=\.\.\."):
            list(as_X_y(dataset)[0])


def test_dicts_are_taken_apart_by_usual_names():
    items = [{"image": image, "target": n, "id": 0} for image, n in zip(PIXELS, NAMES, strict=True)]
    assert_is(*as_X_y(items))
    for dicts, what in (([{"img": 0, "label": 1}], "image"), ([{"image": 0, "y": 1}], "label")):
        with pytest.raises(ValueError, match=f"which column is the {what}.*none may be"):
            as_X_y(dicts)


def test_tables_are_taken_apart_by_their_columns():
    table = pd.DataFrame({"path": ["a.png"], "label": ["a"]})
    with pytest.raises(ValueError, match=r"table\['path'\], table\['label'\]"):
        as_X_y(table)


def test_a_stream_without_some_labels_is_an_error():
    stream = LabelledStream([(PIXELS[0], -1)], 0, 1, ("cat", "dog"))
    with pytest.raises(ValueError, match=r"no label.*filter"):
        list(stream)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: datasets.DatasetDict(train=data, test=data), r"dataset\['train'\]"),
        (lambda data: data.remove_columns("image"), "which column is the image: .*'label'"),
        (lambda data: data.remove_columns("label"), "which column is the label: .*label="),
        (lambda data: DataLoader(data), r"loader\.dataset"),
    ],
)
def test_what_cannot_be_taken_apart(hugging_face, make, message):
    with pytest.raises(ValueError, match=message):
        as_X_y(make(hugging_face))
