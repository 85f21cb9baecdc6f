"""What holds for any input: sums and their parts, files, kinds of images, kinds of labels."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from sklgm import (
    BackboneEmbedder,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    RandomHeads,
    RandomImages,
    RealGradients,
)
from sklgm.matching.gradients import probe_gradients
from tests.image_checks import save_images
from tests.tiny_backbones import tiny_backbone


def examples(n):
    """Return a decorator: so many examples, the same in every run, that may take their time."""
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


@contextmanager
def folder():
    """A new folder for each example, which a fixture would not give."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def floats(width=32, **limits):
    return st.floats(width=width, allow_nan=False, allow_infinity=False, **limits)


seeds = st.integers(0, 2**32 - 1)
# JSON that is equal to itself when read again.
scalars = st.none() | st.booleans() | st.integers() | floats(64) | st.text()
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)


# ---------------------------------------------------------------- sums and their parts


@st.composite
def problems(draw):
    """Draw features, labels and weights, and where to cut them: also where nothing is between."""
    n, d, c = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(seeds))
    cuts = draw(st.lists(st.integers(0, n), max_size=4).map(sorted))
    return {
        "features": (rng.normal(size=(n, d)) * draw(st.sampled_from([1e-3, 1, 1e3]))),
        "labels": rng.integers(c, size=n),
        "weights": rng.exponential(size=n),
        "parts": [slice(*ends) for ends in zip([0, *cuts], [*cuts, n], strict=True)],
        "n_classes": c,
        "seed": draw(st.integers(0, 99)),
    }


def statistics(problem, rows=slice(None), **changes):
    """Make statistics of some rows of a problem."""
    params = {
        "class_counts": np.arange(1, problem["n_classes"] + 1),
        "head_pool_size": 3,
        "head_scale": 0.5,
        "head_seed": problem["seed"],
        **changes,
    }
    made = RealGradients(np.arange(problem["n_classes"]), **params)
    return made.update(
        problem["features"][rows],
        problem["labels"][rows],
        sample_weight=problem["weights"][rows],
    )


def assert_same_statistics(found, expected):
    scale = float(expected.sums.abs().max())
    assert_allclose(found.sums, expected.sums, rtol=0, atol=1e-5 * scale)
    assert_array_equal(found.rows_seen, expected.rows_seen)
    for name in ("feature_sum", "feature_square_sum"):
        values = getattr(expected, name).numpy()
        size = np.abs(values).max(initial=0) + float(expected.feature_square_sum.sum()) ** 0.5
        assert_allclose(getattr(found, name), values, rtol=0, atol=1e-10 * size)


@examples(60)
@given(problems(), st.sampled_from([torch.float32, torch.float64]))
def test_the_gradient_of_a_batch_is_the_sum_of_its_parts(problem, dtype):
    features = torch.from_numpy(problem["features"]).to(dtype)
    labels = torch.from_numpy(problem["labels"])
    weights = torch.from_numpy(problem["weights"]).to(dtype)
    generator = torch.Generator().manual_seed(problem["seed"])
    shape = (2, problem["n_classes"], features.shape[1])
    heads = torch.randn(shape, generator=generator, dtype=dtype)
    whole = probe_gradients(features, labels, heads, weights)
    assert whole.dtype == dtype
    parts = [
        probe_gradients(features[part], labels[part], heads, weights[part])
        for part in problem["parts"]
    ]
    eps = torch.finfo(dtype).eps
    scale = float(1 + (features.abs().sum() * weights.max()))
    assert_allclose(sum(parts), whole, rtol=0, atol=50 * eps * scale)
    # One by one, the weights outside.
    alone = [
        weights[i] * probe_gradients(features[i : i + 1], labels[i : i + 1], heads)
        for i in range(len(labels))
    ]
    assert_allclose(sum(alone), whole, rtol=0, atol=50 * eps * scale)


@examples(40)
@given(problems(), st.sampled_from(["balanced", None, {0: 3.0, 1: 0.5}]))
def test_statistics_add_up_in_any_order(problem, class_weight):
    whole = statistics(problem, class_weight=class_weight)
    shards = [statistics(problem, part, class_weight=class_weight) for part in problem["parts"]]
    assert_same_statistics(sum(shards), whole)
    assert_same_statistics(sum(reversed(shards)), whole)
    a, b, c = shards[0], sum(shards[1:], shards[0]), shards[-1]
    assert torch.equal((a + b).sums, (b + a).sums)
    assert_same_statistics((a + b) + c, a + (b + c))
    streamed = statistics(problem, slice(0), class_weight=class_weight)
    for part in problem["parts"]:
        streamed.update(
            problem["features"][part],
            problem["labels"][part],
            sample_weight=problem["weights"][part],
        )
    assert_same_statistics(streamed, whole)


# ---------------------------------------------------------------- files

texts = st.text(st.characters(exclude_characters="\0"), max_size=6)
LABELS = {
    "int64": hnp.from_dtype(np.dtype(np.int64)),
    "uint64": hnp.from_dtype(np.dtype(np.uint64)),
    "int8": hnp.from_dtype(np.dtype(np.int8)),
    "whole floats": st.integers(-(2**53), 2**53).map(float),
    "bool": st.booleans(),
    "str": texts,
    "object": texts,
}
DTYPES = {"whole floats": np.float64, "str": np.str_}


@st.composite
def labels_of(draw, kind, n):
    """Draw n labels of a kind, of two to four classes."""
    classes = draw(st.lists(LABELS[kind], min_size=2, max_size=4, unique=True))
    places = np.r_[np.arange(len(classes)), np.arange(n - len(classes)) % len(classes)]
    dtype = DTYPES.get(kind, np.dtype(kind) if kind not in DTYPES else None)
    return np.array(classes, dtype=dtype)[np.random.default_rng(draw(seeds)).permutation(places)]


any_labels = st.sampled_from(sorted(LABELS)).flatmap(lambda kind: labels_of(kind, 6))


@examples(30)
@given(any_labels, hnp.arrays(np.float32, (6, 3), elements=floats()), json_objects)
def test_prototypes_come_back_bit_by_bit(labels, rows, provenance):
    with folder() as path:
        kept = PrototypeSet(rows, labels, provenance)
        kept.save(path / "set")
        back = PrototypeSet.load(path / "set")
    assert back.images.tobytes() == rows.tobytes()  # -0.0 is not 0.0
    assert back.labels.dtype == labels.dtype
    assert back.labels.tolist() == labels.tolist()
    assert back.provenance == provenance


@examples(15)
@given(any_labels, hnp.arrays(np.float32, (6, 2, 3, 3), elements=floats(min_value=0, max_value=1)))
def test_pictures_come_back_bit_by_bit(labels, images):
    with folder() as path:
        PrototypeSet(images, labels).save(path / "set")
        back = PrototypeSet.load(path / "set")
        assert len(list((path / "set" / "images").glob("*/*.png"))) == 6
    assert back.images.tobytes() == images.tobytes()
    assert back.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("labels", [[2**70, 1], [b"a", b"b"], [{1}, {2}]])
def test_labels_that_could_not_be_read_again_are_refused(labels):
    with pytest.raises(ValueError, match="Labels must be"):
        PrototypeSet(np.zeros((2, 3)), labels)


@examples(60)
@given(
    any_labels,
    seeds,
    st.sampled_from(["balanced", None, "by label"]),
    st.text(max_size=5) | st.none(),
    st.booleans(),
)
def test_statistics_come_back(labels, seed, class_weight, views, empty):
    if class_weight == "by label":
        class_weight = dict(zip(np.unique(labels).tolist(), [0.1, 3.0], strict=False))
    classes, counts = np.unique(labels, return_counts=True)
    made = RealGradients(
        classes,
        class_counts=counts,
        class_weight=class_weight,
        head_pool_size=2,
        head_seed=seed,
        views=views,
    )
    if not empty:
        features = np.random.default_rng(seed).normal(size=(len(labels), 3))
        made.update(features, labels)
        made.update_mean_images(torch.rand(len(labels), 3, 9, 8), labels)
    with folder() as path:
        made.save(path / "sums")
        back = RealGradients.load(path / "sums")
        assert back.settings.keys() == made.settings.keys()
        for name, value in made.settings.items():
            assert_array_equal(back.settings[name], value, err_msg=name)
        assert back.classes.dtype.kind == made.classes.dtype.kind
        assert back.classes.tolist() == made.classes.tolist()
        for name, tensor in made.tensors().items():
            found = back.tensors()[name]
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)
        back + made  # they are of one kind


# ---------------------------------------------------------------- kinds of images

NET = tiny_backbone()
sides = st.integers(5, 24)


@st.composite
def pictures(draw):
    """Draw images (n, h, w, 3) of bytes."""
    shape = (draw(st.integers(1, 3)), draw(sides), draw(sides))
    rng = np.random.default_rng(draw(seeds))
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if draw(st.booleans()):
        images[...] = images[..., :1]
    return images


def objects(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


@examples(15)
@given(pictures())
def test_the_same_pixels_have_the_same_features(images):
    expected = BackboneEmbedder(NET).fit_transform(images)
    assert np.isfinite(expected).all()
    read_only = images.copy()
    read_only.flags.writeable = False
    pil = [Image.fromarray(image) for image in images]
    kinds = {
        "list": list(images),
        "lists of floats": (images / 255).tolist(),
        "read-only": read_only,
        "Fortran": np.asfortranarray(images),
        "not contiguous": np.repeat(images, 2, axis=2)[:, :, ::2],
        "backwards": np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1],
        "channels backwards": np.ascontiguousarray(images[..., ::-1])[..., ::-1],
        "channels first, seen otherwise": np.moveaxis(images, -1, 1).copy().transpose(0, 2, 3, 1),
        "PIL": pil,
        "PIL objects": objects(pil),
        "PIL with alpha": [image.convert("RGBA") for image in pil],
        **{str(dtype): (images / 255).astype(dtype) for dtype in (np.float16, np.float32, float)},
        "big-endian": (images / 255).astype(">f4"),
    }
    if (images == images[..., :1]).all():
        kinds |= {
            "grey list": [image[..., 0] for image in images],
            "grey PIL": [Image.fromarray(image[..., 0]) for image in images],
        }
        if images.shape[1] == images.shape[2] or images.shape[2] > 4:
            kinds["grey"] = images[..., 0]
    with folder() as path:
        paths = save_images(images, path)
        kinds |= {
            "paths": paths,
            "Path": [Path(name) for name in paths],
            "Series": pd.Series(paths, index=np.arange(len(paths)) + 3),
            "strings": pd.Series(paths).astype("string"),
            "categories": pd.Series(paths).astype("category"),
            "objects": objects(paths),
        }
        for kind, X in kinds.items():
            found = BackboneEmbedder(NET).fit_transform(X)
            assert_array_equal(found, expected, err_msg=kind)


# ---------------------------------------------------------------- kinds of labels

ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def containers(labels):
    """Return labels in whatever holds them, and the kind that classes are then of."""
    kind = labels.dtype.kind
    found = {
        "array": (labels, kind),
        "Series": (pd.Series(labels, index=np.arange(len(labels)) + 5), None),
        "categories": (pd.Series(labels).astype("category"), None),
        "Categorical": (pd.Categorical(labels), None),
        "read-only": (np.frombuffer(labels.tobytes(), labels.dtype), kind) if kind != "O" else None,
        "column of a frame": (pd.DataFrame({"y": labels})["y"], None),
    }
    if kind in "bU":
        found["list"] = (labels.tolist(), kind)
    if kind == "i":
        found["list"] = (labels.tolist(), kind)
        found["numpy's"] = (list(labels), kind)
        found["pandas' own"] = (pd.Series(labels, dtype=f"Int{8 * labels.itemsize}"), kind)
    if kind == "u":
        found["pandas' own"] = (pd.Series(labels, dtype="UInt64"), kind)
    if kind == "b":
        found["pandas' own"] = (pd.Series(labels, dtype="boolean"), kind)
    if kind in "UO":
        found["objects"] = (labels.astype(object), "O")
        found["numpy's"] = ([np.str_(label) for label in labels], "U")
        found["pandas' own"] = (pd.Series(labels, dtype="string"), "O")
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("kind", LABELS)
@examples(3)
@given(st.data())
def test_labels_survive_a_fit_a_file_and_a_prediction(kind, data):
    labels = data.draw(labels_of(kind, 8))
    classes = sorted(set(labels.tolist()))
    params = {"max_iter": 1, "heads": RandomHeads(pool_size=2), "random_state": 0}
    for name, (y, dtype) in containers(labels).items():
        fitted = LGMDistiller(None, **params).fit(ROWS, y)
        assert fitted.classes_.tolist() == classes, name
        assert dtype in (None, fitted.classes_.dtype.kind), name
        assert fitted.prototype_labels_.tolist() == classes
        with folder() as path:
            PrototypeSet.from_estimator(fitted).save(path / "set")
            back = PrototypeSet.load(path / "set")
        assert back.labels.tolist() == classes
        assert back.labels.dtype == fitted.prototype_labels_.dtype
    chosen = RandomImages(None, random_state=0)
    for distiller in (None, chosen):
        probe = FrozenBackboneProbe(None, distiller=distiller, max_epochs=1, random_state=0)
        predicted = probe.fit(ROWS, labels).predict(ROWS)
        assert probe.classes_.tolist() == classes
        assert predicted.dtype == probe.classes_.dtype
        assert set(predicted.tolist()) <= set(classes)
        assert 0 <= probe.score(ROWS, labels) <= 1
