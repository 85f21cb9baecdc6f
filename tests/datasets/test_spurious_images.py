import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare

from sklgm.datasets import load_openmoji, make_spurious_images
from sklgm.datasets._textures import TEXTURES, draw_texture

SAME = ("images", "target", "groups", "masks", "object_names")


def discs(n=4, size=12):
    """Make a class of opaque discs and one of rings, red and half transparent blue."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    radius = np.hypot(x, y)
    disc, ring = np.zeros((2, size, size, 4), np.uint8)
    disc[radius < size / 2] = (255, 0, 0, 255)
    ring[(radius < size / 2) & (radius > size / 4)] = (0, 0, 255, 128)
    return {"disc": [disc] * n, "ring": [Image.fromarray(ring)] * n}


GREYS = {
    "dark": np.full((2, 9, 9, 3), 40, np.uint8),
    "light": np.full((3, 20, 30), 200, np.uint8),
}


@pytest.fixture(scope="module")
def correlated():
    return make_spurious_images(n_samples=40, random_state=0)


def test_shapes_and_names(correlated):
    data = correlated
    assert data.images.shape == (40, 64, 64, 3)
    assert data.masks.shape == (40, 64, 64)
    assert (data.images.dtype, data.masks.dtype) == (np.uint8, np.float32)
    assert (data.target.dtype, data.groups.dtype) == (np.int64, np.int64)
    assert data.target_names.tolist() == ["animal", "face", "food", "vehicle"]
    assert data.group_names.tolist() == list(TEXTURES[:4])
    assert np.bincount(data.target).tolist() == [10] * 4
    X, y = make_spurious_images(n_samples=40, random_state=0, return_X_y=True)
    np.testing.assert_array_equal(X, data.images)
    np.testing.assert_array_equal(y, data.target)


def test_objects_are_openmoji_of_their_class(correlated):
    emoji = load_openmoji(size=16)
    label_of = dict(zip(emoji.filenames, emoji.target_names[emoji.target], strict=True))
    shown = [label_of[name] for name in correlated.object_names]
    assert shown == correlated.target_names[correlated.target].tolist()


def test_openmoji_is_attributed(correlated):
    for part in ("CC BY-SA 4.0", "All emojis designed by OpenMoji", "same licence"):
        assert part in correlated.DESCR


def test_masks_are_where_the_object_is():
    data = make_spurious_images(discs(), GREYS, n_samples=20, size=40, random_state=0)
    greys = np.array([40, 200])[data.groups][:, None, None, None]
    colours = np.array([[255, 0, 0], [0, 0, 255]])[data.target][:, None, None, :]
    share = data.masks[..., None]
    expected = share * colours + (1 - share) * greys
    # Over the opaque background, a pixel is its object's colour by the share of the mask.
    assert np.abs(data.images - expected).max() < 3
    for mask, label in zip(data.masks, data.target, strict=True):
        rows, columns = (np.flatnonzero(mask.max(axis=axis) > 0.05) for axis in (1, 0))
        assert 0.5 * 40 - 2 <= np.ptp(rows) + 1 <= 0.75 * 40 + 1
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
        assert mask.max() == pytest.approx([1, 128 / 255][label], abs=0.02)


def test_places_and_sizes_vary(correlated):
    y, x = np.mgrid[:64, :64]
    area = correlated.masks.sum(axis=(1, 2))
    centres = [(correlated.masks * axis).sum(axis=(1, 2)) / area for axis in (x, y)]
    assert min(np.std(axis) for axis in centres) > 3
    assert area.min() > 0
    assert np.std(area) > 50


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_probability_of_the_own_group(correlation):
    n = 1000
    data = make_spurious_images(
        discs(), GREYS | {"black": np.zeros((1, 4, 4), np.uint8)},
        n_samples=n, size=8, correlation=correlation, random_state=0,
    )  # fmt: skip
    own = data.own_groups[data.target]
    assert data.own_groups.tolist() == [0, 1]
    probability = correlation + (1 - correlation) / 3
    spread = np.sqrt(probability * (1 - probability) / n)
    assert abs((data.groups == own).mean() - probability) <= 4 * spread
    others = [(data.groups - own) % 3 == step for step in (1, 2)]
    if correlation < 1:
        assert chisquare([other.sum() for other in others]).pvalue > 1e-3


def test_at_full_correlation_there_is_no_exception(correlated):
    np.testing.assert_array_equal(correlated.groups, correlated.target)


def test_only_backgrounds_change_with_the_correlation(correlated):
    shifted = make_spurious_images(n_samples=40, random_state=0, correlation=0)
    for name in ("target", "masks", "object_names"):
        np.testing.assert_array_equal(shifted[name], correlated[name])
    same_group = shifted.groups == correlated.groups
    assert 0 < same_group.sum() < 40
    np.testing.assert_array_equal(shifted.images[same_group], correlated.images[same_group])
    inside = (correlated.masks == 1)[~same_group]
    np.testing.assert_array_equal(
        shifted.images[~same_group][inside], correlated.images[~same_group][inside]
    )
    outside = (correlated.masks == 0)[~same_group]
    change = shifted.images[~same_group][outside] != correlated.images[~same_group][outside]
    assert change.any(axis=-1).mean() > 0.9


def test_groups_at_less_correlation_leave_one_by_one():
    kept = []
    for correlation in (0.8, 0.5):
        data = make_spurious_images(
            discs(), GREYS, n_samples=60, size=8, correlation=correlation, random_state=3
        )
        kept.append(data.groups == data.own_groups[data.target])
    assert (kept[1] <= kept[0]).all()


def test_seeds():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (
        make_spurious_images(discs(), n_samples=6, size=16, random_state=seed) for seed in (0, 0, 1)
    )
    for name in SAME:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first.images != other.images).any()
    make_spurious_images(discs(), n_samples=2, size=8)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_train_and_test_share_no_object():
    shown = {
        subset: set(
            make_spurious_images(
                n_samples=600, size=8, subset=subset, random_state=seed
            ).object_names
        )
        for seed, subset in enumerate(("train", "test", "all"))
    }
    assert not shown["train"] & shown["test"]
    assert shown["all"] & shown["train"]
    assert shown["all"] & shown["test"]
    # 109, 104, 106 and 51 pictures, of which every third is for the test.
    assert len(shown["test"]) <= 36 + 34 + 35 + 17
    assert len(shown["train"]) > 2 * 0.8 * (36 + 34 + 35 + 17)


def test_groups_are_used_again_where_classes_are_more():
    objects = {name: discs()["disc"] for name in "abcde"}
    data = make_spurious_images(objects, GREYS, n_samples=10, size=8, random_state=0)
    assert data.own_groups.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(data.groups, data.target % 2)
    many = {str(i): discs()["disc"] for i in range(10)}
    data = make_spurious_images(many, n_samples=10, size=8, random_state=0)
    assert data.group_names.tolist() == list(TEXTURES)
    assert data.own_groups.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_objects_from_files(tmp_path):
    disc, ring = discs()["disc"][0], discs()["ring"][0]
    Image.fromarray(disc).save(tmp_path / "disc.png")
    ring.save(tmp_path / "ring.webp", lossless=True)
    with Image.open(tmp_path / "ring.webp") as a, Image.open(tmp_path / "disc.png") as b:
        data = make_spurious_images({0: [a], 1: [b]}, GREYS, n_samples=4, size=16, random_state=0)
    assert data.target_names.tolist() == ["0", "1"]
    assert set(data.object_names) == {"0[0]", "1[0]"}
    same = make_spurious_images(
        {"0": [ring], "1": [disc]}, GREYS, n_samples=4, size=16, random_state=0
    )
    np.testing.assert_array_equal(data.images, same.images)


def test_inputs_are_left_as_they_were():
    objects = discs()
    before = objects["disc"][0].copy()
    make_spurious_images(objects, GREYS, n_samples=4, size=16, random_state=0)
    np.testing.assert_array_equal(objects["disc"][0], before)


def nearest_mean_accuracy(X, y, X_test, y_test):
    means = np.stack([X[y == label].mean(axis=0) for label in range(y.max() + 1)])
    distances = ((X_test[:, None] - means) ** 2).sum(axis=-1)
    return (distances.argmin(axis=1) == y_test).mean()


def test_textures_are_of_different_kinds():
    # Told apart by the mean and the spread of their colours alone, on drawings not seen before.
    features = np.array([
        [
            np.concatenate([t.mean(axis=(0, 1)), t.std(axis=(0, 1))])
            for seed in range(12)
            for t in [draw_texture(kind, 32, np.random.default_rng([i, seed]))]
        ]
        for i, kind in enumerate(TEXTURES)
    ])  # fmt: skip
    labels = np.repeat(np.arange(len(TEXTURES)), 6)
    first, second = (part.reshape(len(labels), -1) for part in (features[:, :6], features[:, 6:]))
    assert nearest_mean_accuracy(first, labels, second, labels) > 0.95


@pytest.mark.parametrize("kind", TEXTURES)
def test_textures_differ_within_their_kind(kind):
    one, two = (draw_texture(kind, 32, np.random.default_rng(seed)) for seed in (0, 1))
    assert (one != two).any(axis=-1).mean() > 0.5
    assert one.shape == (32, 32, 3)


OPAQUE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"correlation": 1.2}, "'correlation' parameter"),
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"size": 4}, "'size' parameter"),
        ({"object_scale": (0.5, 1.5)}, "object_scale must be two numbers"),
        ({"object_scale": (0.5,)}, "object_scale must be two numbers"),
        ({"object_scale": (0.5, 0.6, 0.7)}, "object_scale must be two numbers"),
        ({"object_scale": 0.5}, "'object_scale' parameter"),
        ({"subset": "val"}, "'subset' parameter"),
        ({"backgrounds": "textures"}, "'backgrounds' parameter"),
        ({"backgrounds": {}}, "must each have a name"),
        ({"backgrounds": {"a": []}}, "empty X"),
        ({"objects": {}}, "must each have a name"),
        ({"objects": {"a": discs()["disc"], "b": []}}, "'b' has no picture"),
        ({"objects": [1, 2]}, "'objects' parameter"),
        ({"objects": {"a": [OPAQUE]}}, r"a\[0\] has no transparency"),
        ({"objects": {"a": [Image.new("RGBA", (4, 4))]}}, "no transparency, or nothing else"),
        ({"objects": {"a": ["nowhere.png"]}}, r"a\[0\] has no transparency.*got 'nowhere\.png'"),
        ({"objects": discs(2), "subset": "test"}, "'disc' has no picture in subset='test'"),
    ],
)
def test_errors(params, message):
    with pytest.raises(ValueError, match=message):
        make_spurious_images(**{"objects": discs(), "n_samples": 2, **params})
