import numpy as np
import pytest

from sklgm.alignment import AlignmentMatrix, alignment_matrix
from sklgm.evaluation import TransferMatrix
from sklgm.plotting import AlignmentDisplay, TransferDisplay
from tests.evaluation.toys import NET, OTHER, X

LONG = ["vit_base_patch14_reg4_dinov2.lvd142m", "efficientnet_lite0", "a b c " * 20, "$x$", "_y"]


def names(n):
    return [f"{LONG[i % 5]}_{i}" for i in range(n)]


def symmetric(n):
    values = np.random.default_rng(0).random((n, n))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1)
    return values


def alignment(n, ax=None):
    found = AlignmentDisplay(values=symmetric(n), rows=names(n), columns=names(n), label="CKA")
    return found.plot(ax)


def transfer(n, ax=None):
    scores = np.random.default_rng(0).random((n + 1, n))
    display = TransferDisplay(
        scores=scores,
        errors=scores / 20,
        reference=scores[-1],
        rows=[*names(n), "all"],
        columns=names(n),
        at_home=np.eye(n + 1, n, dtype=bool),
    )
    return display.plot(ax)


every = pytest.mark.parametrize("make", [alignment, transfer])


def drawn_numbers(display):
    return [[text.get_text() for text in line] for line in display.texts_]


def turned_box(text, renderer):
    """Return width and height of a text's box before it is turned, and its angle in radians."""
    angle = text.get_rotation()
    text.set_rotation(0)
    width, height = text.get_window_extent(renderer).size
    text.set_rotation(angle)
    return width, height, np.deg2rad(angle)


@every
@pytest.mark.parametrize("n", [1, 3, 20])
def test_nothing_is_cut_off_or_written_over(make, n):
    display = make(n)
    figure, ax = display.figure_, display.ax_
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    numbers = [text for text in display.texts_.ravel() if text is not None]
    assert len(numbers) == display.texts_.size
    rows, columns = ax.get_yticklabels(), ax.get_xticklabels()
    for texts in (numbers, rows):
        boxes = [text.get_window_extent(renderer) for text in texts]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
    for text in [*numbers, *rows, *columns, ax.xaxis.label, ax.yaxis.label]:
        if not text.get_text():
            continue
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    step = ax.get_window_extent(renderer).width / n
    for text in columns:
        wide, high, turn = turned_box(text, renderer)
        if turn:  # lines beside each other
            assert high <= step * np.sin(turn) + 1
        else:
            assert wide <= step


@every
def test_names_stay_apart_by_their_ends(make):
    display = make(20)
    shown = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert len(set(shown)) == 20
    assert max(map(len, shown)) <= 28


@every
def test_given_axes_are_used_and_small_ones_have_no_numbers(make):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
    few, many = make(3, axes[0]), make(20, axes[1])
    assert few.ax_ is axes[0]
    assert many.figure_ is figure
    assert all(text is not None for text in few.texts_.ravel())
    assert all(text is None for text in many.texts_.ravel())
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes[1].get_yticklabels()]
    assert not any(boxes[i].overlaps(boxes[i + 1]) for i in range(19))


def test_alignment_is_drawn_as_it_is():
    display = AlignmentDisplay(values=symmetric(3), rows=names(3), columns=names(3)).plot()
    np.testing.assert_array_equal(display.image_.get_array(), display.values)
    expected = [[f"{v:.3f}" for v in line] for line in display.values]
    assert drawn_numbers(display) == expected
    assert not display.ax_.patches
    assert display.figure_.axes[-1].get_ylabel() == "alignment"


def test_home_has_a_frame_unless_the_matrix_is_symmetric():
    values = [[0.951, 0.942], [-0.0001, 0.949]]
    display = AlignmentDisplay(values=values, rows=["a", "b"], columns=["a", "c"]).plot()
    (frame,) = display.frames_
    assert frame.get_xy() == (-0.46, -0.46)
    values = [[0.951, 0.942], [0.944, 0.949]]
    display = AlignmentDisplay(values=values, rows=["a", "b"], columns=["a", "b"]).plot()
    assert drawn_numbers(display) == [["0.951", "0.942"], ["0.944", "0.949"]]
    assert len(display.frames_) == 2


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ("scores", "linear cka"),
        ("p_values", "linear cka, p values"),
        (None, "linear cka, calibrated"),
    ],
)
def test_a_matrix_of_alignments_is_drawn_as_it_is(values, label):
    settings = {"metric": "linear_cka", "n_permutations": 30, "random_state": 0}
    matrix = alignment_matrix({"A": NET, "B": OTHER}, X, **settings)
    display = AlignmentDisplay.from_matrix(matrix, values=values)
    np.testing.assert_array_equal(display.values, matrix.values(values or "calibrated"))
    assert display.figure_.axes[-1].get_ylabel() == label
    assert list(display.columns) == ["A", "B"]
    with pytest.raises(ValueError, match="values='low' is none of"):
        AlignmentDisplay.from_matrix(matrix, values="low")


def test_a_metric_of_ones_own_is_called_by_its_name():
    matrix = AlignmentMatrix("my_metric", ("a",), ("a",), np.ones((1, 1)))
    display = AlignmentDisplay.from_matrix(matrix)
    assert display.figure_.axes[-1].get_ylabel() == "my metric"


def test_transfer_is_drawn_as_it_is():
    records = [
        {"selection": row, "backbone": column, "at_home": home and row == column, "seed": seed}
        | {"selection_seed": seed, "select_seconds": 1.0, "train_seconds": 1.0, "n_images": 3}
        | {"accuracy": 0.8 if row == "all" else 0.5 + 0.1 * seed, "relative_accuracy": 0.7}
        for row, home in (("a", True), ("b", True), ("random", None), ("all", None))
        for column in "ab"
        for seed in (0, 1)
    ]
    matrix = TransferMatrix(tuple(records))
    display = TransferDisplay.from_matrix(matrix)
    assert drawn_numbers(display)[0] == ["0.55\n± 0.05"] * 2
    np.testing.assert_allclose(display.image_.get_array()[0], 0.55 / 0.8)
    np.testing.assert_array_equal(display.at_home, np.eye(4, 2, dtype=bool))
    label = display.figure_.axes[-1].get_ylabel()
    assert label == "colours: accuracy / that of all images\nnumbers: accuracy"
    assert len(display.ax_.patches) == 2
    assert TransferDisplay.from_matrix(matrix, ax=display.ax_).ax_ is display.ax_
    with pytest.raises(ValueError, match="metric='f1' is none of"):
        TransferDisplay.from_matrix(matrix, metric="f1")


SQUARE = {"scores": np.ones((2, 2)), "errors": np.ones((2, 2)), "reference": [1, 1]}


@pytest.mark.parametrize(
    "display",
    [
        AlignmentDisplay(values=np.ones((2, 3)), rows="ab", columns="ab"),
        AlignmentDisplay(values=np.ones((0, 0)), rows=[], columns=[]),
        TransferDisplay(**SQUARE, rows="abc", columns="ab"),
        TransferDisplay(**SQUARE | {"errors": np.ones(3)}, rows="ab", columns="ab"),
        TransferDisplay(**SQUARE | {"reference": np.ones(3)}, rows="ab", columns="ab"),
    ],
)
def test_bad_arrays_are_refused(display):
    with pytest.raises((ValueError, IndexError, TypeError)):
        display.plot()
