import matplotlib as mpl
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.fixes import parse_version

from sklgm import NearestImages, PrototypeSet, RandomImages
from sklgm.plotting import PrototypesDisplay
from tests.image_checks import toy_images
from tests.tiny_backbones import tiny_backbone


def titles(display):
    return [
        text for axes in display.axes_ if (text := axes.get_title() or axes.get_title(loc="left"))
    ]


def boxes_of_titles(display):
    renderer = display.figure_.canvas.get_renderer()
    display.figure_.canvas.draw()
    for axes in display.axes_:
        for text in (axes.title, axes._left_title):
            if text.get_text():
                yield text.get_window_extent(renderer)


def rendered(display):
    display.figure_.canvas.draw()
    return np.asarray(display.figure_.canvas.buffer_rgba())[..., :3]


def make_display(n_classes, per_class=1, *, size=(6, 4), names=None, **parameters):
    labels = np.repeat(np.arange(n_classes) if names is None else names, per_class)
    pictures = np.random.default_rng(0).random((len(labels), *size, 3))
    return PrototypesDisplay(prototypes=pictures, prototype_labels=labels, **parameters)


def test_each_prototype_is_drawn_in_its_own_axes(stand_in):
    estimator = stand_in().fit(["dog", "cat", "owl"])
    display = PrototypesDisplay.from_estimator(estimator)
    assert isinstance(display, PrototypesDisplay)
    assert display.axes_.shape == (3,)
    for axes, picture, label in zip(
        display.axes_, estimator.prototypes_, estimator.prototype_labels_, strict=True
    ):
        assert axes.get_title() == label
        (image,) = axes.get_images()
        np.testing.assert_array_equal(image.get_array(), picture)
        assert image.get_interpolation() == "nearest"
    assert display.ax_.figure is display.figure_


@pytest.mark.parametrize(("n_classes", "per_class"), [(1, 1), (8, 1), (3, 4), (2, 13), (30, 2)])
def test_pixels_are_magnified_by_a_whole_number(n_classes, per_class):
    if n_classes * per_class > 1 and parse_version(mpl.__version__) < parse_version("3.11"):
        pytest.skip("matplotlib before 3.11 draws some lines of several axes beside their place")
    display = make_display(n_classes, per_class).plot()
    pixels = rendered(display)
    for axes in display.axes_:
        box = axes.get_window_extent()
        left, top = round(box.x0), round(pixels.shape[0] - box.y1)
        assert (round(box.width), round(box.height)) == (4 * 16, 6 * 16)
        shown = pixels[top : top + 6 * 16, left : left + 4 * 16]
        expected = axes.get_images()[0].get_array().repeat(16, 0).repeat(16, 1)
        np.testing.assert_allclose(shown / 255, expected, atol=1 / 255)


@pytest.mark.parametrize(
    ("n_classes", "per_class", "with_nearest"),
    [(2, 1, True), (8, 1, False), (10, 3, True), (50, 1, False), (3, 15, False)],
)
def test_nothing_overlaps(n_classes, per_class, with_nearest):
    names = [f"{'WIDE_' * (index % 4)}{index}_name" for index in range(n_classes)]
    nearest = np.zeros((n_classes * per_class, 9, 9, 3)) if with_nearest else None
    display = make_display(n_classes, per_class, size=(64, 64), names=names, nearest=nearest).plot()
    boxes = [axes.get_window_extent() for axes in display.axes_]
    if with_nearest:
        boxes += [axes.get_window_extent() for axes in display.nearest_axes_]
    boxes += boxes_of_titles(display)
    width, height = display.figure_.canvas.get_width_height()
    edges = np.array([box.extents for box in boxes])
    assert edges.min() >= 0
    assert edges[:, 2].max() <= width
    assert edges[:, 3].max() <= height
    for index, (x0, y0, x1, y1) in enumerate(edges):
        others = np.delete(edges, index, axis=0)
        apart = (
            (others[:, 2] <= x0 + 0.5)
            | (others[:, 0] >= x1 - 0.5)
            | (others[:, 3] <= y0 + 0.5)
            | (others[:, 1] >= y1 - 0.5)
        )
        assert apart.all()


def test_prototypes_of_a_class_stand_side_by_side_under_one_name():
    display = PrototypesDisplay(
        prototypes=np.zeros((5, 4, 4, 3)), prototype_labels=["b", "a", "b", "a", "b"]
    ).plot(n_columns=1)
    assert titles(display) == ["b", "a"]
    corners = np.array([axes.get_position().p0 for axes in display.axes_])
    heights = corners[:, 1]
    assert heights[0] == heights[2] == heights[4] < heights[1] == heights[3]
    assert corners[0, 0] < corners[2, 0] < corners[4, 0]


def test_real_images_stand_below_their_prototypes():
    nearest = np.random.default_rng(1).random((4, 12, 8, 3))
    display = make_display(2, 2, nearest=nearest).plot()
    for axes, below, picture in zip(display.axes_, display.nearest_axes_, nearest, strict=True):
        np.testing.assert_array_equal(below.get_images()[0].get_array(), picture)
        first, second = axes.get_window_extent(), below.get_window_extent()
        assert (first.x0, first.size.tolist()) == (second.x0, pytest.approx(second.size))
        assert first.y0 - second.y1 == pytest.approx(2)
    assert make_display(2).plot().nearest_axes_ is None


def test_the_nearest_image_is_of_the_same_class():
    images, labels = toy_images()
    estimator = RandomImages(tiny_backbone(), random_state=0).fit(images, labels)
    # What was chosen is the nearest to itself, and goes without it.
    display = PrototypesDisplay.from_estimator(estimator, images, labels)
    np.testing.assert_allclose(display.nearest, estimator.prototypes_)
    others = np.delete(np.arange(len(images)), estimator.prototype_indices_)
    display = PrototypesDisplay.from_estimator(estimator, images[others], labels[others])
    expected = NearestImages(FrozenEstimator(estimator)).fit(images[others], labels[others])
    np.testing.assert_allclose(display.nearest, expected.prototypes_)
    with pytest.raises(ValueError, match="requires y"):
        PrototypesDisplay.from_estimator(estimator, images)


@pytest.mark.parametrize(
    ("class_names", "shown"),
    [
        (None, ["0", "1", "2"]),
        (["zero", "one", "two"], ["zero", "one", "two"]),
        ({1: "one"}, ["0", "one", "2"]),
        (["$x", "$y$", "_z"], ["$x", "$y$", "_z"]),
        (["_" * 9, "_" * 8, "x"], ["____…___", "_" * 8, "x"]),
    ],
)
def test_class_names(class_names, shown):
    display = make_display(3, class_names=class_names).plot()
    assert titles(display) == shown
    display.figure_.canvas.draw()


def test_long_names_are_broken_and_shortened():
    display = make_display(
        30,
        size=(64, 64),
        names=[f"{i}_the_longest_class_name_of_all_names_there_are" for i in range(30)],
    )
    for title in titles(display.plot()):
        assert title.count("\n") == 1
        assert "…" in title


def test_it_fits_into_given_axes():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2)
    display = make_display(4, names=["a", "b", "c", "d"]).plot(axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    host = axes[1].get_window_extent()
    sizes = {picture.get_window_extent().size.round(6).tobytes() for picture in display.axes_}
    assert len(sizes) == 1
    width, height = display.axes_[0].get_window_extent().size
    assert width / height == pytest.approx(4 / 6)
    for picture in display.axes_:
        box = picture.get_window_extent()
        assert host.x0 <= box.x0
        assert box.x1 <= host.x1
        assert host.y0 <= box.y0
        assert box.y1 <= host.y1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"prototypes": np.zeros((2, 5))}, "EmbeddingDisplay"),
        ({"prototypes": np.zeros((2, 3, 4, 4, 1))}, r"got shape \(2, 3, 4, 4, 1\)"),
        ({"prototype_labels": [0, 1, 2]}, "inconsistent"),
        ({"nearest": np.zeros((3, 4, 4, 3))}, "inconsistent"),
        ({"class_names": ["only one"]}, "must be 2 names"),
    ],
)
def test_bad_arrays_are_refused(parameters, message):
    arrays = {"prototypes": np.zeros((2, 4, 4, 3)), "prototype_labels": [0, 1], **parameters}
    with pytest.raises(ValueError, match=message):
        PrototypesDisplay(**arrays).plot()


@pytest.mark.parametrize(("n_columns", "error"), [(0, ValueError), (1.5, TypeError)])
def test_bad_numbers_of_columns_are_refused(n_columns, error):
    with pytest.raises(error, match="n_columns"):
        make_display(2).plot(n_columns=n_columns)


def test_a_set_is_drawn_as_its_estimator():
    images, labels = toy_images()
    fitted = RandomImages(tiny_backbone(), random_state=0).fit(images, labels)
    given = PrototypeSet.from_estimator(fitted)
    drawn = [rendered(PrototypesDisplay.from_estimator(one)) for one in (fitted, given)]
    assert np.array_equal(*drawn)
    with pytest.raises(ValueError, match="In Python, pass backbone="):
        PrototypesDisplay.from_estimator(given, images, labels)
    display = PrototypesDisplay.from_estimator(given, images, labels, backbone=tiny_backbone())
    np.testing.assert_allclose(display.nearest, fitted.prototypes_)


def test_a_set_knows_the_net_and_the_size_it_was_made_for():
    images, labels = toy_images()
    fitted = RandomImages("efficientnet_lite0", image_size=32, random_state=0).fit(images, labels)
    given = PrototypeSet.from_estimator(fitted)
    others = np.delete(np.arange(len(images)), fitted.prototype_indices_)
    expected = PrototypesDisplay.from_estimator(fitted, images[others], labels[others])
    for backbone in (None, "efficientnet_lite0"):
        display = PrototypesDisplay.from_estimator(
            given, images[others], labels[others], backbone=backbone
        )
        np.testing.assert_allclose(display.nearest, expected.nearest)


def test_a_net_that_has_changed_since_the_fit_is_not_looked_through():
    images, labels = toy_images()
    fitted = RandomImages(tiny_backbone(), random_state=0).fit(images, labels)
    fitted.set_params(backbone=tiny_backbone(seed=1))
    with pytest.raises(ValueError, match="was fitted on other weights"):
        PrototypesDisplay.from_estimator(fitted, images, labels)


def test_estimators_without_pictures_are_refused(stand_in):
    with pytest.raises(NotFittedError):
        PrototypesDisplay.from_estimator(stand_in())
    with pytest.raises(ValueError, match="EmbeddingDisplay"):
        PrototypesDisplay.from_estimator(stand_in(rows=True).fit([0, 1]))
