import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from sklgm import BackboneEmbedder, FrozenBackboneProbe, RandomImages
from sklgm.plotting import EmbeddingDisplay


def real_images(n, n_classes=3, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((n, 6, 4, 3), dtype=np.float32), rng.permutation(np.arange(n) % n_classes)


def offsets(collections):
    return np.concatenate([np.asarray(collection.get_offsets()) for collection in collections])


def make_display(n_classes, per_class=4, **parameters):
    rng = np.random.default_rng(0)
    return EmbeddingDisplay(
        embedding=rng.normal(size=(n_classes * per_class, 2)),
        labels=np.repeat(np.arange(n_classes), per_class),
        prototype_embedding=rng.normal(size=(n_classes, 2)),
        prototype_labels=np.arange(n_classes),
        **parameters,
    )


def test_points_are_the_principal_components_of_real_features(stand_in):
    estimator = stand_in().fit([0, 1, 2, 2])
    X, y = real_images(30)
    display = EmbeddingDisplay.from_estimator(estimator, X, y)

    real = estimator._embed(X).astype(np.float64)
    stars = estimator.prototype_features_.astype(np.float64)
    _, values, axes = np.linalg.svd(real - real.mean(axis=0), full_matrices=False)
    for axis in range(2):
        drawn = np.concatenate([display.embedding[:, axis], display.prototype_embedding[:, axis]])
        expected = (np.concatenate([real, stars]) - real.mean(axis=0)) @ axes[axis]
        sign = np.sign(drawn @ expected)
        np.testing.assert_allclose(drawn, sign * expected, atol=1e-5)
    np.testing.assert_allclose(
        display.explained_variance_ratio, (values**2 / np.sum(values**2))[:2], rtol=1e-4
    )


def test_dots_and_stars_are_drawn_where_the_arrays_say(stand_in):
    estimator = stand_in().fit(["a", "b", "c", "c"])
    X, y = real_images(30)
    y = np.array(["a", "b", "c"])[y]
    display = EmbeddingDisplay.from_estimator(estimator, X, y)
    assert len(display.dots_) == len(display.stars_) == 3
    assert len(offsets(display.dots_)) == 30
    assert len(offsets(display.stars_)) == 4
    for index, label in enumerate("abc"):
        np.testing.assert_allclose(
            display.dots_[index].get_offsets(), display.embedding[y == label]
        )
        np.testing.assert_allclose(
            display.stars_[index].get_offsets(),
            display.prototype_embedding[estimator.prototype_labels_ == label],
        )
        np.testing.assert_allclose(
            display.dots_[index].get_facecolor()[0, :3],
            display.stars_[index].get_facecolor()[0, :3],
        )
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["a", "b", "c"]
    assert f"{display.explained_variance_ratio[1]:.0%}" in display.ax_.get_ylabel()


def test_rows_are_drawn_too(stand_in):
    estimator = stand_in(rows=True).fit([0, 1])
    X = np.random.default_rng(0).normal(size=(20, 5))
    display = EmbeddingDisplay.from_estimator(estimator, X, [0, 1] * 10)
    assert len(offsets(display.stars_)) == 2


@pytest.mark.parametrize("n_classes", [1, 2, 8, 10, 24])
def test_classes_that_can_be_named_look_different(n_classes):
    display = make_display(n_classes).plot()
    looks = {
        (tuple(stars.get_facecolor()[0]), len(stars.get_paths()[0].vertices))
        for stars in display.stars_
    }
    assert len(looks) == n_classes
    assert len(display.ax_.get_legend().get_texts()) == n_classes


def test_a_hundred_classes_get_a_colour_bar_instead_of_a_legend():
    display = make_display(100).plot()
    assert display.ax_.get_legend() is None
    assert len(display.stars_[0].get_offsets()) == 100
    _, bar = display.figure_.axes
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert labels == ["0", "20", "40", "59", "79", "99"]


def test_classes_without_real_images_or_prototypes_can_be_drawn():
    display = EmbeddingDisplay(
        embedding=np.eye(2),
        labels=["a", "b"],
        prototype_embedding=[[0, 0]],
        prototype_labels=["c"],
    ).plot()
    assert [len(dots.get_offsets()) for dots in display.dots_] == [1, 1, 0]
    display.figure_.canvas.draw()


def test_any_class_name_is_shown_as_it_is():
    names = ["_hidden", "$x^2$", "$"]
    display = make_display(3, class_names=names).plot()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == names
    display.figure_.canvas.draw()


def test_legend_stays_inside_the_figure():
    display = make_display(24, class_names=[f"a rather long name {i}" for i in range(24)]).plot()
    display.figure_.canvas.draw()
    box = display.ax_.get_legend().get_window_extent()
    width, height = display.figure_.canvas.get_width_height()
    assert box.x0 >= display.ax_.get_window_extent().x1
    assert box.x1 <= width
    assert box.y0 >= 0
    assert box.y1 <= height


def test_given_axes_are_used():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = make_display(2)
    assert display.plot(ax) is display
    assert display.ax_ is ax


@pytest.mark.parametrize("as_list", [False, True])
def test_a_sample_keeps_class_proportions_and_rows_together(stand_in, as_list):
    estimator = stand_in(rows=True).fit([0, 1])
    y = np.repeat([0, 1], [90, 10])
    X = np.random.default_rng(0).normal(size=(100, 5)) + 20 * y[:, None] * [1, -1, 0, 0, 0]
    if as_list:
        X = list(X)
    display = EmbeddingDisplay.from_estimator(estimator, X, y, max_samples=20, random_state=0)
    assert np.bincount(display.labels).tolist() == [18, 2]
    centre = display.embedding[display.labels == 1].mean(axis=0)
    other = display.embedding[display.labels == 0]
    assert np.linalg.norm(other - centre, axis=1).min() > 0.2
    again = EmbeddingDisplay.from_estimator(estimator, X, y, max_samples=20, random_state=0)
    np.testing.assert_array_equal(display.embedding, again.embedding)


def test_an_unseeded_sample_leaves_the_global_generator_alone(stand_in):
    estimator = stand_in().fit([0, 1, 2])
    X, y = real_images(30)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    EmbeddingDisplay.from_estimator(estimator, X, y, max_samples=10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    "other",
    [
        LogisticRegression(),
        BackboneEmbedder(backbone=None),
        FrozenBackboneProbe(
            backbone=None, distiller=RandomImages(backbone=None), head=LogisticRegression()
        ),
    ],
)
def test_estimators_without_prototypes_are_refused(other):
    X, y = real_images(30)
    rows = X.reshape(30, -1)
    other.fit(rows, y)
    with pytest.raises(ValueError, match=f"{type(other).__name__} has no prototypes_"):
        EmbeddingDisplay.from_estimator(other, rows, y)
    if hasattr(other, "distiller_"):
        EmbeddingDisplay.from_estimator(other.distiller_, rows, y)


def test_bad_input_is_refused(stand_in):
    X, y = real_images(30)
    with pytest.raises(NotFittedError):
        EmbeddingDisplay.from_estimator(stand_in(), X, y)
    estimator = stand_in().fit([0, 1, 2])
    with pytest.raises(ValueError, match="inconsistent"):
        EmbeddingDisplay.from_estimator(estimator, X, y[:-1])
    for max_samples in (1, 0, -3, 2.5):
        with pytest.raises(ValueError, match=r"n_samples|n_components"):
            EmbeddingDisplay.from_estimator(estimator, X, y, max_samples=max_samples)


@pytest.mark.parametrize(
    "parameters",
    [
        {"embedding": np.zeros((4, 3))},
        {"labels": [0, 1]},
        {"prototype_embedding": np.zeros(2)},
        {"prototype_labels": [0]},
        {"class_names": ["one"]},
    ],
)
def test_bad_arrays_are_refused(parameters):
    arrays = {
        "embedding": np.zeros((4, 2)),
        "labels": [0, 0, 1, 1],
        "prototype_embedding": np.zeros((2, 2)),
        "prototype_labels": [0, 1],
        **parameters,
    }
    with pytest.raises((ValueError, TypeError, IndexError)):
        EmbeddingDisplay(**arrays).plot()
