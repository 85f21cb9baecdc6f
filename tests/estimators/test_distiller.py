import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.utils.class_weight import compute_class_weight

from sklgm import (
    Backbone,
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    Pixels,
    Pyramid,
    RandomHeads,
    RealGradients,
    StandardAugmentation,
)
from tests.image_checks import fitted_names, toy_images
from tests.tiny_backbones import TinyConvNet, counting_backbone, part_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
N_CLASSES = 3
COUNTS = dict.fromkeys(np.unique(Y).tolist(), 6)


def distiller(backbone=NET, **params):
    settings = {
        "max_iter": 10,
        "heads": RandomHeads(4, 8),
        "n_views": 2,
        "n_real_views": 1,
        "random_state": 0,
    }
    return LGMDistiller(backbone, **(settings | params))


def test_attributes():
    fitted = distiller(prototypes_per_class=2).fit(X, Y)
    assert fitted.prototypes_.shape == (6, 18, 18, 3)
    assert fitted.prototypes_.dtype == np.float32
    assert fitted.prototypes_.min() >= 0
    assert fitted.prototypes_.max() <= 1
    assert fitted.prototypes_.flags.c_contiguous
    assert fitted.prototype_labels_.tolist() == ["a", "a", "b", "b", "c", "c"]
    assert fitted.classes_.tolist() == ["a", "b", "c"]
    assert fitted.prototype_features_.shape == (6, 16)
    assert fitted.loss_curve_.shape == (10,)
    assert fitted.n_iter_ == 10


def test_prototypes_of_a_class_differ():
    first, second = distiller(prototypes_per_class=2).fit(X, Y).prototypes_[:2]
    assert np.abs(first - second).mean() > 0.01


def test_prototype_features_are_those_of_the_centre_crop():
    fitted = distiller().fit(X, Y)
    crops = torch.from_numpy(fitted.prototypes_[:, 1:17, 1:17]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = NET.features(crops).numpy()
    assert_allclose(fitted.prototype_features_, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("image_size", "canvas"), [(None, 20), (18, 20)])
def test_the_canvas_of_a_module_is_eight_sevenths_of_the_image(image_size, canvas):
    net = tiny_backbone(image_size=18)
    fitted = distiller(net, image_size=image_size).fit(X, Y)
    assert fitted.prototypes_.shape == (N_CLASSES, canvas, canvas, 3)


def test_the_loss_falls_and_prototypes_become_alike_their_class():
    # From grey: where prototypes start otherwise, at mean images, these toys have little to gain.
    estimator = distiller(max_iter=150, n_views=4)
    gradients = estimator.compute_gradients(X, Y)
    gradients.images_seen[:] = 0
    fitted = estimator.fit_gradients(gradients)
    assert fitted.loss_curve_[-10:].mean() < 0.2 * fitted.loss_curve_[:10].mean()
    images, labels = toy_images(n_per_class=20, seed=5)
    nearest = np.asarray(fitted.transform(images)).argmax(axis=1)
    assert (fitted.prototype_labels_[nearest] == labels).mean() > 0.6  # chance: a third


def test_the_loss_is_the_angular_distance_between_gradients():
    # One step, every head, no augmentation: start images and targets can be had from outside.
    estimator = distiller(augmentation=None, max_iter=1, heads=RandomHeads(8, 8, 0.0))
    estimator.set_params(class_weight=None, learning_rate=1e-12, parametrization="pixels").fit(X, Y)

    def gradient(features, labels):
        head = torch.nn.Linear(16, N_CLASSES).double()
        for parameter in head.parameters():
            torch.nn.init.zeros_(parameter)
        loss = torch.nn.functional.cross_entropy(head(features.double()), torch.as_tensor(labels))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(head.parameters()))])

    canvases = [np.asarray(Image.fromarray(x).resize((18, 18), Image.BICUBIC)) for x in X]
    crops = torch.from_numpy(np.stack(canvases)[:, 1:17, 1:17]).permute(0, 3, 1, 2) / 255
    real = gradient(NET.features(crops), np.unique(Y, return_inverse=True)[1])
    synthetic = torch.from_numpy(estimator.prototype_features_)
    expected = 1 - torch.nn.functional.cosine_similarity(
        real, gradient(synthetic, np.arange(N_CLASSES)), dim=0
    )
    assert estimator.loss_curve_[0] == pytest.approx(float(expected), abs=1e-5)


def test_prototypes_start_around_the_mean_image_of_their_class():
    tints = np.unique(Y, return_inverse=True)[1]
    images = np.zeros_like(X)
    images[np.arange(len(X)), :, :, tints] = 250  # red, green and blue
    start = {"augmentation": None, "max_iter": 1, "learning_rate": 1e-12}
    params = start | {"prototypes_per_class": 200, "parametrization": Pyramid(start_size=1)}
    fitted = distiller(**params).fit(images, Y)
    means = fitted.prototypes_.mean(axis=(1, 2)).reshape(N_CLASSES, 200, 3).mean(axis=1)
    assert_array_equal(means.argmax(axis=1), range(N_CLASSES))
    assert means.max(axis=1).min() > 0.9
    assert np.sort(means, axis=1)[:, :2].max() < 0.1
    # Sums made by hand know no images, and the start is grey.
    gradients = distiller(**params).compute_gradients(images, Y)
    gradients.images_seen[:] = 0
    grey = distiller(**params).fit_gradients(gradients)
    assert_allclose(grey.prototypes_.mean(axis=(0, 1, 2)), 0.5, atol=0.03)


@pytest.mark.parametrize(("init", "rate"), [("mean", 0.06), ("nearest", 0.01)])
def test_the_learning_rate_depends_on_the_start(init, rate):
    prototypes = [
        distiller(init=init, max_iter=3, **rates).fit(X, Y).prototypes_
        for rates in ({}, {"learning_rate": rate}, {"learning_rate": 0.03})
    ]
    assert_array_equal(prototypes[0], prototypes[1])
    assert not np.array_equal(prototypes[0], prototypes[2])


@pytest.mark.parametrize("backbone", [NET, [NET, part_backbone("border")]])
def test_prototypes_start_at_the_images_nearest_to_class_means(backbone):
    still = {"init": "nearest", "prototypes_per_class": 2, "max_iter": 1, "learning_rate": 1e-12}
    fitted = distiller(backbone, parametrization="pixels", **still).fit(X, Y)
    nearest = ClassCentroids(NET, prototypes_per_class=2, random_state=0).fit(X, Y).prototypes_
    gaps = np.abs(fitted.prototypes_[:, None] - nearest).mean(axis=(2, 3, 4))
    assert gaps.argmin(axis=1).tolist() == list(range(6))
    assert gaps.min(axis=1).max() < 0.06  # what is between is the noise that they start with


def test_rows_start_at_real_rows():
    rows, labels = load_iris(return_X_y=True)
    settings = {"init": "nearest", "max_iter": 1, "learning_rate": 1e-12}
    fitted = distiller(None, **settings).fit(rows, labels)
    nearest = ClassCentroids(None).fit(rows, labels)
    assert_allclose(fitted.prototypes_, nearest.prototypes_, rtol=1e-6)


def test_the_image_to_start_at_is_looked_for_among_some(monkeypatch):
    monkeypatch.setattr("sklgm.estimators.start.CANDIDATES", 2)
    net = counting_backbone()
    seen = []
    for init in ("mean", "nearest"):
        net.module.reset()
        distiller(net, init=init).fit(X, Y)
        seen.append(net.module.n_images)
    # Up to two of each class are embedded, and once more the one of each that is chosen.
    assert 2 * N_CLASSES <= seen[1] - seen[0] <= 3 * N_CLASSES


def test_images_to_start_at_have_the_largest_canvas():
    """Whatever net they are looked for with: an enlarged one would be blurred."""
    net = TinyConvNet(5, 1)
    pair = [NET, Backbone.from_module(net, image_size=64, mean=0.5, std=0.25, name="large")]
    noise = np.random.default_rng(0).integers(0, 256, (len(X), 80, 80, 3), dtype=np.uint8)
    still = {"init": "nearest", "max_iter": 1, "learning_rate": 1e-12}
    roughness = []
    for nets in (pair, pair[::-1]):
        images = distiller(nets, **still).fit(noise, Y).prototypes_
        roughness.append(np.abs(np.diff(images, axis=1)).mean())
    assert roughness[0] == pytest.approx(roughness[1], rel=0.1)


def test_candidates_are_drawn_by_weight(monkeypatch):
    """A row of great weight is nearly the mean of its class, among the candidates too."""
    monkeypatch.setattr("sklgm.estimators.start.CANDIDATES", 10)
    rows, labels = np.random.default_rng(0).normal(size=(400, 3)), np.repeat([0, 1], 200)
    weights = np.ones(400)
    weights[[7, 300]] = 1e4
    still = {"init": "nearest", "max_iter": 1, "learning_rate": 1e-12}
    fitted = distiller(None, **still).fit(rows, labels, sample_weight=weights)
    assert_allclose(fitted.prototypes_, rows[[7, 300]], rtol=1e-5)
    # Fewer than are asked for are drawn, and all are candidates.
    several = distiller(None, **still, prototypes_per_class=5).fit(rows, labels, weights)
    assert len(np.unique(several.prototypes_.round(4), axis=0)) == 10


def test_starting_at_images_asks_for_enough_of_them():
    net = counting_backbone()
    refused = distiller(net, init="nearest", prototypes_per_class=COUNTS["a"] + 1)
    with pytest.raises(ValueError, match="fewer than"):
        refused.fit(X, Y)
    assert net.module.n_images == 0
    assert not fitted_names(refused)
    with pytest.raises(ValueError, match="gradients hold none"):
        distiller(init="nearest").fit_gradients(distiller().compute_gradients(X, Y))


def test_a_seeded_fit_is_bit_equal_when_repeated():
    first = distiller().fit(X, Y)
    second = distiller().fit(X, Y)
    assert_array_equal(first.prototypes_, second.prototypes_)
    assert_array_equal(first.loss_curve_, second.loss_curve_)
    other = distiller(random_state=1).fit(X, Y)
    assert np.abs(first.prototypes_ - other.prototypes_).mean() > 0.01


def test_a_random_state_instance_is_used_up():
    state = np.random.RandomState(0)
    first = distiller(random_state=state).fit(X, Y)
    second = distiller(random_state=state).fit(X, Y)
    again = distiller(random_state=np.random.RandomState(0)).fit(X, Y)
    assert_array_equal(first.prototypes_, again.prototypes_)
    # By how much is chance; the same seed would give the same bits.
    assert np.abs(first.prototypes_ - second.prototypes_).mean() > 1e-4


def test_without_a_seed_fits_differ():
    first, second = (distiller(random_state=None, max_iter=2).fit(X, Y) for _ in range(2))
    assert np.abs(first.prototypes_ - second.prototypes_).mean() > 1e-4


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
def test_the_batch_size_changes_nothing(batch_size):
    expected = distiller(n_real_views=2).fit(X, Y)
    fitted = distiller(n_real_views=2, batch_size=batch_size).fit(X, Y)
    assert_allclose(fitted.loss_curve_, expected.loss_curve_, rtol=1e-4, atol=1e-4)
    assert_allclose(fitted.prototypes_, expected.prototypes_, atol=1e-4)


def test_the_batch_size_bounds_what_the_net_sees_at_once():
    net = counting_backbone()
    distiller(net, batch_size=5).fit(X, Y).transform(X)
    assert net.module.largest_batch <= 5


def test_the_real_data_passes_the_net_once():
    few, many = counting_backbone(), counting_backbone()
    distiller(few, max_iter=1, n_views=1, n_real_views=3).fit(X, Y)
    real = (2 + 3) * len(X)  # two centre crops and three random views
    synthetic = 2 * N_CLASSES  # a centre crop and a random view of each
    assert few.module.n_images == real + synthetic + N_CLASSES
    distiller(many, max_iter=11, n_views=1, n_real_views=3).fit(X, Y)
    assert many.module.n_images - few.module.n_images == 10 * synthetic


def test_three_estimators_share_one_copy_of_the_weights():
    first, second, third = (clone(distiller(max_iter=1)) for _ in range(3))
    for estimator in (first, second, third):
        estimator.fit(X, Y)
    weights = [next(e.backbone.module.parameters()).data_ptr() for e in (first, second, third)]
    assert len(set(weights)) == 1
    named = [LGMDistiller("efficientnet_lite0", image_size=32) for _ in range(3)]
    assert len({id(estimator._encoder().backbone) for estimator in named}) == 1


def test_class_weights_differ_on_unequal_classes():
    keep = (Y != "a") | (np.cumsum(Y == "a") <= 1)
    images, labels = X[keep], Y[keep]
    fitted = {
        str(weight): distiller(class_weight=weight).fit(images, labels).prototypes_
        for weight in (None, "balanced", {"a": 50.0})
    }
    plain = fitted.pop("None")
    for prototypes in fitted.values():
        assert np.abs(prototypes - plain).max() > 1e-3
    equal = distiller(class_weight=dict.fromkeys("abc", 2.0)).fit(images, labels)
    assert_allclose(equal.prototypes_, plain, atol=1e-4)


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat(["a", "b", "c"], [2, 6, 10])
    weights = compute_class_weight("balanced", classes=np.array(list("abc")), y=labels)
    by_hand = distiller(class_weight=dict(zip("abc", weights, strict=True))).fit(X, labels)
    balanced = distiller(class_weight="balanced").fit(X, labels)
    assert_allclose(balanced.prototypes_, by_hand.prototypes_, atol=1e-5)


def test_balanced_is_none_on_equal_classes():
    plain = distiller(class_weight=None).fit(X, Y)
    assert_allclose(distiller().fit(X, Y).prototypes_, plain.prototypes_, atol=1e-4)


@pytest.mark.parametrize(
    "parametrization", ["pixels", Pixels(decorrelate=True), Pyramid(start_size=4, grow_every=2)]
)
def test_parametrizations(parametrization):
    fitted = distiller(parametrization=parametrization).fit(X, Y)
    assert np.abs(fitted.prototypes_ - distiller().fit(X, Y).prototypes_).mean() > 1e-3


def test_shortcuts_stand_for_objects():
    expected = distiller().fit(X, Y).prototypes_
    objects = distiller(parametrization=Pyramid(), augmentation=StandardAugmentation(blur=0.5))
    assert_array_equal(objects.fit(X, Y).prototypes_, expected)
    kinds = ("standard", StandardAugmentation())
    standard, same = (distiller(augmentation=kind).fit(X, Y).prototypes_ for kind in kinds)
    assert_array_equal(standard, same)
    assert np.abs(standard - expected).max() > 0


def test_nested_parameters_can_be_set():
    estimator = distiller(parametrization=Pyramid(), augmentation=StandardAugmentation())
    estimator.set_params(parametrization__start_size=4, augmentation__noise=0.5)
    assert estimator.parametrization.start_size == 4
    assert clone(estimator).augmentation.noise == 0.5


@pytest.mark.parametrize(
    "params",
    [
        {"augmentation": None},
        {"augmentation": StandardAugmentation(scale=(0.08, 1), noise=0.5, blur=0.5)},
        {"augmentation": StandardAugmentation(flip=0)},
        {"matching": "row"},
        {"n_real_views": 0},
        {"heads": RandomHeads(100, 8)},
    ],
    ids=str,
)
def test_options_matter_and_work(params):
    fitted = distiller(**params).fit(X, Y)
    assert np.isfinite(fitted.loss_curve_).all()
    assert np.abs(fitted.prototypes_ - distiller().fit(X, Y).prototypes_).max() > 1e-4


def test_without_augmentation_one_centre_crop_is_enough():
    net = counting_backbone()
    distiller(net, augmentation=None, max_iter=3, n_views=5, n_real_views=5).fit(X, Y)
    assert net.module.n_images == len(X) + 3 * N_CLASSES + N_CLASSES


def test_rows_instead_of_images():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 5)) * 4
    labels = rng.integers(3, size=60)
    rows = centres[labels] + rng.normal(size=(60, 5))
    fitted = distiller(None, max_iter=200, heads=RandomHeads(4, 8, 1.0)).fit(rows, labels)
    assert fitted.prototypes_.shape == (3, 5)
    nearest = cosine_similarity(rows, fitted.prototypes_).argmax(axis=1)
    assert (nearest == labels).mean() > 0.9
    assert_allclose(np.asarray(fitted.transform(rows)).argmax(axis=1), nearest)


# ---------------------------------------------------------------- gradients of shards


def shards(estimator, n_shards=3, **given):
    classes = given.pop("classes", np.unique(Y))
    counts = given.pop("class_counts", {label: int((label == Y).sum()) for label in np.unique(Y)})
    return [
        estimator.compute_gradients(
            X[i::n_shards], Y[i::n_shards], classes=classes, class_counts=counts, **given
        )
        for i in range(n_shards)
    ]


@pytest.mark.parametrize("augmentation", ["blurred", None])
def test_the_sum_over_shards_is_the_whole(augmentation):
    estimator = distiller(n_real_views=0, augmentation=augmentation)
    whole = clone(estimator).fit(X, Y)
    summed = clone(estimator).fit_gradients(sum(shards(estimator)))
    assert_allclose(summed.loss_curve_, whole.loss_curve_, atol=1e-4)
    assert_allclose(summed.prototypes_, whole.prototypes_, atol=1e-4)
    assert_array_equal(summed.prototype_labels_, whole.prototype_labels_)


def test_shards_with_offsets_have_the_random_views_of_the_whole():
    estimator = distiller(n_real_views=2)
    counts = {label: int((label == Y).sum()) for label in np.unique(Y)}
    parts = [slice(0, 5), slice(5, 11), slice(11, None)]
    sums, without = (
        sum(
            estimator.compute_gradients(X[part], Y[part], class_counts=counts, offset=offset)
            for part, offset in zip(parts, offsets, strict=True)
        ).sums
        for offsets in ([part.start for part in parts], [0, 0, 0])
    )
    whole = estimator.compute_gradients(X, Y).sums
    assert_allclose(sums, whole, rtol=1e-4, atol=1e-6)
    assert (without - whole).abs().max() > 1e-3


@pytest.mark.parametrize("offset", [-1, 1.0, "3"])
def test_offsets_that_are_none(offset):
    with pytest.raises((ValueError, TypeError), match="offset"):
        distiller().compute_gradients(X, Y, offset=offset)


def test_gradients_of_everything_are_what_fit_uses():
    estimator = distiller()
    fitted = clone(estimator).fit_gradients(estimator.compute_gradients(X, Y))
    assert_array_equal(fitted.prototypes_, clone(estimator).fit(X, Y).prototypes_)


def test_a_shard_may_lack_a_class():
    estimator = distiller(n_real_views=0)
    counts = {label: int((label == Y).sum()) for label in np.unique(Y)}
    parts = [
        estimator.compute_gradients(X[label == Y], Y[label == Y], class_counts=counts)
        for label in counts
    ]
    whole = clone(estimator).fit(X, Y)
    assert_allclose(
        clone(estimator).fit_gradients(sum(parts)).prototypes_, whole.prototypes_, atol=1e-4
    )


def test_computing_gradients_fits_nothing():
    estimator = distiller()
    estimator.compute_gradients(X, Y)
    assert vars(estimator).keys() == vars(clone(estimator)).keys()


def test_rows_from_gradients_remember_their_width():
    rows = np.random.default_rng(0).normal(size=(18, 5))
    estimator = distiller(None)
    fitted = clone(estimator).fit_gradients(estimator.compute_gradients(rows, Y))
    assert fitted.n_features_in_ == 5
    with pytest.raises(ValueError, match="4 features"):
        fitted.transform(rows[:, :4])


def test_gradients_that_do_not_fit_are_refused():
    estimator = distiller()
    gradients = estimator.compute_gradients(X, Y)
    lacking = estimator.compute_gradients(
        X[Y != "a"], Y[Y != "a"], class_counts={"a": 1, "b": 6, "c": 6}
    )
    empty = estimator._empty_gradients(
        np.array(["a", "b"]), [1, 1], estimator._encoder(), estimator._seeds()
    )
    unweighted = estimator.compute_gradients(X, Y, classes=["a", "b", "c"])
    plain = distiller(class_weight=None).compute_gradients(X, Y)
    named = Backbone.from_module(TinyConvNet(), image_size=16, name="another")
    same_name = tiny_backbone(seed=1)
    larger = tiny_backbone(image_size=18)
    for bad, setting, message in (
        (empty, {}, "no image of"),
        (lacking, {}, r"no image of the classes \['a'\]"),
        (unweighted, {}, "not weighted by class"),
        (plain, {}, "made with class_weight=None"),
        (gradients, {"class_weight": None}, "class_weight"),
        (gradients, {"class_weight": {"a": 2}}, "class_weight"),
        (gradients, {"backbone": named}, "backbone='tiny', this distiller has 'another'"),
        (gradients, {"backbone": None}, "backbone"),
        (gradients, {"backbone": same_name}, "made with views"),
        (gradients, {"backbone": larger}, "made with views"),
        (gradients, {"n_real_views": 2}, "n_real_views"),
        (gradients, {"augmentation": None}, "augmentation"),
        (gradients, {"augmentation": StandardAugmentation(flip=0.1)}, "augmentation"),
    ):
        other = clone(estimator).set_params(**setting)
        with pytest.raises(ValueError, match=message):
            other.fit_gradients(bad)
        assert not fitted_names(other)


def test_shards_of_other_seeds_or_nets_are_not_added():
    first = distiller().compute_gradients(X, Y)
    for other in (distiller(random_state=1), distiller(tiny_backbone(seed=1))):
        with pytest.raises(ValueError, match="Cannot merge"):
            first + other.compute_gradients(X, Y)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": Y[:-1], "classes": ["a", "b", "c"]}, "inconsistent numbers of samples"),
        ({"y": Y, "classes": ["a", "b"]}, "which classes does not have"),
        ({"y": Y, "class_counts": [6, 6, 6]}, "pass classes too"),
        ({"y": None}, "pass the labels as y"),
        ({"y": None, "classes": ["a", "b", "c"]}, "pass the labels as y"),
    ],
)
def test_bad_shards(given, message):
    with pytest.raises(ValueError, match=message):
        distiller().compute_gradients(X, **given)


def test_verbose_tells_steps_and_times_the_phases(capsys):
    distiller(max_iter=1).fit(X, Y)
    assert capsys.readouterr().out == ""
    fitted = distiller(max_iter=25, verbose=1).fit(X, Y)
    first, *steps, last = capsys.readouterr().out.splitlines()
    assert "(1 of 2) Gradients of the real data" in first
    told = [f"step {i} of 25: loss {fitted.loss_curve_[i - 1]:.3f}" for i in range(3, 25, 3)]
    assert steps == told
    assert "(2 of 2) Synthesis" in last


def test_a_start_size_beyond_the_canvas_is_said_before_the_real_pass():
    net = counting_backbone()
    with pytest.raises(ValueError, match="start_size"):
        distiller(net, parametrization=Pyramid(start_size=1000)).fit(X, Y)
    assert net.module.n_images == 0


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n_classes", "n_views", "batch_size"), [(2, 4, "auto"), (9, 4, 32), (5, 5, "auto"), (8, 4, 7)]
)
def test_a_seeded_fit_is_bit_equal_on_two_threads(n_classes, n_views, batch_size, two_threads):
    net = tiny_backbone(image_size=56)
    images = np.random.default_rng(0).integers(0, 256, (2 * n_classes, 64, 64, 3), dtype=np.uint8)
    estimator = distiller(net, max_iter=4, n_views=n_views, batch_size=batch_size)
    one, other = (clone(estimator).fit(images, np.arange(n_classes).repeat(2)) for _ in range(2))
    assert_array_equal(one.prototypes_, other.prototypes_)


def test_numpy_numbers_are_parameters_too():
    plain = distiller(n_real_views=2, augmentation=StandardAugmentation(flip=0.5)).fit(X, Y)
    augmentation = StandardAugmentation(flip=np.float32(0.5))
    other = distiller(n_real_views=np.int64(2), augmentation=augmentation).fit(X, Y)
    assert_array_equal(plain.prototypes_, other.prototypes_)


class Sharper(StandardAugmentation):
    pass


def test_views_of_another_kind_of_augmentation_are_not_merged():
    shards = [
        distiller(augmentation=kind()).compute_gradients(X, Y)
        for kind in (StandardAugmentation, Sharper)
    ]
    with pytest.raises(ValueError, match="views"):
        shards[0] + shards[1]


CALLS = []


class Shift:
    """Move images to the right: an augmentation that is no subclass of ours."""

    def __init__(self, most, kind=torch.as_tensor):
        self.most, self.kind = most, kind

    def draw(self, n, canvas_size, generator):
        CALLS.append("draw")
        return self.kind(torch.randint(self.most + 1, (n,), generator=generator))

    def apply(self, images, views, size):
        CALLS.append("apply")
        moved = [image.roll(int(by), 2) for image, by in zip(images, views, strict=True)]
        return torch.stack(moved)[..., :size, :size]


@pytest.mark.parametrize("kind", [torch.as_tensor, list])
def test_an_augmentation_of_ones_own(kind, monkeypatch):
    monkeypatch.setattr("sklgm.passes.views._VIEW_BLOCK", 5)
    CALLS.clear()
    estimator = distiller(augmentation=Shift(2, kind))
    fitted = clone(estimator).fit(X, Y)
    assert set(CALLS) == {"draw", "apply"}
    assert_array_equal(fitted.prototypes_, distiller(augmentation=Shift(2)).fit(X, Y).prototypes_)
    for other in (Shift(0), None):
        found = distiller(augmentation=other).fit(X, Y).prototypes_
        assert np.abs(found - fitted.prototypes_).max() > 1e-3
    CALLS.clear()
    FrozenBackboneProbe(NET, augmentation=Shift(2, kind), n_views=2, max_epochs=1).fit(X, Y)
    assert set(CALLS) == {"draw", "apply"}


def test_an_augmentation_of_ones_own_mirrors_no_centre_crops():
    own, none = (
        distiller(n_real_views=0, augmentation=kind).compute_gradients(X, Y)
        for kind in (Shift(2), None)
    )
    assert_array_equal(own.sums, none.sums)


def test_settings_of_an_augmentation_of_ones_own_are_told_apart():
    first, same, other = (
        distiller(augmentation=Shift(most)).compute_gradients(X, Y, class_counts=COUNTS)
        for most in (2, 2, 1)
    )
    first + same
    with pytest.raises(ValueError, match="views"):
        first + other


class Grey:
    """Write images of one grey: a parametrisation that is no subclass of ours."""

    def __init__(self, start_at):
        self.start_at = start_at

    def get_params(self, deep=True):
        return {"start_at": self.start_at}

    def check(self, size):
        CALLS.append("check")

    def start(self, n, size, max_iter, generator, device, around, own):
        CALLS.append("start")
        return GreyImages(torch.full((n, 1, 1, 1), self.start_at, device=device)[own], size)


class GreyImages:
    generator = None
    level_starts = ()

    def __init__(self, values, size):
        self.parameters, self.size = [values.requires_grad_()], size

    def decode(self):
        return self.parameters[0].sigmoid().expand(-1, 3, self.size, self.size)

    def grow(self, step):
        return False


def test_a_parametrization_of_ones_own():
    CALLS.clear()
    estimator = clone(distiller(parametrization=Grey(1.0)))
    assert estimator.parametrization.start_at == 1
    prototypes = estimator.fit(X, Y).prototypes_
    assert CALLS == ["check", "start"]
    greys = prototypes[:, :1, :1, :1]
    assert_array_equal(prototypes, np.broadcast_to(greys, prototypes.shape))
    assert np.abs(greys - 1 / (1 + np.exp(-1))).min() > 0.01


def test_fit_works_where_gradients_are_switched_off():
    with torch.no_grad():
        inside = distiller().fit(X, Y)
    assert_array_equal(inside.prototypes_, distiller().fit(X, Y).prototypes_)


def test_images_after_rows_leave_nothing_of_the_rows():
    estimator = distiller(None).fit(np.random.default_rng(0).normal(size=(18, 5)), Y)
    assert estimator.n_features_in_ == 5
    estimator.set_params(backbone=NET).fit(X, Y)
    assert not hasattr(estimator, "n_features_in_")


def test_compute_gradients_leaves_the_estimator_as_it_was():
    estimator = distiller(None)
    before = dict(vars(estimator))
    for width in (5, 3):
        estimator.compute_gradients(np.random.default_rng(0).normal(size=(18, width)), Y)
    assert vars(estimator) == before


def test_gradients_made_by_hand_from_embedded_images():
    features = BackboneEmbedder(NET).fit_transform(X)
    classes, counts = np.unique(Y, return_counts=True)
    settings = {"class_counts": counts, "head_pool_size": 8, "backbone": NET.name}
    gradients = RealGradients(classes, **settings).update(features, Y)
    fitted = distiller().fit_gradients(gradients)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    narrow = RealGradients(classes, **settings).update(features[:, :5], Y)
    with pytest.raises(ValueError, match="n_features=5, this distiller has 16"):
        distiller().fit_gradients(narrow)
