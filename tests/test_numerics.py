"""Features and weights of any size: a finite result, or an error that says what is wrong."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from torch import nn

from sklgm import (
    Backbone,
    BackboneEmbedder,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    PrototypeSet,
    RandomHeads,
    RealGradients,
)
from sklgm.matching import angular_distance, matching_loss
from tests.estimators.test_callbacks import Recorder
from tests.image_checks import fitted_names, toy_images
from tests.interrupted_fits import kept
from tests.tiny_backbones import TinyConvNet, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
rng = np.random.default_rng(0)
LABELS = np.tile([0, 1, 2], 20)
ROWS = (4 * np.eye(3, 5)[LABELS] + rng.normal(size=(60, 5))).astype(np.float32)


def distiller(backbone=None, **params):
    settings = {"max_iter": 40, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **settings | params)


def assert_finite(fitted, X):
    for name in ("prototypes_", "prototype_features_", "loss_curve_"):
        assert np.isfinite(getattr(fitted, name)).all(), name
    assert np.isfinite(np.asarray(fitted.transform(X))).all()
    PrototypeSet.from_estimator(fitted)


def assert_refused(estimator, X, y, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    assert fitted_names(estimator) <= {"n_features_in_"}


# ---------------------------------------------------------------- norms of features


@pytest.mark.parametrize("scale", [1e6, 1e18, 1e30])
def test_the_unit_of_features_does_not_matter(scale):
    """Heads that are smaller by as much see the same, also where squares overflow float32."""
    rows = ROWS * np.float32(scale)
    found = distiller(heads=RandomHeads(4, 8, 0.01 / scale)).fit(rows, LABELS)
    assert_finite(found, rows)
    # Beside such features the bias is nothing.
    assert found.loss_curve_[-1] < 0.3 * found.loss_curve_[0]
    other = distiller(heads=RandomHeads(4, 8, 1e-8)).fit(ROWS * np.float32(1e6), LABELS)
    assert_allclose(found.loss_curve_, other.loss_curve_, atol=1e-4)
    assert_allclose(found.prototypes_ / scale, other.prototypes_ / 1e6, atol=1e-2)


@pytest.mark.parametrize("scale", [1e6, 1e30])
def test_saturated_heads(scale):
    rows = ROWS * np.float32(scale)
    fitted = distiller().fit(rows, LABELS)
    assert_finite(fitted, rows)
    assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]


@pytest.mark.parametrize("scale", [1e-20, 1e-38])
def test_tiny_features(scale):
    rows = ROWS * np.float32(scale)
    fitted = distiller().fit(rows, LABELS)
    assert_finite(fitted, rows)


@pytest.mark.parametrize("scale", [1e30, 1e18, 1e-20, 1e-38])
def test_similarities_have_no_unit(scale):
    fitted = distiller(max_iter=2).fit(ROWS, LABELS)
    expected = np.asarray(fitted.transform(ROWS))
    found = np.asarray(fitted.transform(ROWS * np.float32(scale)))
    assert_allclose(found, expected, atol=1e-5)
    # A row of zeros is like nothing.
    assert_array_equal(np.asarray(fitted.transform(np.zeros((1, 5)))), np.zeros((1, 3)))


class ScaledNet(TinyConvNet):
    def __init__(self, scale, offset=0.0):
        super().__init__()
        self.scale = scale
        self.offset = offset

    def forward(self, images):
        return super().forward(images) * self.scale + self.offset


def scaled(scale, offset=0.0):
    return Backbone.from_module(ScaledNet(scale, offset), image_size=16, mean=0.5, std=0.25)


@pytest.mark.parametrize("scale", [1e-30, 1e6, 1e30])
def test_backbones_of_any_scale(scale):
    net = scaled(scale)
    assert_finite(distiller(net).fit(X, Y), X)
    # Heads that are larger or smaller by as much see what they see of the plain net.
    fitted = distiller(net, heads=RandomHeads(4, 8, 0.01 / scale), max_iter=5).fit(X, Y)
    other = distiller(scaled(scale / 1e3), heads=RandomHeads(4, 8, 10 / scale), max_iter=5).fit(
        X, Y
    )
    assert_allclose(fitted.prototypes_, other.prototypes_, atol=0.02)
    start = distiller(net, learning_rate=1e-12, max_iter=5).fit(X, Y)
    assert np.abs(fitted.prototypes_ - start.prototypes_).mean() > 0.005, "nothing was learnt"
    assert_finite(NearestImages(distiller(net, max_iter=2)).fit(X, Y).distiller_, X)


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_features_with_a_large_offset(offset):
    assert_finite(distiller(scaled(1.0, offset)).fit(X, Y), X)
    rows = ROWS + np.float32(offset)
    fitted = distiller().fit(rows, LABELS)
    assert_finite(fitted, rows)
    mean, std = distiller().compute_gradients(rows, LABELS).feature_moments()
    assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert_allclose(std, rows.std(axis=0, dtype=np.float64), rtol=1e-3)


@pytest.mark.parametrize("matching", ["global", "row"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-15, 1e15, 1e30])
def test_a_direction_has_no_length(matching, scale):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, 6, generator=generator)
    expected = angular_distance(a, b, matching)
    assert_allclose(angular_distance(a * scale, b, matching), expected, atol=1e-6)
    assert_allclose(angular_distance(a, b * scale, matching), expected, atol=1e-6)
    assert_allclose(angular_distance(a, -a * scale, matching), 2, atol=1e-6)
    zero = torch.zeros_like(a)
    assert_allclose(angular_distance(zero, b * scale, matching), 1, atol=1e-6)
    assert_allclose(angular_distance(zero, zero, matching), 1, atol=1e-6)


@pytest.mark.parametrize("matching", ["global", "row"])
@pytest.mark.parametrize("scale", [1e15, 1e25])
def test_the_derivative_falls_as_features_grow(matching, scale):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, generator=generator)
    labels = torch.arange(6) % 3
    heads = torch.zeros(2, 3, 5)
    # No bias in the targets, nor in what balanced classes give.
    targets = torch.randn(2, 3, 6, generator=generator)
    targets[..., -1] = 0
    loss, derivative = matching_loss(features * 1e6, labels, heads, targets, matching)
    found, by_features = matching_loss(features * scale, labels, heads, targets * 1e30, matching)
    assert_allclose(found, loss, rtol=1e-5)
    assert_allclose(by_features * (scale / 1e6), derivative, rtol=1e-3, atol=1e-10)


# ---------------------------------------------------------------- images that tell little


def test_all_images_are_equal():
    """Gradients of balanced classes cancel: there is nothing to find, and nothing breaks."""
    images = np.repeat(X[:1], len(X), axis=0)
    for weight in ("balanced", None):
        assert_finite(distiller(NET, class_weight=weight).fit(images, Y), images)
    rows = np.ones((18, 4))
    fitted = distiller().fit(rows, Y)
    assert_finite(fitted, rows)
    assert_allclose(fitted.prototypes_, 1)


def test_images_of_a_class_are_equal():
    images = X.copy()
    images[Y == "a"] = images[Y == "a"][0]
    for each in (1, 3):
        assert_finite(distiller(NET, prototypes_per_class=each).fit(images, Y), images)


def test_duplicates_change_nothing():
    once = distiller(NET, augmentation=None).fit(X, Y)
    twice = distiller(NET, augmentation=None).fit(np.tile(X, (2, 1, 1, 1)), np.tile(Y, 2))
    assert_allclose(twice.prototypes_, once.prototypes_, atol=1e-3)


def test_features_without_variance():
    rows = ROWS.copy()
    rows[:, 2:] = [3.0, 0.0, -1e6]
    fitted = distiller().fit(rows, LABELS)
    assert_finite(fitted, rows)
    assert_allclose(fitted.prototypes_[:, 2:], np.tile(rows[:1, 2:], (3, 1)), rtol=1e-6)


def test_one_image_a_class():
    images, labels = X[:3], np.array(["a", "b", "c"])
    assert_finite(distiller(NET).fit(images, labels), images)
    assert_finite(distiller().fit(ROWS[:3], LABELS[:3]), ROWS)
    probe = FrozenBackboneProbe(NET, distiller=distiller(NET), max_epochs=5, random_state=0)
    assert np.isfinite(probe.fit(images, labels).predict_proba(images)).all()


@pytest.mark.parametrize("weight", ["balanced", None])
def test_one_row_beside_ten_thousand(weight):
    rows = rng.normal(size=(10_001, 4)).astype(np.float32)
    rows[-1] += 5
    labels = np.r_[np.zeros(10_000, dtype=int), 1]
    fitted = distiller(class_weight=weight).fit(rows, labels)
    assert_finite(fitted, rows)
    if weight == "balanced":
        assert fitted.loss_curve_[-1] < 0.5 * fitted.loss_curve_[0]


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("weight", [0, -1, np.nan, np.inf, 1e300, 1e-300])
def test_class_weights_that_cannot_be(weight):
    estimator = distiller(class_weight={0: weight})
    assert_refused(estimator, ROWS, LABELS, r"class_weight must be positive and finite in float32")


@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_class_weights_of_any_size(weight):
    fitted = distiller(class_weight={0: weight}).fit(ROWS, LABELS)
    assert_finite(fitted, ROWS)
    # Equal ones are none, whatever their size.
    plain = distiller(class_weight=None).fit(ROWS, LABELS)
    equal = distiller(class_weight=dict.fromkeys(range(3), weight)).fit(ROWS, LABELS)
    assert_allclose(equal.loss_curve_, plain.loss_curve_, atol=1e-4)


def test_sums_that_overflow_are_named(tmp_path):
    estimator = distiller(class_weight={0: 1e38}, memory=tmp_path)
    message = r"gradients of the real data are not finite: they overflow float32\. Scale"
    assert_refused(estimator, ROWS * 1e6, LABELS, message)
    assert_refused(clone(estimator), ROWS * 1e37, LABELS, message)
    assert kept(tmp_path) == []
    gradients = RealGradients([0, 1, 2], class_counts=[20, 20, 20], head_pool_size=4)
    gradients.update(ROWS, LABELS).sums[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=message):
        distiller().fit_gradients(gradients)


def test_rows_beyond_float32_are_refused():
    message = "features hold NaN or infinity"
    with np.errstate(over="ignore"):
        assert_refused(distiller(), ROWS.astype(np.float64) * 1e39, LABELS, message)


# ---------------------------------------------------------------- half precision


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_on_the_cpu(precision):
    plain = distiller(NET).fit(X, Y)
    fitted = distiller(NET, precision=precision).fit(X, Y)
    assert_finite(fitted, X)
    assert fitted.prototypes_.dtype == np.float32
    assert np.abs(fitted.prototypes_ - plain.prototypes_).mean() < 0.02
    probe = FrozenBackboneProbe(NET, precision=precision, max_epochs=5, random_state=0)
    assert np.isfinite(probe.fit(X, Y).predict_proba(X)).all()
    assert np.isfinite(BackboneEmbedder(NET, precision=precision).fit_transform(X)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradients_of_features_of_any_precision(dtype):
    features = torch.from_numpy(ROWS).to(dtype)
    found = RealGradients([0, 1, 2], head_pool_size=4).update(features, LABELS)
    expected = RealGradients([0, 1, 2], head_pool_size=4).update(features.float(), LABELS)
    assert torch.equal(found.sums, expected.sums)


class HalfNet(TinyConvNet):
    """Returns what float16 holds, which is less than 65520."""

    def forward(self, images):
        return (super().forward(images) * 1e6).half()


def test_features_beyond_float16_are_refused():
    net = Backbone.from_module(HalfNet(), image_size=16, mean=0.5, std=0.25)
    assert_refused(distiller(net), X, Y, "features hold NaN or infinity")


# ---------------------------------------------------------------- what is not finite is not lost


class SpoiltLater(nn.Module):
    """Features that are NaN from a call with gradients on: that of one step.

    Parameters
    ----------
    step : int
        Whose features are spoilt, and those of all later ones.
    derivative : bool, default=False
        Spoil the derivative alone.
    """

    def __init__(self, step, derivative=False):
        super().__init__()
        self.net = TinyConvNet()
        self.step = step
        self.derivative = derivative
        self.n_calls = 0

    def forward(self, images):
        features = self.net(images)
        if not torch.is_grad_enabled():
            return features
        self.n_calls += 1
        if self.n_calls <= self.step:
            return features
        if self.derivative:
            features.register_hook(lambda gradient: gradient * float("nan"))
            return features
        return features * float("nan")


def spoilt(step, **params):
    net = Backbone.from_module(SpoiltLater(step, **params), image_size=16, mean=0.5, std=0.25)
    net.module.n_calls = 0  # it was tried out
    return net


def n_steps(estimator):
    """Return how many steps a fit takes, and with what it fails."""
    recorder = Recorder()
    with pytest.raises(ValueError, match="not finite") as caught:
        estimator.set_callbacks(recorder).fit(X, Y)
    assert not fitted_names(estimator)
    return recorder.ended.count("fit/synthesis/step"), str(caught.value)


@pytest.mark.parametrize("step", [0, 49, 50, 119])
def test_the_first_bad_step_is_named_and_few_follow(step):
    taken, message = n_steps(distiller(spoilt(step), max_iter=120))
    assert f"The loss is not finite at step {step}. Lower learning_rate" in message
    assert taken == min(120, 50 * (step // 50 + 1))


def test_a_bad_derivative_shows_a_step_later():
    taken, message = n_steps(distiller(spoilt(3, derivative=True), max_iter=120))
    assert "The loss is not finite at step 4. Lower" in message
    assert taken == 50


def test_a_bad_last_step_shows_in_the_prototypes():
    _, message = n_steps(distiller(spoilt(9, derivative=True), max_iter=10))
    assert "The prototypes or their features are not finite after step 9. Lower" in message


def test_a_failed_refit_keeps_the_first():
    estimator = distiller(NET).fit(X, Y)
    before = {name: getattr(estimator, name) for name in fitted_names(estimator)}
    with pytest.raises(ValueError, match="not finite"):
        estimator.set_params(backbone=spoilt(3)).fit(X, Y)
    assert all(getattr(estimator, name) is value for name, value in before.items())


class Stop(Recorder):
    """Fail at the end of a step, as a process that is killed."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.left -= context.task_name == "step"
        if self.left == 0:
            raise RuntimeError("stop here")


def test_where_the_state_is_due_a_bad_step_is_the_last(at_every_step, tmp_path):
    taken, message = n_steps(distiller(spoilt(3), memory=tmp_path))
    assert taken == 4
    assert "The loss is not finite at step 3." in message
    assert kept(tmp_path) == []


def test_a_kept_fit_does_not_go_on_from_nan(at_every_step, tmp_path):
    """Killed between a bad derivative and the loss that shows it: what is kept shows it too."""
    estimator = distiller(spoilt(3, derivative=True), memory=tmp_path, max_iter=10)
    with pytest.raises(RuntimeError, match="stop here"):
        clone(estimator).set_callbacks(Stop(5)).fit(X, Y)
    assert len(kept(tmp_path)) == 1
    estimator.backbone.module.step = 1000  # from now on it does well
    taken, message = n_steps(clone(estimator))
    assert taken == 1
    assert "The loss is not finite at step 4." in message
    assert kept(tmp_path) == []


# ---------------------------------------------------------------- the probe


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e6, 1e15])
def test_a_probe_on_features_of_any_norm(scale):
    rows = ROWS * np.float32(scale)
    probe = FrozenBackboneProbe(None, max_epochs=20, random_state=0).fit(rows, LABELS)
    for values in (probe.predict_proba(rows), probe.decision_function(rows)):
        assert np.isfinite(values).all()
    if scale > 1:
        assert probe.score(rows, LABELS) > 0.9


@pytest.mark.parametrize("scale", [1e19, 1e30, 1e37])
def test_features_too_large_for_the_default_head(scale):
    rows = ROWS * np.float32(scale)
    probe = FrozenBackboneProbe(None, max_epochs=5, random_state=0)
    assert_refused(probe, rows, LABELS, r"Features reach .*overflow float32\. Scale the features d")
    assert_refused(clone(probe).set_params(backbone=scaled(scale)), X, Y, "Features reach")
    # Another one may do with them.
    other = clone(probe).set_params(head=RidgeClassifier(alpha=0))
    assert other.fit(ROWS, LABELS).score(ROWS, LABELS) > 0.9


def test_a_head_that_does_not_stay_finite():
    probe = FrozenBackboneProbe(None, max_epochs=20, learning_rate=1e37, random_state=0)
    assert_refused(probe, ROWS, LABELS, r"weights of the head are not finite\. Lower learning_rate")
