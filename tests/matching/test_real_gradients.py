"""The mergeable statistics: sums, shards, weights, files."""

import copy
import functools
import itertools
import json
import operator
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from sklgm.matching import RealGradients, gradients

N, D, C = 40, 6, 4
rng = np.random.default_rng(0)
FEATURES = (rng.normal(size=(N, D)) + 0.5).astype(np.float32)
FEATURES.flags.writeable = False
# Class c has 4 (c + 1) rows, shuffled.
INDICES = rng.permutation(np.repeat(np.arange(C), [4, 8, 12, 16]))
COUNTS = np.bincount(INDICES)
SETTINGS = {"head_pool_size": 5, "head_scale": 0.5, "head_seed": 3}


def make(classes=tuple(range(C)), **settings):
    return RealGradients(classes, **SETTINGS | settings)


def filled(rows=slice(None), **settings):
    return make(**settings).update(FEATURES[rows], INDICES[rows])


def direct(statistics, features, indices, weights):
    """Sum of each row's own cross-entropy gradient, by autograd in float64."""
    z = torch.from_numpy(np.array(features, dtype=np.float64))
    weights = torch.as_tensor(weights, dtype=torch.float64)
    expected = []
    for head in statistics.heads.take(slice(None)).double():
        weight = head.requires_grad_()
        bias = torch.zeros(len(head), dtype=torch.float64, requires_grad=True)
        losses = F.cross_entropy(z @ weight.T + bias, torch.as_tensor(indices), reduction="none")
        by_weight, by_bias = torch.autograd.grad(losses @ weights, [weight, bias])
        expected.append(torch.cat([by_weight, by_bias[:, None]], 1))
    return torch.stack(expected)


def assert_same(found, expected, rtol=1e-5, atol=1e-4):
    assert found.settings.keys() == expected.settings.keys()
    for name, value in expected.settings.items():
        np.testing.assert_array_equal(found.settings[name], value)
    torch.testing.assert_close(found.sums, expected.sums, rtol=rtol, atol=atol)
    np.testing.assert_array_equal(found.rows_seen, expected.rows_seen)
    np.testing.assert_allclose(found.feature_sum, expected.feature_sum, rtol=1e-12)
    np.testing.assert_allclose(found.feature_square_sum, expected.feature_square_sum, rtol=1e-12)
    np.testing.assert_array_equal(found.images_seen, expected.images_seen)
    np.testing.assert_allclose(found.image_sum, expected.image_sum, rtol=1e-12)


def test_sums_are_the_direct_formulas():
    found = filled(class_counts=COUNTS)
    weights = N / (C * COUNTS[INDICES])
    expected = direct(found, FEATURES, INDICES, weights)
    assert found.sums.shape == (5, C, D + 1)
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.rows_seen, COUNTS)


def test_sample_weight_multiplies_the_class_weight():
    own = np.linspace(0, 2, N)
    found = make(class_counts=COUNTS).update(FEATURES, INDICES, sample_weight=own)
    expected = direct(found, FEATURES, INDICES, own * N / (C * COUNTS[INDICES]))
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 39, 40, 1000])
def test_streaming_in_any_split(batch_size):
    found = make(class_counts=COUNTS)
    for start in range(0, N, batch_size):
        rows = slice(start, start + batch_size)
        assert found.update(FEATURES[rows], INDICES[rows]) is found
    assert_same(found, filled(class_counts=COUNTS))


@pytest.mark.parametrize("heads_at_once", [1, 2, 4])
def test_heads_in_chunks(heads_at_once, monkeypatch):
    expected = filled()
    monkeypatch.setattr(gradients, "_CHUNK_FLOATS", heads_at_once * N * C)
    assert_same(filled(), expected)


def test_few_rows_of_many_features_are_chunked_too(monkeypatch):
    """The sums of a chunk, not the residuals of its rows, are the largest thing then."""
    wide = np.ones((2, 50), dtype=np.float32)
    whole = make(head_pool_size=6).update(wide, [0, 1])
    monkeypatch.setattr(gradients, "_CHUNK_FLOATS", 2 * C * 51)
    chunks = []
    take = type(whole.heads).take
    monkeypatch.setattr(
        type(whole.heads), "take", lambda self, i, d: chunks.append(i) or take(self, i, d)
    )
    found = make(head_pool_size=6).update(wide, [0, 1])
    assert [(c.start, c.stop) for c in chunks] == [(0, 2), (2, 4), (4, 6)]
    torch.testing.assert_close(found.sums, whole.sums)


def shards(**settings):
    return [filled(slice(*ends), **settings) for ends in ((0, 7), (7, 8), (8, 25), (25, N))]


def test_shards_add_up_to_the_whole():
    parts = shards(class_counts=COUNTS)
    whole = filled(class_counts=COUNTS)
    assert_same(functools.reduce(operator.add, parts), whole)
    assert_same(sum(parts), whole)
    assert_same(sum(reversed(parts)), whole)


def test_addition_commutes_and_associates():
    a, b, c, _ = shards()
    assert torch.equal((a + b).sums, (b + a).sums)
    np.testing.assert_array_equal((a + b).feature_sum, (b + a).feature_sum)
    assert_same((a + b) + c, a + (b + c))


def test_addition_leaves_its_terms_alone():
    a, b, *_ = shards()
    before = copy.deepcopy([a, b])
    total = a + b
    total.update(FEATURES, INDICES)
    for part, old in zip((a, b), before, strict=True):
        assert torch.equal(part.sums, old.sums)
        assert_same(part, old)


def test_empty_shards_add_nothing():
    full, empty = filled(), make()
    for total in (full + empty, empty + full, sum([empty, full, empty])):
        assert torch.equal(total.sums, full.sums)
        assert_same(total, full)
    nothing = empty + empty
    assert nothing.is_empty
    assert_same(nothing.update(FEATURES, INDICES), full)


def test_empty():
    empty = make()
    assert empty.is_empty
    assert empty.n_features == 0
    with pytest.raises(ValueError, match="empty"):
        empty.feature_moments()
    empty.update(FEATURES[:0], [])
    assert empty.is_empty
    assert not filled().is_empty


def test_only_gradients_are_added():
    for other in (1, None, "x", np.ones(3)):
        with pytest.raises(TypeError):
            filled() + other
    with pytest.raises(TypeError):
        1 + filled()


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "ant", "dog", "bee"],
        np.array([30, -1, 7, 0]),
        np.array(["cat", "ant", "dog", "bee"], dtype=object),
        [2.5, 0.5, -1.0, 7.0],
    ],
    ids=["str", "int", "object", "float"],
)
def test_labels_of_any_kind_in_any_order(classes):
    """Sorted or not, the same rows give the same gradients, and each class keeps its count."""
    ordered = np.unique(classes)
    y = ordered[INDICES]
    expected = make(class_counts=COUNTS).update(FEATURES, INDICES)
    position = {label: i for i, label in enumerate(ordered.tolist())}
    counts_as_given = [COUNTS[position[label]] for label in np.asarray(classes).tolist()]
    by_label = dict(zip(ordered.tolist(), COUNTS.tolist(), strict=True))
    for counts in (counts_as_given, by_label, np.array(counts_as_given)):
        found = make(classes, class_counts=counts)
        for some in (y[:9], y[9:].tolist()):
            rows = slice(9) if len(some) == 9 else slice(9, None)
            found.update(FEATURES[rows], some)
        np.testing.assert_array_equal(found.classes, ordered)
        np.testing.assert_array_equal(found.class_counts, COUNTS)
        torch.testing.assert_close(found.sums, expected.sums, rtol=1e-5, atol=1e-4)


def test_bool_labels():
    y = INDICES > 1
    found = make([True, False], class_counts=[y.sum(), (~y).sum()]).update(FEATURES, y)
    expected = make([0, 1], class_counts=np.bincount(y)).update(FEATURES, y.astype(int))
    assert found.classes.dtype == bool
    assert torch.equal(found.sums, expected.sums)


@pytest.mark.parametrize("classes", [[], [1], [1, 1], ["a", "b", "a"]])
def test_classes_that_cannot_be(classes):
    with pytest.raises(ValueError, match="classes must hold at least 2 labels, each once"):
        make(classes)


def test_balanced_is_scikit_learns():
    found = filled(class_counts=COUNTS)
    assert found.is_balanced
    weights = compute_class_weight("balanced", classes=np.arange(C), y=INDICES)
    unweighted = make(class_weight=None).update(FEATURES, INDICES, sample_weight=weights[INDICES])
    torch.testing.assert_close(found.sums, unweighted.sums)


def test_balanced_classes_pull_alike():
    """Doubling every row of one class changes nothing but the scale."""
    again = np.flatnonzero(INDICES == 2)
    rows = np.concatenate([np.arange(N), again])
    doubled = make(class_counts=np.bincount(INDICES[rows]))
    doubled.update(FEATURES[rows], INDICES[rows])
    expected = filled(class_counts=COUNTS).sums / N
    torch.testing.assert_close(doubled.sums / len(rows), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("class_weight", ["balanced", None, {}])
def test_without_counts_sums_are_unweighted(class_weight):
    found = filled(class_weight=class_weight)
    assert not found.is_balanced
    expected = direct(found, FEATURES, INDICES, np.ones(N))
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-5, atol=1e-5)


def test_class_weight_by_label():
    weight = {1: 5.0, 3: 0.5}
    found = filled(class_weight=weight, class_counts=COUNTS)
    assert not found.is_balanced
    expected = direct(found, FEATURES, INDICES, np.array([1, 5, 1, 0.5])[INDICES])
    torch.testing.assert_close(found.sums.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ("heavy", "class_weight must be 'balanced', a mapping.*'heavy'"),
        ({9: 1.0}, r"class_weight names labels that are not classes: \[9\]"),
        ({9: 1.0, "x": 2.0}, "not classes.*'x'"),
    ],
)
def test_class_weight_that_cannot_be(class_weight, message):
    with pytest.raises(ValueError, match=message):
        make(class_weight=class_weight)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2, 3], "one count a class"),
        ([1, 2, 3, 0], r"at least 1 for every class; not so for \[3\]"),
        ({0: 4, 2: 4, 3: -1}, r"at least 1 for every class; not so for \[1, 3\]"),
        (
            {0: 1, 1: 1, 2: 1, 3: 1, 9: 1, "x": 1},
            "class_counts names labels that are not classes.*'x'",
        ),
        ([1, 2, 3, 1.5], r"class_counts must be whole numbers; got \[1, 2, 3, 1.5\]"),
    ],
)
def test_class_counts_that_cannot_be(counts, message):
    with pytest.raises(ValueError, match=message):
        make(class_counts=counts)


@pytest.mark.parametrize("size", [0, -3])
def test_head_pool_size_that_cannot_be(size):
    with pytest.raises(ValueError, match=rf"head_pool_size must be at least 1; got {size}"):
        make(head_pool_size=size)


UNLIKE = {
    "classes": {"classes": [0, 1, 2, 9]},
    "class_counts": {"class_counts": COUNTS + 1},
    "class_weight": {"class_weight": {1: 2.0}},
    "head_pool_size": {"head_pool_size": 6},
    "head_scale": {"head_scale": 0.25},
    "head_seed": {"head_seed": 4},
    "n_features": {},
    "backbone": {"backbone": "tiny"},
    "views": {"views": "other"},
}


def test_every_setting_is_in_the_table():
    assert UNLIKE.keys() == make().settings.keys()


def unlike(name, **settings):
    features = FEATURES[:, :-1] if name == "n_features" else FEATURES
    rows = np.flatnonzero(INDICES < 3)
    return make(**settings | UNLIKE[name]).update(features[rows], INDICES[rows])


@pytest.mark.parametrize("name", UNLIKE)
def test_unlike_statistics_do_not_merge(name):
    mine = filled(class_counts=COUNTS)
    theirs = unlike(name, class_counts=COUNTS)
    for a, b in ((mine, theirs), (theirs, mine)):
        with pytest.raises(ValueError, match=rf"differ in {name} \(") as error:
            a + b
        for other in UNLIKE.keys() - {name}:
            assert f" {other} (" not in str(error.value)


@pytest.mark.parametrize("name", ["class_counts", "class_weight", "backbone", "views"])
def test_none_is_unlike_something(name):
    settings = {"class_counts": None, "class_weight": None}
    with pytest.raises(ValueError, match=rf"differ in {name} \("):
        filled(**settings) + unlike(name, **settings)


def test_all_that_differs_is_named():
    with pytest.raises(ValueError, match=r"head_seed \(3 and 7\), backbone \('a' and None\)"):
        filled(backbone="a") + filled(head_seed=7)


def test_labels_of_unlike_kind_do_not_merge():
    with pytest.raises(ValueError, match=r"differ in classes \("):
        make(["0", "1"]) + make([0, 1])


@pytest.mark.parametrize(
    ("features", "y", "kwargs", "message"),
    [
        (FEATURES[:2], [0, 9], {}, r"not in classes: \[9\]; classes are \[0, 1, 2, 3\]"),
        (FEATURES[:2], ["0", "1"], {}, "not in classes"),
        (np.full((2, D), np.nan), [0, 1], {}, "NaN or infinity"),
        (np.full((2, D), -np.inf), [0, 1], {}, "NaN or infinity"),
        (torch.full((2, D), 1e300, dtype=torch.float64), [0, 1], {}, "NaN or infinity"),
        (FEATURES[:2], [0, 1, 2], {}, r"\(2, 6\) and labels of shape \(3,\)"),
        (FEATURES[:2], [[0], [1]], {}, r"\(2, 6\) and labels of shape \(2, 1\)"),
        (FEATURES[0], np.zeros(D, dtype=int), {}, r"must be of shape \(n, n_features\)"),
        (FEATURES[:2], [0, 1], {"sample_weight": np.ones(3)}, r"sample_weight.*\(3,\)"),
        (FEATURES[:2], [0, 1], {"sample_weight": np.ones((2, 1))}, r"sample_weight.*\(2, 1\)"),
        (FEATURES[:2], [0, 1], {"sample_weight": [1, np.nan]}, "sample_weight.*finite"),
    ],
)
@pytest.mark.parametrize("start", [make, filled], ids=["empty", "full"])
def test_bad_batch_leaves_the_sums_unchanged(start, features, y, kwargs, message):
    statistics = start()
    before = copy.deepcopy(statistics)
    with pytest.raises(ValueError, match=message):
        statistics.update(features, y, **kwargs)
    assert torch.equal(statistics.sums, before.sums)
    assert_same(statistics, before)
    assert statistics.is_empty == before.is_empty
    assert_same(statistics.update(FEATURES, INDICES), before.update(FEATURES, INDICES))


def test_number_of_features_is_that_of_the_first_batch():
    statistics = filled()
    with pytest.raises(ValueError, match="have 3 columns, earlier batches had 6"):
        statistics.update(FEATURES[:2, :3], [0, 1])
    assert_same(statistics, filled())


@pytest.mark.parametrize(
    "convert",
    [
        torch.tensor,
        np.float64,
        np.asfortranarray,
        lambda x: x.repeat(2, 0)[::2],
        lambda x: torch.tensor(x).double().requires_grad_(),
        lambda x: torch.tensor(x.T.copy()).T,
    ],
    ids=["tensor", "float64", "fortran", "strided", "with a graph", "transposed"],
)
def test_features_of_any_make(convert):
    found = make().update(convert(FEATURES), INDICES)
    assert not found.sums.requires_grad
    assert found.sums.dtype == torch.float32
    assert_same(found, filled())


def test_read_only_features_and_labels():
    y = INDICES.copy()
    y.flags.writeable = False
    assert not FEATURES.flags.writeable
    before = FEATURES.copy()
    make().update(FEATURES, y)
    np.testing.assert_array_equal(FEATURES, before)


def test_feature_moments_are_numpys():
    found = sum(shards())
    mean, std = found.feature_moments()
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, FEATURES.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std, FEATURES.std(0, dtype=np.float64), rtol=1e-6)


def test_moments_of_constant_features():
    mean, std = make().update(np.full((8, D), 1234.5678), INDICES[:8]).feature_moments()
    np.testing.assert_allclose(mean, 1234.5678, rtol=1e-6)
    assert (std < 0.01).all()


IMAGES = np.random.default_rng(1).random((N, 3, 24, 16))


def with_images(rows=slice(None), **settings):
    return filled(rows, **settings).update_mean_images(
        torch.from_numpy(IMAGES[rows]), INDICES[rows]
    )


def test_mean_images_are_the_means_of_blocks():
    blocks = IMAGES.reshape(N, 3, 8, 3, 8, 2).mean(axis=(3, 5))
    expected = np.stack([blocks[c == INDICES].mean(axis=0) for c in range(C)])
    whole = with_images()
    means = whole.mean_images()
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    parts = [with_images(slice(*ends)) for ends in ((0, 7), (7, 8), (8, 25), (25, N))]
    assert_same(sum(parts), whole)
    # Not to the last bit: floats were added in another order.
    np.testing.assert_allclose(sum(parts[::-1]).mean_images(), means, rtol=1e-6)


def test_mean_images_need_images_of_every_class():
    assert filled().mean_images() is None
    some = with_images(slice(1))
    assert some.mean_images() is None
    assert (some + with_images()).mean_images() is not None


def test_mean_images_are_saved(tmp_path):
    whole = with_images()
    whole.save(tmp_path / "sums")
    for back in (
        RealGradients.load(tmp_path / "sums"),
        pickle.loads(pickle.dumps(whole)),
        copy.deepcopy(whole),
        whole.to("cpu"),
    ):
        assert_same(back, whole)
        np.testing.assert_array_equal(back.mean_images(), whole.mean_images())


def test_images_of_any_size_and_range():
    ramp = torch.linspace(0, 1, 5).expand(4, 3, 5, 5)  # smaller than the means
    means = make().update_mean_images(ramp, range(4)).mean_images()
    assert means.shape == (4, 3, 8, 8)
    np.testing.assert_allclose(means[0, 0, 0, [0, -1]], [0, 1])


@pytest.mark.parametrize(
    ("images", "y", "message"),
    [
        (torch.zeros(2, 3, 8, 8), [0, 9], r"not in classes: \[9\]"),
        (torch.zeros(2, 3, 8, 8), [0], r"one label each; got \(2, 3, 8, 8\) and 1 labels"),
        (torch.zeros(2, 8, 8, 3), [0, 1], r"\(n, 3, height, width\).*got \(2, 8, 8, 3\)"),
        (torch.zeros(3, 8, 8), [0, 1, 2], "must be of shape"),
        (torch.full((2, 3, 8, 8), 255.0), [0, 1], r"pixels in \[0, 1\].*divide bytes by 255"),
        (torch.full((2, 3, 8, 8), 255, dtype=torch.uint8), [0, 1], "divide bytes by 255"),
        (torch.full((2, 3, 8, 8), -0.1), [0, 1], "pixels in"),
        (torch.full((2, 3, 8, 8), torch.nan), [0, 1], "pixels in"),
    ],
)
def test_bad_images_leave_the_means_unchanged(images, y, message):
    statistics = with_images()
    with pytest.raises(ValueError, match=message):
        statistics.update_mean_images(images, y)
    assert_same(statistics, with_images())


def test_to_device_is_a_copy():
    full = filled()
    moved = full.to("cpu")
    assert moved is not full
    assert torch.equal(moved.sums, full.sums)


def test_pickle():
    full = filled(class_counts=COUNTS, backbone="tiny")
    back = pickle.loads(pickle.dumps(full))
    assert torch.equal(back.sums, full.sums)
    assert_same(back, full)
    assert_same(back + full, full + full)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_counts": COUNTS, "backbone": "timm:x", "views": '{"a": [1, null]}'},
        {
            "classes": ["ant", "bee", "cät", "dog"],
            "class_counts": {"ant": 4, "bee": 8, "cät": 12, "dog": 16},
        },
        {"classes": np.array(["ant", "bee", "cat", "dog"], dtype=object)},
        {"class_weight": None, "head_seed": 2**40, "head_scale": 0.1 + 0.2},
        {"class_weight": {0: 2.5, 3: 1}},
        {"class_weight": {np.int64(1): np.float32(0.5)}},
        {"classes": ["ant", "bee", "cat", "dog"], "class_weight": {"bee": 3.0}},
        {"classes": [0.5, 1.5, 2.5, 3.5]},
    ],
)
def test_save_and_load(tmp_path, settings):
    file = tmp_path / "sums.safetensors"
    full = make(**settings)
    full.update(FEATURES, full.classes[INDICES])
    full.save(file)
    back = RealGradients.load(str(file))
    assert torch.equal(back.sums, full.sums)
    for name in ("rows_seen", "feature_sum", "feature_square_sum", "classes"):
        mine, theirs = getattr(back, name), getattr(full, name)
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert back.classes.tolist() == full.classes.tolist()
    assert back.class_weight == full.class_weight
    assert back.is_balanced == full.is_balanced
    assert_same(back, full)
    assert torch.equal(back.heads.take(slice(None)), full.heads.take(slice(None)))
    # It goes on living: more rows, other shards, the same file.
    y = full.classes[INDICES]
    assert_same(back.update(FEATURES, y), full.update(FEATURES, y))
    assert_same(back + full, full + full)
    back.save(file)
    assert_same(RealGradients.load(file), full)


def test_save_and_load_bool_classes(tmp_path):
    full = make([False, True]).update(FEATURES, INDICES > 1)
    full.save(tmp_path / "sums")
    back = RealGradients.load(tmp_path / "sums")
    assert back.classes.dtype == bool
    assert_same(back + full, full + full)


def test_save_and_load_empty(tmp_path):
    make(class_counts=COUNTS).save(tmp_path / "sums")
    back = RealGradients.load(tmp_path / "sums")
    assert back.is_empty
    assert_same(back.update(FEATURES, INDICES), filled(class_counts=COUNTS))


def test_save_over_the_file_that_was_loaded(tmp_path):
    """The file may be mapped into memory while it is written."""
    file = tmp_path / "sums"
    wide = np.ones((3, 500), dtype=np.float32)
    full = make(head_pool_size=64).update(wide, [0, 1, 2])
    full.save(file)
    RealGradients.load(file).save(file)
    loaded = RealGradients.load(file)
    filled().save(file)
    assert torch.equal(loaded.sums, full.sums)


def change_header(file, **changes):
    """Write the file again with another header, or with another tensor."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["sklgm.RealGradients"])
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    tensors |= changes.pop("tensors", {})
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    metadata = {"sklgm.RealGradients": json.dumps(header | changes)}
    save_file(tensors, file, metadata=metadata)


def garbage(file):
    file.write_bytes(b"these are no tensors" * 100)


def nothing(file):
    file.write_bytes(b"")


def truncated(file):
    file.write_bytes(file.read_bytes()[:-40])


def beheaded(file):
    file.write_bytes(file.read_bytes()[:30])


def another(file):
    save_file({"weight": torch.ones(3)}, file)


def another_with_metadata(file):
    save_file({"weight": torch.ones(3)}, file, metadata={"format": "pt"})


def newer(file):
    change_header(file, format=2, surprise=[1], tensors={"sums": None, "totals": torch.ones(2)})


def lacking(file):
    change_header(file, tensors={"rows_seen": None})


def wide(file):
    change_header(file, tensors={"sums": torch.zeros(5, C, D + 2)})


def other_classes(file):
    change_header(file, classes=[1, 2])


def test_others_may_read_what_they_may_read_of_other_files(tmp_path):
    (tmp_path / "any file").touch()
    filled().save(tmp_path / "gradients")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (garbage, "is not a file written by"),
        (nothing, "is not a file written by"),
        (truncated, "is not a file written by"),
        (beheaded, "is not a file written by"),
        (another, "is not a file written by"),
        (another_with_metadata, "is not a file written by"),
        (lacking, "is not a file written by"),
        (newer, "has format 2, but this version of sklgm reads format 1"),
        (wide, "is damaged: its sums do not fit"),
        (other_classes, "is damaged: its sums do not fit"),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path, damage, message):
    file = tmp_path / "some file.safetensors"
    filled().save(file)
    damage(file)
    with pytest.raises(ValueError, match=rf"some file\.safetensors {message}"):
        RealGradients.load(file)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        RealGradients.load(tmp_path / "nowhere")


def test_stray_tensors_in_a_file_are_left_alone(tmp_path):
    file = tmp_path / "sums"
    filled().save(file)
    change_header(file, tensors={"classes": torch.zeros(2), "update": torch.zeros(1)})
    assert_same(RealGradients.load(file), filled())


def test_repr():
    assert repr(filled()) == "RealGradients(4 classes, 6 features, 5 heads, 40 rows seen)"


def test_any_partition_of_shards():
    """Whatever rows a shard holds, even one class alone, and in whatever order they come."""
    expected = filled(class_counts=COUNTS)
    parts = [filled(np.equal(INDICES, c), class_counts=COUNTS) for c in range(C)]
    for order in itertools.islice(itertools.permutations(parts), 0, 24, 7):
        assert_same(sum(order), expected)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "gradients.safetensors"
    kept = RealGradients([0, 1]).update(np.eye(2, dtype=np.float32), [0, 1])
    kept.save(path)

    def half_written(name, tensors, metadata):
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("sklgm.matching.real.write_tensors", half_written)
    with pytest.raises(OSError, match="No space left"):
        kept.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert torch.equal(RealGradients.load(path).sums, kept.sums)
