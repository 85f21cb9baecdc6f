"""A pass over images that come one after the other."""

import io
import tarfile
from collections import Counter

import datasets
import joblib
import numpy as np
import pytest
from datasets.distributed import split_dataset_by_node
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone

from sklgm import LGMDistiller, RandomHeads
from sklgm.datasets import as_X_y
from sklgm.passes import stream as stream_module
from tests.tiny_backbones import tiny_backbone

rng = np.random.default_rng(0)
X = list(rng.integers(0, 256, (10, 30, 40, 3), dtype=np.uint8))
Y = ["b", "a"] * 4 + ["a", "a"]
NETS = [tiny_backbone(), tiny_backbone(image_size=24)]
DISTILLER = LGMDistiller(NETS[0], heads=RandomHeads(2, 4), max_iter=1, random_state=0)


def pairs():
    return zip(X, Y, strict=True)


class Anew:
    def __iter__(self):
        return pairs()


@pytest.mark.parametrize("at_once", [3, 1024])
def test_a_stream_gives_the_sums_of_the_whole(monkeypatch, at_once):
    monkeypatch.setattr(stream_module, "_IMAGES_AT_ONCE", at_once)
    whole = DISTILLER.compute_gradients(X, Y)
    for given in (
        DISTILLER.compute_gradients(Anew()),
        DISTILLER.compute_gradients(*as_X_y(Anew())),
        DISTILLER.compute_gradients(pairs(), class_counts={"a": 6, "b": 4}),
        DISTILLER.compute_gradients(list(pairs())),
    ):
        assert_array_equal(given.rows_seen, whole.rows_seen)
        assert_allclose(given.sums, whole.sums, atol=1e-5)
        assert_allclose(given.mean_images(), whole.mean_images(), atol=1e-6)
    DISTILLER.fit_gradients(given)


def test_one_pass_serves_several_backbones():
    distiller = LGMDistiller(NETS, heads=RandomHeads(2, 4), random_state=0)
    asked = iter(pairs())
    several = distiller.compute_gradients(asked, class_counts={"a": 6, "b": 4})
    assert next(asked, None) is None
    for one, whole in zip(several, distiller.compute_gradients(X, Y), strict=True):
        assert one.backbone == whole.backbone
        assert_allclose(one.sums, whole.sums, atol=1e-5)


def test_shards_of_a_stream_add_up():
    def shard(rows, offset):
        part = zip(X[rows], Y[rows], strict=True)
        return DISTILLER.compute_gradients(part, class_counts={"a": 6, "b": 4}, offset=offset)

    total = shard(slice(0, 4), 0) + shard(slice(4, 10), 4)
    assert_allclose(total.sums, DISTILLER.compute_gradients(X, Y).sums, atol=1e-5)


def write_parquet(folder):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    for i, rows in enumerate((slice(0, 6), slice(6, 10))):
        table = {"image": X[rows], "label": ["ab".index(name) for name in Y[rows]]}
        datasets.Dataset.from_dict(table, features=features).to_parquet(folder / f"{i}.parquet")
    return {"path": "parquet", "data_files": str(folder / "*.parquet")}


def write_pictures(folder):
    for i, (image, label) in enumerate(pairs()):
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "train" / label / f"{i}.png")
    return {"path": str(folder)}  # as a data set of the hub that was cloned


def write_webdataset(folder):
    for i, rows in enumerate((slice(0, 6), slice(6, 10))):
        with tarfile.open(folder / f"{i}.tar", "w") as archive:
            for j, (image, label) in enumerate(zip(X[rows], Y[rows], strict=True)):
                picture = io.BytesIO()
                Image.fromarray(image).save(picture, "png")
                for ending, content in (
                    ("png", picture.getvalue()),
                    ("cls", b"%d" % "ab".index(label)),
                ):
                    entry = tarfile.TarInfo(f"{i}-{j}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    return {"path": "webdataset", "data_files": str(folder / "*.tar")}


@pytest.mark.parametrize("write", [write_parquet, write_pictures, write_webdataset])
def test_shards_of_hugging_face_are_streamed(tmp_path, write):
    streamed = datasets.load_dataset(**write(tmp_path), streaming=True, split="train")
    names = {"image": "png", "label": "cls"} if write is write_webdataset else {}
    # The order of the files is that of the loader, and views depend on it.
    distiller = clone(DISTILLER).set_params(n_real_views=0)
    whole = distiller.compute_gradients(X, Y)
    parts = [
        as_X_y(split_dataset_by_node(streamed, rank=i, world_size=2), **names)[0] for i in range(2)
    ]
    counts = sum((Counter(part.count_classes()) for part in parts), Counter())
    assert counts == ({0: 6, 1: 4} if names else {"a": 6, "b": 4})
    shards = [distiller.compute_gradients(part, class_counts=counts) for part in parts]
    assert all(shard.rows_seen.any() for shard in shards)
    assert_allclose(sum(shards).sums, whole.sums, atol=1e-5)


def test_no_more_than_a_chunk_is_read_ahead(monkeypatch):
    monkeypatch.setattr(stream_module, "_IMAGES_AT_ONCE", 2)
    read, added = [], []
    real = stream_module.RealPass.add

    def add(self, gradients, source, *args):
        added.append(len(read))
        real(self, gradients, source, *args)

    monkeypatch.setattr(stream_module.RealPass, "add", add)
    items = (read.append(0) or pair for pair in pairs())
    DISTILLER.compute_gradients(items, class_counts={"a": 6, "b": 4})
    assert added == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bad_items_are_named(n_jobs):
    items = [*pairs(), (b"GIF", "a")]
    distiller = LGMDistiller(NETS[0], n_jobs=n_jobs, heads="zero", random_state=0)
    with (
        joblib.parallel_config(n_jobs=2),
        pytest.raises(ValueError, match="Image 10 of the stream"),
    ):
        distiller.compute_gradients(iter(items), class_counts={"a": 7, "b": 4})
    with pytest.raises(ValueError, match=r"\['c'\]"):
        distiller.compute_gradients(iter([(X[0], "c")]), class_counts={"a": 7, "b": 4})


def test_labels_of_two_types_are_not_made_one():
    items = [(X[0], "1"), (X[1], 1)]
    with pytest.raises(ValueError, match="mixes strings"):
        DISTILLER.compute_gradients(iter(items), class_counts={"1": 1, "2": 1})
