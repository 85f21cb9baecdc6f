import numpy as np
import pytest

from sklgm import RandomImages
from sklgm.bias import diagnose_bias
from sklgm.plotting import BiasDisplay
from tests.bias.toys import BORDER, REFERENCE, TRAIN

ARRAYS = {
    "group_probabilities": [[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.0, 0.4, 0.6]],
    "own_class_probability": [0.5, 0.25, 1.0],
    "prototype_labels": ["cow", "camel", "cow"],
    "own_groups": ["grass", "sand", "grass"],
    "groups": ["grass", "ice", "sand"],
}
SQUARES = np.random.default_rng(0).random((3, 8, 8, 3))


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def many(n=60, n_groups=5):
    rng = np.random.default_rng(0)
    return BiasDisplay(
        group_probabilities=rng.dirichlet(np.ones(n_groups), n),
        own_class_probability=rng.random(n),
        prototype_labels=np.arange(n) // 2,
        own_groups=np.arange(n) % n_groups,
        groups=np.arange(n_groups),
        prototypes=rng.random((n, 8, 8, 3)),
    )


def test_colours_and_frames_are_where_the_arrays_say():
    display = BiasDisplay(**ARRAYS, group_reliance=0.421).plot()
    expected = np.column_stack([ARRAYS["group_probabilities"], ARRAYS["own_class_probability"]])
    np.testing.assert_allclose(display.image_.get_array(), expected)
    assert display.image_.get_clim() == (0, 1)
    centres = [frame.get_center() for frame in display.frames_]
    np.testing.assert_allclose(centres, [(0, 0), (2, 1), (0, 2)])
    assert labels(display.ax_.xaxis) == ["grass", "ice", "sand", "own class"]
    assert labels(display.ax_.yaxis) == ["cow", "camel", "cow"]
    assert display.ax_.get_title().startswith("group reliance 0.42\n")
    written = {text.get_position(): text.get_text() for text in display.ax_.texts}
    assert written[0, 0] == "0.90"
    assert written[3, 2] == "1.00"


def test_pictures_stand_square_beside_their_rows():
    display = BiasDisplay(**ARRAYS, prototypes=SQUARES).plot()
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    assert high == 3.5
    assert len(display.ax_.artists) == 3
    for i, beside in enumerate(display.ax_.artists):
        np.testing.assert_array_equal(beside.offsetbox.get_data(), SQUARES[i])
        box = beside.get_window_extent()
        assert box.width == pytest.approx(box.height)
        ends = display.ax_.transData.inverted().transform(box)
        assert low <= ends[0, 0] < ends[1, 0] < -0.5
        assert ends[:, 1].mean() == pytest.approx(i, abs=0.02)


def test_of_many_prototypes_those_that_show_their_group_most_are_drawn():
    display = many(250)
    shown = np.asarray(display.group_probabilities)[np.arange(250), display.own_groups]
    rows = np.flatnonzero(shown >= np.sort(shown)[-100])
    display.plot()
    of_groups = np.asarray(display.group_probabilities)[rows]
    np.testing.assert_array_equal(display.image_.get_array()[:, :-1], of_groups)
    assert labels(display.ax_.yaxis) == [str(row // 2) for row in rows]
    centres = [frame.get_center()[0] for frame in display.frames_]
    np.testing.assert_allclose(centres, rows % 5)
    np.testing.assert_array_equal(
        display.ax_.artists[-1].offsetbox.get_data(), display.prototypes[rows[-1]]
    )
    assert "100 of 250 prototypes" in display.ax_.get_title()


def long_names():
    classes = [f"a class with a long name {i}" for i in range(10)]
    shown = many(10, 3)
    shown.prototype_labels = classes
    return shown


@pytest.mark.parametrize(
    "make", [lambda: BiasDisplay(**ARRAYS, prototypes=SQUARES), many, long_names]
)
def test_everything_is_inside_the_figure(make):
    display = make().plot()
    display.figure_.canvas.draw()
    width, height = display.figure_.canvas.get_width_height()
    for axes in display.figure_.axes:
        box = axes.get_tightbbox()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1


def test_many_rows_have_colours_alone():
    assert len(many().plot().ax_.texts) == 0


@pytest.mark.parametrize(
    ("class_names", "group_names", "rows", "columns"),
    [
        ({"cow": "Kuh"}, None, ["Kuh", "camel", "Kuh"], ["grass", "ice", "sand"]),
        (["$a", "_b"], ["1", "2", "3"], ["_b", "$a", "_b"], ["1", "2", "3"]),
    ],
)
def test_names(class_names, group_names, rows, columns):
    display = BiasDisplay(**ARRAYS, class_names=class_names, group_names=group_names).plot()
    assert labels(display.ax_.yaxis) == rows
    assert labels(display.ax_.xaxis)[:3] == columns
    display.figure_.canvas.draw()


def test_given_axes_are_used():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = BiasDisplay(**ARRAYS)
    assert display.plot(ax) is display
    assert display.ax_ is ax
    assert display.figure_ is ax.figure


@pytest.mark.filterwarnings("ignore:Readings of prototypes")  # the net does not see the class
def test_from_report():
    chosen = RandomImages(BORDER, random_state=0).fit(*TRAIN[:2])
    report = diagnose_bias(chosen, *TRAIN, reference=REFERENCE)
    display = BiasDisplay.from_report(report)
    np.testing.assert_allclose(display.image_.get_array()[:, :-1], report.group_probabilities)
    own_class = [record["class_probability"] for record in report.records]
    np.testing.assert_allclose(display.image_.get_array()[:, -1], own_class)
    assert f"{report.group_reliance:.2f}" in display.ax_.get_title()
    assert len(display.ax_.artists) == 3


def test_rows_of_features_have_no_pictures():
    y = np.tile([0, 1], 20)
    g = np.repeat([0, 1], 20)
    rows = np.stack([y, g], axis=1) + np.random.default_rng(0).normal(size=(40, 2))
    chosen = RandomImages(backbone=None, random_state=0)
    report = diagnose_bias(chosen, rows, y, g, reference=(rows, y, g))
    assert not BiasDisplay.from_report(report).ax_.artists


@pytest.mark.parametrize(
    "params",
    [
        {"groups": ["grass", "sand"]},
        {"own_class_probability": [0.5, 0.25]},
        {"prototypes": np.zeros((3, 5))},
        {"prototypes": SQUARES[:2]},
    ],
)
def test_bad_arrays_are_refused(params):
    with pytest.raises((ValueError, TypeError)):
        BiasDisplay(**{**ARRAYS, **params}).plot()
