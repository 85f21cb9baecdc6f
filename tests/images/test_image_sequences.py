"""Sequences whose items are made when they are asked for: columns, data sets, tensors."""

import pickle
import time
from io import BytesIO

import datasets
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.model_selection import train_test_split

from sklgm.images import check_images, find_damaged, iter_batches

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (4, 6, 7, 3), dtype=np.uint8)


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


class Lazy:
    """A sequence that counts what it was asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


def datasets_of(contents):
    columns = {"image": [{"bytes": one, "path": None} for one in contents]}
    columns["label"] = [i % 2 for i in range(len(contents))]
    label = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "label": label})
    return datasets.Dataset.from_dict(columns, features=features)


DATA = datasets_of([png(one) for one in PIXELS])
UNDECODED = DATA.cast_column("image", datasets.Image(decode=False))
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "X",
    [
        Lazy([Image.fromarray(one) for one in PIXELS]),
        Lazy([png(one) for one in PIXELS]),
        [png(one) for one in PIXELS],
        DATA,
        DATA["image"],
        DATA["image"][:],
        DATA[:]["image"],
        DATA.with_format("numpy")["image"],
        DATA.with_format("torch")["image"],
        DATA.with_format("pandas"),
        DATA.with_format("arrow"),
        DATA.with_transform(lambda batch: batch)["image"],
        UNDECODED["image"],
        UNDECODED[:]["image"],
        CHANNELS_FIRST,
        CHANNELS_FIRST.double() / 255,
        (CHANNELS_FIRST.float() / 255).requires_grad_(),
        list(CHANNELS_FIRST),
        Lazy(list(CHANNELS_FIRST)),
    ],
)
def test_items_of_every_kind(X):
    source = check_images(X)
    assert len(source) == len(PIXELS)
    assert_array_equal(np.stack(list(source)), PIXELS)


@pytest.mark.parametrize("shape", [(4, 1, 6, 7), (4, 6, 7)])
def test_tensors_of_grey_images(shape):
    grey = torch.from_numpy(PIXELS[..., 0].reshape(shape))
    expected = np.repeat(PIXELS[..., :1], 3, axis=-1)
    for X in (grey, list(grey), Lazy(list(grey))):
        assert_array_equal(np.stack(list(check_images(X))), expected)


def test_bfloat16_tensors_are_read():
    half = (CHANNELS_FIRST > 127).to(torch.bfloat16)
    assert_array_equal(np.stack(list(check_images(half))), (PIXELS > 127) * np.uint8(255))


def test_paths_in_a_sequence(tmp_path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    source = check_images(Lazy([tmp_path / "a.png", str(tmp_path / "a.png")]))
    assert_array_equal(source[1], PIXELS[0])


def test_items_are_asked_for_one_by_one_and_only_when_needed():
    X = Lazy([Image.fromarray(one) for one in PIXELS])
    source = check_images(X)
    assert X.asked == [0]  # to tell at once what it holds
    train, test = train_test_split(source, test_size=1, random_state=0)
    part = train.take(np.array([True, False, True])).take([1])
    assert X.asked == [0]
    assert (len(train), len(test), len(part)) == (3, 1, 1)
    assert_array_equal(part[0], PIXELS[train.positions[2]])
    assert part.name(0) == f"X[{train.positions[2]}]"
    assert X.asked[1:] == [train.positions[2]]
    assert len(source.take([])) == 0


class OneFile:
    """Pictures in one open file: to seek and to read may not be torn apart by other threads."""

    def __init__(self, file):
        self.file = file

    def __len__(self):
        return 64

    def __getitem__(self, index):
        self.file.seek(index)
        time.sleep(0.001)
        (value,) = self.file.read(1)
        return np.full((4, 4, 3), value, np.uint8)


def test_several_threads_ask_for_one_item_at_a_time(tmp_path):
    (tmp_path / "pixels").write_bytes(bytes(range(64)))
    with (tmp_path / "pixels").open("rb") as file:
        source = check_images(OneFile(file))
        batches = list(iter_batches(source, lambda image: image, batch_size=8, n_jobs=4))
    assert np.concatenate(batches)[:, 0, 0, 0].tolist() == list(range(64))


@pytest.mark.parametrize("make", [list, Lazy, lambda items: datasets_of(items)["image"]])
def test_damaged_items_are_all_found(make):
    good, bad = png(PIXELS[0]), b"no picture"
    assert list(find_damaged(make([bad, good, bad]))) == [0, 2]


def test_a_bad_item_is_named():
    source = check_images(Lazy([png(PIXELS[0]), b"", png(PIXELS[0])]))
    with pytest.raises(ValueError, match=r"X\[1\] cannot be read"):
        source.take([2, 1])[1]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (Lazy([(Image.new("RGB", (4, 4)), 1)]), "of kind tuple.*as_X_y"),
        ([(Image.new("RGB", (4, 4)), 1)], "of kind tuple.*as_X_y"),
        (Lazy([{"image": 0, "label": 1}]), "of kind dict.*as_X_y"),
        (Lazy([3]), "of kind int"),
        (Lazy([]), "empty X"),
        (Lazy([torch.zeros(5, 4, 4)]), "come before height and width"),
        (Lazy([np.full((4, 4, 3), 2.0)]), r"in \[0, 1\]"),
        (DATA.to_iterable_dataset(), "kind IterableDataset.*compute_gradients"),
        (DATA["label"], "of kind int"),
    ],
)
def test_what_is_no_image_is_told_at_once(X, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_images(X)


def test_fingerprints_of_columns_follow_the_data_set_without_decoding(monkeypatch):
    first, again = check_images(DATA["image"]), check_images(DATA)
    other = check_images(DATA.select([1, 0, 2, 3])["image"])
    monkeypatch.setattr(datasets.Image, "decode_example", None)  # decoding would fail
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.take([0]).fingerprint() != first.take([1]).fingerprint()


def test_fingerprints_of_columns_of_paths_follow_the_files(tmp_path):
    def fingerprint():
        data = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")]})
        return check_images(data.cast_column("image", datasets.Image())).fingerprint()

    found = []
    for pixels in PIXELS[:2]:
        Image.fromarray(pixels).resize((20 + len(found), 20)).save(tmp_path / "a.png")
        found.append(fingerprint())
    assert found[0] != found[1]


def test_fingerprints_of_other_sequences_follow_the_pixels():
    first, again, other = (check_images(Lazy(list(part))) for part in (PIXELS, PIXELS, PIXELS[:3]))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_sequences_survive_a_pickle():
    source = pickle.loads(pickle.dumps(check_images(DATA["image"]).take([2])))
    assert_array_equal(source[0], PIXELS[2])
    assert source.name(0) == "X[2]"
