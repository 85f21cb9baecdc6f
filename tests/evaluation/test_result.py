"""Tables and pictures, on records made up."""

import re
import sys

import numpy as np
import pandas as pd
import pytest

from sklgm.evaluation import PrototypeCurve, SelectionComparison, TransferMatrix

NAMES = ["random", "centroid", "nearest", "distilled", "all", "_a $strange$ one", "long " * 20]
NAMES += [f"selection {i}" for i in range(20)]
NETS = [f"efficientnet_lite_number_{i}" for i in range(20)]
RNG = np.random.default_rng(0)


def record(seed, accuracy, **keys):
    times = {"select_seconds": 2.0, "train_seconds": 0.5}
    scores = {"accuracy": accuracy, "balanced_accuracy": accuracy / 2}
    return {"seed": seed, "selection_seed": None, "n_images": 8, **scores, **times, **keys}


def comparison(n=4, n_seeds=3):
    return SelectionComparison(
        tuple(
            record(seed, 0.3 + 0.02 * i + 0.01 * seed, selection=name)
            for i, name in enumerate(NAMES[:n])
            for seed in range(n_seeds)
        )
    )


def curve(n=4, n_seeds=3):
    rows = [(name, count) for name in NAMES[:n] for count in (1, 2, 5) if name != "all"]
    return PrototypeCurve(
        tuple(
            record(seed, 0.3 + 0.1 * RNG.random(), selection=name, prototypes_per_class=count)
            for name, count in [*rows, ("all", None)]
            for seed in range(n_seeds)
        )
    )


def matrix(n=3, n_seeds=3):
    nets = NETS[:n]
    return TransferMatrix(
        tuple(
            record(seed, accuracy, selection=row, backbone=column, relative_accuracy=accuracy / 0.8)
            | {"at_home": None if row in ("random", "all") else row == column}
            for row in [*nets, "random", "all"]
            for column in nets
            for seed in range(n_seeds)
            for accuracy in [0.8 if row == "all" else 0.5 + 0.1 * (row == column) + 0.01 * seed]
        )
    )


every = pytest.mark.parametrize("make", [comparison, curve, matrix])


def lines_of(result):
    """Return the lines of its table without the padding."""
    return [" ".join(line.split()) for line in result.to_markdown().splitlines()]


def test_table_of_a_comparison():
    titles, rule, *rows = lines_of(comparison(2))
    assert titles == "| trained on | images | accuracy | balanced | fits | seconds |"
    assert re.fullmatch(r"\|:-+\|(-+:\|){5}", rule)
    assert rows == [
        "| random | 8 | 0.310 ± 0.010 | 0.155 ± 0.005 | 1 | 2.5 |",
        "| centroid | 8 | 0.330 ± 0.010 | 0.165 ± 0.005 | 1 | 2.5 |",
    ]
    assert "| 0.300 | 0.150 |" in lines_of(comparison(1, n_seeds=1))[-1]


def test_table_of_a_curve():
    lines = lines_of(curve(1))
    assert lines[0].startswith("| trained on | per class | images | accuracy |")
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["1", "2", "5", ""]


def test_all_images_have_no_fits():
    result = SelectionComparison((record(0, 0.5, selection="all", select_seconds=None),))
    assert lines_of(result)[-1] == "| all | 8 | 0.500 | 0.250 | | 0.5 |"
    assert result.summary()[0]["n_fits"] is None


def test_names_are_escaped():
    result = SelectionComparison((record(0, 0.5, selection="a|b <i>"),))
    assert "| a\\|b <i> |" in lines_of(result)[-1]
    assert "<td>a|b &lt;i&gt; " in result._repr_html_()


def test_names_that_are_numbers_stay_as_they_are():
    result = SelectionComparison((record(0, 0.5, selection="1e5"),))
    assert lines_of(result)[-1].startswith("| 1e5 |")
    assert "1e5" in repr(result).split()


@every
def test_representations(make):
    result = make()
    text = repr(result).splitlines()
    assert text[0] == type(result).__name__
    assert "(ddof=1) over 3 seeds." in text[-1]
    assert ("fits" in text[1].split()) == ("fits: how often" in text[-1])
    cells = [line.strip("|").split("|") for line in result.to_markdown().splitlines()]
    for line, row in zip(text[1:-1], [cells[0], *cells[2:]], strict=True):
        assert all(cell.strip() in line for cell in row)
    html = result._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == len(cells) - 1
    assert "one seed" in repr(make(n_seeds=1))


@every
def test_frames(make):
    result = make()
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(result.records)
    assert {"selection", "seed", "n_images", "accuracy", "train_seconds"} <= set(frame)
    summary = result.to_frame(summary=True)
    keys = [key for key in ("selection", "backbone", "prototypes_per_class") if key in frame]
    means = frame.groupby(keys, sort=False, dropna=False)["accuracy"].agg(["mean", "std"])
    np.testing.assert_allclose(summary["accuracy"], means["mean"])
    np.testing.assert_allclose(summary["accuracy_std"], means["std"], atol=1e-12)


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas"):
        comparison().to_frame()


@every
def test_results_cannot_be_changed(make):
    with pytest.raises(AttributeError):
        make().records = ()


def texts(ax):
    """Return the boxes of all that is written, by group."""
    figure = ax.figure
    figure.canvas.draw()

    def shown(axis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        return [axis.label, *(text for place, text in ticks if low <= place <= high)]

    groups = {
        "x": shown(ax.xaxis),
        "y": shown(ax.yaxis),
        "in": ax.texts,
        "legend": ax.get_legend().get_texts() if ax.get_legend() else [],
    }
    renderer = figure.canvas.get_renderer()
    return {
        name: [text.get_window_extent(renderer) for text in group if text.get_text()]
        for name, group in groups.items()
    }


@every
@pytest.mark.parametrize("n", [1, 20])
def test_nothing_is_cut_off_or_written_over(make, n):
    ax = make(n).plot().ax_
    width, height = ax.figure.canvas.get_width_height()
    for name, boxes in texts(ax).items():
        for box in boxes:
            assert box.x0 >= -1, name
            assert box.y0 >= -1, name
            assert box.x1 <= width + 1, name
            assert box.y1 <= height + 1, name
        # Slanted labels are wider as boxes than they are.
        if name != "x" or make is not matrix:
            for i, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:i]), name


def test_a_comparison_is_drawn_as_it_is():
    result = comparison(5)
    ax = result.plot(metric="balanced_accuracy").ax_
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [f"{name} (8)" for name in NAMES[:5]]
    for i, dots in enumerate(ax.collections[::2]):
        values = [r["balanced_accuracy"] for r in result.records if r["selection"] == NAMES[i]]
        np.testing.assert_allclose(dots.get_offsets()[:, 0], values)
    assert ax.get_xlabel() == "balanced accuracy on test images"
    assert ax.yaxis_inverted()


def test_a_curve_is_drawn_as_it_is():
    result = curve(5)
    ax = result.plot().ax_
    assert [text.get_text() for text in ax.get_legend().get_texts()] == NAMES[:5]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "5"]
    for name, line in zip(NAMES[:4], ax.containers, strict=True):
        means = [row["accuracy"] for row in result.summary() if row["selection"] == name]
        np.testing.assert_allclose(line.lines[0].get_ydata().astype(float), means)


def test_a_matrix_is_drawn_as_it_is():
    result = matrix(3)
    ax = result.plot(metric="relative_accuracy").ax_
    assert [text.get_text() for text in ax.get_xticklabels()] == NETS[:3]
    assert [text.get_text() for text in ax.get_yticklabels()] == [*NETS[:3], "random", "all"]
    assert len(ax.patches) == 3
    assert ax.texts[0].get_text() == "0.76\n± 0.01"
    assert ax.texts[-1].get_text().startswith("1.00")


@every
def test_into_given_axes(make):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert make().plot(ax).ax_ is ax
    with pytest.raises(ValueError, match="metric='f1' is none of"):
        make().plot(metric="f1")


def test_a_perfect_matrix():
    records = [
        record(0, 1.0, selection=row, backbone="a", relative_accuracy=1.0, at_home=home)
        for row, home in {"a": True, "all": None}.items()
    ]
    TransferMatrix(tuple(records)).plot().figure_.canvas.draw()
