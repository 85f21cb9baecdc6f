"""The mergeable statistics: sums, shards, weights, mean images."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sklgm.matching import RealGradients, gradients

N, D, C = 40, 6, 4
rng = np.random.default_rng(0)
FEATURES = (rng.normal(size=(N, D)) + 0.5).astype(np.float32)
FEATURES.flags.writeable = False
# Class c has 4 (c + 1) rows, shuffled.
INDICES = rng.permutation(np.repeat(np.arange(C), [4, 8, 12, 16]))
COUNTS = np.bincount(INDICES)
IMAGES = np.random.default_rng(1).random((N, 3, 24, 16))
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


def test_sums_are_float32_in_a_callers_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = filled()
    assert torch.equal(found.sums, filled().sums)


def assert_same(found, expected, rtol=1e-5, atol=1e-4):
    assert found.settings.keys() == expected.settings.keys()
    for name, value in expected.settings.items():
        np.testing.assert_array_equal(found.settings[name], value)
    torch.testing.assert_close(found.sums, expected.sums, rtol=rtol, atol=atol)
    np.testing.assert_array_equal(found.rows_seen, expected.rows_seen)
    np.testing.assert_allclose(found.row_weights, expected.row_weights)
    np.testing.assert_allclose(found.image_weights, expected.image_weights)
    np.testing.assert_allclose(found.feature_sum, expected.feature_sum, rtol=1e-12)
    np.testing.assert_allclose(found.feature_square_sum, expected.feature_square_sum, rtol=1e-12)
    np.testing.assert_array_equal(found.images_seen, expected.images_seen)
    np.testing.assert_allclose(found.image_sum, expected.image_sum, rtol=1e-12)
    if expected.store_covariance and not expected.is_empty:
        for name in ("class_feature_sum", "feature_product_sum"):
            value = getattr(expected, name)
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-12, atol=1e-12)


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


def test_moments_and_mean_images_are_weighted():
    weights = np.linspace(0, 2, N)
    found = make().update(FEATURES, INDICES, sample_weight=weights)
    found.update_mean_images(torch.from_numpy(IMAGES), INDICES, sample_weight=weights)
    mean, std = found.feature_moments()
    expected = np.average(FEATURES, axis=0, weights=weights)
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    squares = np.average((FEATURES - expected) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(std, squares**0.5, rtol=1e-5)
    blocks = IMAGES.reshape(N, 3, 8, 3, 8, 2).mean(axis=(3, 5))
    for c in range(C):
        own = c == INDICES
        expected = np.average(blocks[own], axis=0, weights=weights[own])
        np.testing.assert_allclose(found.mean_images()[c], expected, rtol=1e-6)
    # A weight of 0 is as good as no row.
    np.testing.assert_array_equal(found.rows_seen, np.bincount(INDICES[1:]))
    np.testing.assert_array_equal(found.images_seen, found.rows_seen)
    with pytest.raises(ValueError, match="empty"):
        make().update(FEATURES, INDICES, sample_weight=np.zeros(N)).feature_moments()


def test_the_mean_of_white_images_is_white():
    """Whatever is rounded: sums of weights and of weighted pixels are not made alike."""
    weights = np.random.default_rng(0).uniform(0.1, 1, 1000)
    white = make().update_mean_images(
        torch.ones(1000, 3, 8, 8), np.arange(1000) % C, sample_weight=weights
    )
    np.testing.assert_array_equal(white.mean_images(), 1)


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


@pytest.mark.parametrize("class_weight", ["heavy", 3, {9: 1.0}, {9: 1.0, "x": 2.0}])
def test_class_weight_that_cannot_be(class_weight):
    with pytest.raises(ValueError, match=r"class_weight.*(heavy|3|9)"):
        make(class_weight=class_weight)


@pytest.mark.parametrize(
    "counts",
    [
        [1, 2, 3],
        [[1, 2, 3, 4]],
        [1, 2, 3, 0],
        [1, 2, 3, -1.5],
        [1, 2, 3, np.nan],
        [1, 2, 3, np.inf],
        {0: 4, 2: 4, 3: 4},
        {0: 1, 1: 1, 2: 1, 3: 1, "x": 1},
    ],
)
def test_class_counts_that_cannot_be(counts):
    with pytest.raises(
        ValueError, match=r"class_counts.*one for each of the classes \[0, 1, 2, 3\]"
    ):
        make(class_counts=counts)


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
    "store_covariance": {"store_covariance": True},
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
    ("features", "y", "sample_weight", "message"),
    [
        (FEATURES[:2], [0, 9], None, r"include \[9\], which classes"),
        (FEATURES[:2], ["0", "1"], None, "which classes does not have"),
        (np.full((2, D), np.nan), [0, 1], None, "NaN or infinity"),
        (torch.full((2, D), 1e300, dtype=torch.float64), [0, 1], None, "NaN or infinity"),
        (FEATURES[:2], [0, 1, 2], None, r"\(2, 6\) and labels of shape \(3,\)"),
        (FEATURES[:2], [[0, 1], [1, 0]], None, "y should be a 1d array"),
        (FEATURES[0], np.zeros(D, dtype=int), None, "features must be of shape"),
        (FEATURES[:2], [0, 1], np.ones(3), r"\(3,\)"),
        (FEATURES[:2], [0, 1], np.ones((2, 1)), "2D array"),
        (FEATURES[:2], [0, 1], [1, np.nan], "sample_weight.*NaN"),
    ],
)
@pytest.mark.parametrize("start", [make, filled], ids=["empty", "full"])
def test_bad_batch_leaves_the_sums_unchanged(start, features, y, sample_weight, message):
    statistics = start()
    with pytest.raises(ValueError, match=message):
        statistics.update(features, y, sample_weight=sample_weight)
    assert torch.equal(statistics.sums, start().sums)
    assert_same(statistics, start())


def test_number_of_features_is_that_of_the_first_batch():
    statistics = filled()
    with pytest.raises(ValueError, match=r"shape \(n, 6\).*got \(2, 3\)"):
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
    """Those of the other tests are read-only."""
    found = make().update(convert(FEATURES), INDICES)
    assert not found.sums.requires_grad
    assert found.sums.dtype == torch.float32
    assert_same(found, filled())


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


@pytest.mark.parametrize("own", [None, np.linspace(0, 2, N)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("class_weight", ["balanced", None, {1: 5.0, 3: 0.5}])
def test_class_moments_are_those_of_two_passes(own, class_weight):
    """Sums about 0 lose nothing that matters, of features far from it."""
    features = (np.random.default_rng(2).normal(size=(N, D)) + 50).astype(np.float32)
    made = make(class_counts=COUNTS, class_weight=class_weight, store_covariance=True)
    means, covariance = made.update(features, INDICES, sample_weight=own).class_moments()
    by_class = {"balanced": N / (C * COUNTS), None: np.ones(C)}.get(
        class_weight if isinstance(class_weight, str | None) else 0, np.array([1, 5, 1, 0.5])
    )
    weights = by_class[INDICES] * (np.ones(N) if own is None else own)
    expected = [np.average(features[c == INDICES], 0, weights[c == INDICES]) for c in range(C)]
    np.testing.assert_allclose(means, expected, rtol=1e-12)
    centred = features - np.array(expected)[INDICES]
    direct = (centred * weights[:, None]).T @ centred / weights.sum()
    np.testing.assert_allclose(covariance, direct, atol=1e-10)


def test_class_moments_of_shards_are_those_of_the_whole():
    settings = {"class_counts": COUNTS, "store_covariance": True}
    whole = filled(**settings)
    for parts in (shards(**settings), [make(**settings), *shards(**settings)]):
        total = sum(parts)
        assert_same(total, whole)
        for found, expected in zip(total.class_moments(), whole.class_moments(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_covariance_leaves_the_rest_alone():
    plain, more = filled(), filled(store_covariance=True)
    assert torch.equal(plain.sums, more.sums)
    assert torch.equal(plain.feature_square_sum, more.feature_square_sum)
    assert not hasattr(plain, "feature_product_sum")


def test_no_class_moments():
    with pytest.raises(ValueError, match="with store_covariance=True"):
        filled().class_moments()
    some = make(store_covariance=True)
    with pytest.raises(ValueError, match=r"No row of the classes \[0, 1, 2, 3\]"):
        some.class_moments()
    with pytest.raises(ValueError, match=r"No row of the classes \[2, 3\]"):
        some.update(FEATURES[:3], [0, 1, 1]).class_moments()


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


@pytest.mark.parametrize("store_covariance", [False, True])
def test_copies_are_whole(tmp_path, store_covariance):
    whole = with_images(class_counts=COUNTS, backbone="tiny", store_covariance=store_covariance)
    whole.save(tmp_path / "sums")
    for back in (
        RealGradients.load(tmp_path / "sums"),
        pickle.loads(pickle.dumps(whole)),
        copy.deepcopy(whole),
        whole.to("cpu"),
    ):
        assert back is not whole
        assert torch.equal(back.sums, whole.sums)
        assert_same(back, whole)
        np.testing.assert_array_equal(back.mean_images(), whole.mean_images())
        assert_same(back + whole, whole + whole)


def test_images_of_any_size_and_range():
    ramp = torch.linspace(0, 1, 5).expand(4, 3, 5, 5)  # smaller than the means
    means = make().update_mean_images(ramp, range(4)).mean_images()
    assert means.shape == (4, 3, 8, 8)
    np.testing.assert_allclose(means[0, 0, 0, [0, -1]], [0, 1])


@pytest.mark.parametrize(
    ("images", "y", "message"),
    [
        (torch.zeros(2, 3, 8, 8), [0, 9], r"include \[9\]"),
        (torch.zeros(2, 3, 8, 8), [0], r"of shape \(2, 3, 8, 8\) and 1 labels"),
        (torch.zeros(2, 8, 8, 3), [0, 1], r"\(n, 3, height, width\).*of shape \(2, 8, 8, 3\)"),
        (torch.zeros(3, 8, 8), [0, 1, 2], "must be a tensor of shape"),
        (np.zeros((2, 3, 8, 8)), [0, 1], "must be a tensor"),
        (torch.full((2, 3, 8, 8), 255.0), [0, 1], r"pixels in \[0, 1\].*divide bytes by 255"),
        (torch.full((2, 3, 8, 8), 255, dtype=torch.uint8), [0, 1], "divide bytes by 255"),
        (torch.full((2, 3, 8, 8), torch.nan), [0, 1], "pixels in"),
    ],
)
def test_bad_images_leave_the_means_unchanged(images, y, message):
    statistics = with_images()
    with pytest.raises(ValueError, match=message):
        statistics.update_mean_images(images, y)
    with pytest.raises(ValueError, match="sample_weight"):
        statistics.update_mean_images(torch.zeros(2, 3, 8, 8), [0, 1], sample_weight=[1, np.nan])
    assert_same(statistics, with_images())
