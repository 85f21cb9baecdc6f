import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sklgm import LGMDistiller, Pyramid, RandomImages
from sklgm.plotting import ConvergenceDisplay
from tests.evaluation.toys import NET, X, Y, distiller


def loss(n=100, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(-np.arange(n) / 30) + 0.1 * rng.random(n) + 0.01


def legend(display):
    box = display.ax_.get_legend()
    return [] if box is None else [text.get_text() for text in box.get_texts()]


@pytest.mark.parametrize("window", [1, 4, 5, 99, 100])
def test_smooth_points_are_means_over_windows(window):
    curve = loss()
    display = ConvergenceDisplay(loss=curve).plot(window=window)
    np.testing.assert_array_equal(display.raw_.get_ydata(), curve)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 101))
    expected = [
        curve[max(0, i - window // 2) : i + (window - 1) // 2 + 1].mean() for i in range(100)
    ]
    np.testing.assert_allclose(display.line_.get_ydata(), expected)


def test_a_fitted_distiller_tells_when_its_pyramid_grew():
    seen = []

    class Spy(Pyramid):
        def start(self, *args, **kwargs):
            images = super().start(*args, **kwargs)
            grow = images.grow

            def growing(step):
                grown = grow(step)
                if grown:
                    seen.append(step)
                return grown

            images.grow = growing
            return images

    estimator = distiller(max_iter=20, parametrization=Spy(grow_every=3)).fit(X, Y)
    display = ConvergenceDisplay.from_estimator(estimator, label="tiny")
    assert seen
    assert list(display.level_starts) == seen
    np.testing.assert_array_equal(display.marks_.get_xdata(), np.add(seen, 1))
    np.testing.assert_array_equal(display.raw_.get_ydata(), estimator.loss_curve_)
    assert legend(display) == ["tiny", "finer level"]
    assert display.ax_.get_yscale() == "log"


def test_levels_after_the_last_step_have_no_mark():
    estimator = distiller(max_iter=4, parametrization=Pyramid(grow_every=3)).fit(X, Y)
    assert list(ConvergenceDisplay.from_estimator(estimator).level_starts) == [3]
    plain = distiller(parametrization="pixels").fit(X, Y)
    assert ConvergenceDisplay.from_estimator(plain).marks_ is None


def test_marks_are_those_of_the_fit():
    """Parameters that were set since do not move them."""
    estimator = distiller(max_iter=7, parametrization=Pyramid(grow_every=3)).fit(X, Y)
    estimator.set_params(max_iter=100, parametrization=Pyramid(grow_every=1))
    assert list(ConvergenceDisplay.from_estimator(estimator).level_starts) == [3, 6]


def test_rows_have_a_curve_without_levels():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    estimator = LGMDistiller(None, max_iter=5).fit(rows, np.arange(20) % 2)
    display = ConvergenceDisplay.from_estimator(estimator)
    assert display.marks_ is None
    assert legend(display) == []


def test_several_are_told_apart_on_the_same_axes():
    first = ConvergenceDisplay(loss=loss(), level_starts=[3, 6], label="one").plot()
    ax = first.ax_
    others = [ConvergenceDisplay(loss=loss(80), label=f"net {i}").plot(ax) for i in range(9)]
    unnamed = ConvergenceDisplay(loss=loss(50)).plot(ax)
    looks = {
        (display.line_.get_color(), display.line_.get_linestyle())
        for display in (first, *others, unnamed)
    }
    assert len(looks) == 11
    assert legend(first) == ["one", "finer level", *(f"net {i}" for i in range(9))]
    assert unnamed.ax_ is ax
    ax.figure.canvas.draw()


def test_a_loss_of_zero_can_be_drawn():
    display = ConvergenceDisplay(loss=[1.0, 0.0]).plot(window=7)
    assert display.ax_.get_yscale() == "linear"
    ConvergenceDisplay(loss=[0.5]).plot().figure_.canvas.draw()


def test_only_a_fitted_distiller_is_drawn():
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimator(LGMDistiller(NET))
    with pytest.raises(AttributeError, match="loss_curve_"):
        ConvergenceDisplay.from_estimator(RandomImages(NET).fit(X, Y))
    with pytest.raises(TypeError):
        ConvergenceDisplay.from_estimator("clip")


@pytest.mark.parametrize(
    "arrays", [{"loss": []}, {"loss": [[1.0]]}, {"loss": [1.0], "level_starts": [1]}]
)
def test_bad_arrays_are_refused(arrays):
    with pytest.raises((ValueError, IndexError)):
        ConvergenceDisplay(**arrays).plot()
