import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skorch import NeuralNetClassifier

from sklgm import (
    Backbone,
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    PrototypeSet,
    RandomHeads,
    RandomImages,
    StandardAugmentation,
)
from tests.image_checks import toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
X_TEST, Y_TEST = toy_images(n_per_class=20, seed=5)
BINARY = Y != "a"


def probe(backbone=NET, **params):
    settings = {"n_views": 5, "max_epochs": 60, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


def distiller(backbone=NET, **params):
    settings = {"max_iter": 10, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(backbone, **(settings | params))


def test_it_learns():
    assert probe().fit(X, Y).score(X_TEST, Y_TEST) > 0.95


def test_it_learns_from_distilled_prototypes_alone():
    fitted = probe(
        distiller=distiller(max_iter=150, n_views=4, heads=RandomHeads(pool_size=32))
    ).fit(X, Y)
    assert fitted.score(X_TEST, Y_TEST) > 0.75  # chance: a third


def test_the_default_head_is_softmax_regression():
    # Without augmentation and with enough steps, both find the optimum of nearly the same loss.
    estimator = probe(augmentation=None, max_epochs=3000, learning_rate=0.3).fit(X, Y)
    features = BackboneEmbedder(NET).fit_transform(X)
    peer = LogisticRegression(C=1e3, max_iter=5000).fit(features, Y)
    test = BackboneEmbedder(NET).fit_transform(X_TEST)
    assert (estimator.predict(X_TEST) == peer.predict(test)).mean() > 0.9


@pytest.mark.parametrize("labels", [Y, BINARY], ids=["multiclass", "binary"])
@pytest.mark.parametrize("head", [None, LogisticRegression()], ids=["default", "logistic"])
def test_outputs_agree(labels, head):
    fitted = probe(head=head).fit(X, labels)
    n_classes = len(fitted.classes_)
    probabilities = fitted.predict_proba(X_TEST)
    scores = fitted.decision_function(X_TEST)
    predicted = fitted.predict(X_TEST)
    assert probabilities.shape == (len(X_TEST), n_classes)
    assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert_array_equal(fitted.classes_[probabilities.argmax(axis=1)], predicted)
    if n_classes == 2:
        assert scores.shape == (len(X_TEST),)
        assert_array_equal(fitted.classes_[(scores > 0).astype(int)], predicted)
        assert_allclose(1 / (1 + np.exp(-scores)), probabilities[:, 1], atol=1e-5)
    else:
        assert scores.shape == (len(X_TEST), n_classes)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, atol=1e-5)
    assert fitted.score(X_TEST, predicted) == 1
    features, linear = BackboneEmbedder(NET).fit_transform(X_TEST), fitted.head_
    assert linear.coef_.shape == (scores.size // len(scores), features.shape[1])
    products = features @ linear.coef_.T + linear.intercept_
    assert_allclose(products.squeeze(), scores, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "methods"),
    [
        (None, {"predict_proba", "decision_function"}),
        (LogisticRegression(), {"predict_proba", "decision_function"}),
        (KNeighborsClassifier(3), {"predict_proba"}),
        (LinearSVC(), {"decision_function"}),
        (RidgeClassifier(), {"decision_function"}),
        (DummyClassifier(), {"predict_proba"}),
        (make_pipeline(StandardScaler(), RidgeClassifier()), {"decision_function"}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("maker", [None, RandomImages(NET, random_state=0)], ids=["all", "random"])
def test_heads(head, methods, maker):
    estimator = probe(head=head, distiller=maker)
    for fitted in (estimator, estimator.fit(X, Y)):
        for method in ("predict_proba", "decision_function"):
            assert hasattr(fitted, method) == (method in methods), (method, fitted)
    assert set(estimator.predict(X_TEST)) <= set("abc")
    if not isinstance(head, DummyClassifier):
        assert estimator.score(X_TEST, Y_TEST) > 0.5
    if head is not None:
        assert type(estimator.head_) is type(head)
        assert estimator.head_ is not head
        assert not hasattr(head, "classes_")


def test_heads_train_on_every_view():
    fitted = probe(head=KNeighborsClassifier(), n_views=7).fit(X, Y)
    assert fitted.head_.n_samples_fit_ == 7 * len(X)
    assert (
        probe(head=KNeighborsClassifier(), augmentation=None).fit(X, Y).head_.n_samples_fit_ == 18
    )


def test_without_augmentation_a_head_sees_centre_crops():
    # On square images of the canvas' size this is what the embedder sees too.
    images, labels = toy_images(size=18)
    fitted = probe(head=KNeighborsClassifier(1), augmentation=None).fit(images, labels)
    expected = BackboneEmbedder(NET).fit_transform(images)
    assert_allclose(fitted.head_._fit_X, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_images", "n_views"), [(18, 100), (100, 20), (600, 4)])
def test_automatic_number_of_views(n_images, n_views):
    net = counting_backbone(image_size=4)
    images = np.resize(X[:, :5, :5], (n_images, 5, 5, 3))
    probe(net, n_views="auto", max_epochs=1).fit(images, np.arange(n_images) % 2)
    assert net.module.n_images == n_views * n_images


@pytest.mark.parametrize(
    "maker",
    [
        distiller(),
        RandomImages(NET, random_state=0),
        ClassCentroids(NET),
        NearestImages(distiller()),
    ],
)
def test_with_a_distiller_it_trains_on_prototypes_alone(maker):
    net = counting_backbone()
    fitted = probe(net, distiller=maker).fit(X, Y)
    assert net.module.n_images == 5 * 3  # views of three prototypes, and no real image
    prototypes = clone(maker).fit(X, Y)
    assert_array_equal(fitted.distiller_.prototypes_, prototypes.prototypes_)
    assert_array_equal(fitted.classes_, prototypes.classes_)
    assert not hasattr(maker, "prototypes_")


def test_predicting_embeds_each_image_once():
    net = counting_backbone()
    fitted = probe(net).fit(X, Y)
    for method in ("predict", "predict_proba", "decision_function"):
        net.module.reset()
        getattr(fitted, method)(X_TEST)
        assert net.module.n_images == len(X_TEST)


def test_training_on_given_prototypes_is_training_on_images():
    # Prototypes that survive 8 bits are the same as images or as a distiller's work.
    fitted = probe(distiller=RandomImages(NET, random_state=0)).fit(X, Y)
    images = np.rint(fitted.distiller_.prototypes_ * 255).astype(np.uint8)
    direct = probe().fit(images, fitted.distiller_.prototype_labels_)
    assert_allclose(
        direct.decision_function(X_TEST), fitted.decision_function(X_TEST), rtol=1e-4, atol=1e-4
    )


def test_a_frozen_distiller_is_not_fitted_again():
    maker = distiller().fit(X, Y)
    fitted = probe(distiller=FrozenEstimator(maker)).fit(X_TEST, Y_TEST)
    assert fitted.distiller_.prototypes_ is maker.prototypes_


def test_prototypes_of_another_net_and_size():
    for size in (8, 30):
        other = tiny_backbone(image_size=size, seed=3)
        fitted = probe(distiller=distiller(other)).fit(X, Y)
        side = fitted.distiller_.prototypes_.shape[1]
        assert side == other.canvas_size
        assert set(fitted.predict(X_TEST)) <= set("abc")


def test_a_distiller_for_another_size_is_warned_of_before_it_is_fitted():
    name = "efficientnet_lite0"
    distils = LGMDistiller(name, image_size=64, max_iter=1)
    with (
        pytest.warns(UserWarning, match="sees 64 pixels, and this probe sees 32") as found,
        pytest.raises(ValueError, match="labels in y"),
    ):
        FrozenBackboneProbe(name, image_size=32, distiller=distils).fit(X, Y[:2])
    assert found[0].filename == __file__


def test_an_error_of_the_distiller_says_whose_it_is():
    rows = np.random.default_rng(0).random((9, 4))
    with pytest.raises(ValueError, match=r"shape \(4,\)") as found:
        FrozenBackboneProbe(None, distiller=LGMDistiller()).fit(rows, np.arange(9) % 3)
    (note,) = found.value.__notes__
    assert "LGMDistiller(backbone='clip'), the distiller of FrozenBackboneProbe" in note


def test_prototypes_of_a_smaller_image_size_are_warned_of():
    """In a pipeline, from a distiller, and in a set; not where the sizes are alike."""
    large = tiny_backbone(64)
    small = distiller(tiny_backbone(16)).fit(X, Y)
    given = PrototypeSet.from_estimator(small)
    message = "18 x 18 pixels are enlarged for a net that sees 64. .* image_size.* here, "
    for fit, size in (
        (lambda: make_pipeline(FrozenEstimator(small), probe(large)).fit(X, Y), "about 16"),
        (lambda: probe(large, distiller=FrozenEstimator(small)).fit(X, Y), "16"),
        (lambda: probe(large).fit(given), "16"),
    ):
        with pytest.warns(UserWarning, match=rf"{message}{size}\.") as found:
            fit()
    assert found[0].filename == __file__
    probe(tiny_backbone(28)).fit(given)  # a warning is an error here


def test_prototypes_of_another_image_size_of_the_same_net_are_warned_of():
    """A net of the same name at another size; not another net, which need not see the same."""
    size = {"backbone": "efficientnet_lite0", "image_size": 32}
    chosen = RandomImages(**size, random_state=0).fit(X, Y)
    given = PrototypeSet.from_estimator(chosen)
    quick = {"max_epochs": 1, "n_views": 1, "random_state": 0}
    looking = FrozenBackboneProbe("efficientnet_lite0", image_size=48, **quick)
    with pytest.warns(UserWarning, match="made with image_size=32, and this probe sees 48"):
        looking.fit(given)
    with pytest.warns(UserWarning, match="made with image_size=32, and this probe sees 48"):
        make_pipeline(FrozenEstimator(chosen), looking).fit(X, Y)
    distilled = LGMDistiller(**size, max_iter=1, n_views=1, heads=RandomHeads(2, 2)).fit(X, Y)
    with pytest.warns(UserWarning, match="sees 32 pixels, and this probe sees 48"):
        clone(looking).set_params(distiller=FrozenEstimator(distilled)).fit(X, Y)
    # A warning is an error here.
    FrozenBackboneProbe(NET, **quick).fit(given)
    joint = [Backbone.from_name("efficientnet_lite0", image_size=32), tiny_backbone(64)]
    few = {"max_iter": 1, "n_views": 1, "heads": RandomHeads(2, 2)}
    make_pipeline(LGMDistiller(joint, **few), FrozenBackboneProbe(joint[0], **quick)).fit(X, Y)
    other_crop = RandomImages("efficientnet_lite0?crop_pct=1", image_size=32).fit(X, Y)
    with pytest.warns(UserWarning, match="made with crop_pct 1") as found:
        looking.set_params(image_size=32).fit(PrototypeSet.from_estimator(other_crop))
    assert len(found) == 1


def test_an_interrupted_training_does_not_pass_for_a_whole_one(monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklgm.estimators.head._BankBatches.__iter__", interrupted)
    estimator = probe()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "head_")


def test_a_refit_without_distiller_forgets_it():
    estimator = probe(distiller=RandomImages(NET, random_state=0)).fit(X, Y)
    estimator.set_params(distiller=None).fit(X, Y)
    assert not hasattr(estimator, "distiller_")


def test_seeds():
    first, second = probe().fit(X, Y), probe().fit(X, Y)
    assert_array_equal(first.decision_function(X), second.decision_function(X))
    other = probe(random_state=1).fit(X, Y)
    assert np.abs(first.decision_function(X) - other.decision_function(X)).max() > 1e-3


def test_standard_views_are_neither_blurred_nor_noisy():
    standard = probe().fit(X, Y).decision_function(X_TEST)
    plain = StandardAugmentation(blur=0, noise=0)
    assert_array_equal(probe(augmentation=plain).fit(X, Y).decision_function(X_TEST), standard)


def test_augmentation_matters():
    plain = probe().fit(X, Y).decision_function(X_TEST)
    for augmentation in (None, StandardAugmentation(scale=(0.5, 1), noise=0.5)):
        other = probe(augmentation=augmentation).fit(X, Y).decision_function(X_TEST)
        assert np.abs(plain - other).max() > 1e-3


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (probe(distiller=distiller(None)), "dim 4"),
        (probe(None, distiller=distiller()), "dim 4"),
        (
            probe(distiller=FrozenEstimator(distiller(None).fit(X[:, :, 0, 0], Y))),
            "Prototypes are rows",
        ),
    ],
)
def test_rows_and_images_do_not_mix(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "head_")


def test_memory_saves_the_net_a_second_pass(tmp_path):
    net = counting_backbone()
    first = probe(net, memory=tmp_path).fit(X, Y)
    expected = first.decision_function(X_TEST)
    net.module.reset()
    again = probe(net, memory=str(tmp_path), max_epochs=60).fit(X, Y)
    assert_array_equal(again.decision_function(X_TEST), expected)
    assert net.module.n_images == 0
    probe(net, memory=tmp_path, random_state=None).fit(X, Y)
    assert net.module.n_images == 5 * len(X)
    net.module.reset()
    for changed in ({"n_views": 4}, {"augmentation": None}, {"random_state": 1}):
        net.module.reset()
        probe(net, memory=tmp_path, **changed).fit(X, Y)
        assert net.module.n_images > 0, changed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "dino2"}, "backbone"),
        ({"device": "toaster"}, "device"),
        ({"augmentation": StandardAugmentation(flip=2)}, "flip"),
        ({"n_views": 0}, "n_views"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_distilling(wrong, message):
    net = counting_backbone()
    with pytest.raises(ValueError, match=message):
        probe(distiller=distiller(net)).set_params(**wrong).fit(X, Y)
    assert net.module.n_images == 0


def test_verbose_reaches_the_distiller(capsys):
    probe(distiller=distiller(max_iter=1), verbose=1).fit(X, Y)
    assert "Synthesis" in capsys.readouterr().out


def test_the_default_head_keeps_nothing_of_its_training():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(200, 500)), np.arange(200) % 100
    fitted = probe(None, max_epochs=3).fit(rows, labels)
    assert len(pickle.dumps(fitted)) < 100 * 501 * 4 + 30_000
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(rows), fitted.predict(rows))


def test_read_only_rows():
    rows = np.random.default_rng(0).normal(size=(18, 5)).astype(np.float32)
    rows.flags.writeable = False
    fitted = probe(None).fit(rows, Y)
    assert fitted.predict(rows).shape == (18,)


def test_a_skorch_net_of_the_users_is_not_taken_for_the_default_head():
    net = NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=16,
        module__out_features=3,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=1,
        verbose=0,
    )
    estimator = probe(head=net)
    assert not hasattr(estimator, "decision_function")
    # skorch takes integers alone as labels.
    numbers = np.unique(Y, return_inverse=True)[1]
    assert not hasattr(estimator.fit(X, numbers), "decision_function")


def test_floats_on_the_canvas_are_not_rounded(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.random((18, 18, 18, 3))
    rounded = np.rint(images * 255).astype(np.uint8)
    for kind in (images, images.astype(np.float32), list(images)):
        exact = probe(memory=tmp_path).fit(kind, Y).decision_function(X_TEST)
        assert_array_equal(exact, probe().fit(images, Y).decision_function(X_TEST))
        other = probe(memory=tmp_path).fit(rounded, Y).decision_function(X_TEST)
        assert 1e-5 < np.abs(exact - other).max() < 0.1
    # What 8 bits hold is the same either way.
    same = probe().fit(rounded / np.float32(255), Y).decision_function(X_TEST)
    assert_array_equal(same, probe().fit(rounded, Y).decision_function(X_TEST))


def test_memory_of_floats_on_the_canvas(tmp_path):
    net = counting_backbone()
    images = np.random.default_rng(0).random((18, 18, 18, 3))
    for n_images in (5 * 18, 0):
        net.module.reset()
        probe(net, memory=tmp_path).fit(images, Y)
        assert net.module.n_images == n_images
    images[0, 0, 0, 0] += 1e-4  # less than 8 bits tell
    probe(net, memory=tmp_path).fit(images, Y)
    assert net.module.n_images == 5 * 18


class _BytePrototypes(RandomImages):
    def fit(self, X, y):
        super().fit(X, y)
        self.prototypes_ = (self.prototypes_ * 255).astype(np.uint8)
        return self


def test_prototypes_outside_of_0_to_1_are_refused():
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        probe(distiller=_BytePrototypes(NET, random_state=0)).fit(X, Y)


def test_a_frame_of_paths_is_not_called_similarities():
    with pytest.raises(ValueError, match="Pass its column of images or paths") as caught:
        probe().fit(pd.DataFrame({"path": ["a.png", "b.png"]}), ["a", "b"])
    assert "similarities" not in str(caught.value)
