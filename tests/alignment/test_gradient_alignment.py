"""Gradient alignment beside autograd through an explicit linear layer."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklgm import (
    LGMDistiller,
    NearestImages,
    PrototypeSet,
    RandomHeads,
    RandomImages,
    RealGradients,
    StandardAugmentation,
)
from sklgm.alignment import gradient_alignment, gradient_alignment_matrix
from sklgm.images import resize_crop
from tests.evaluation.toys import NET, OTHER, X, Y, distiller
from tests.image_checks import save_images, toy_images
from tests.tiny_backbones import TinyConvNet, counting_backbone

CLEAN = LGMDistiller(n_real_views=0, heads=RandomHeads(pool_size=12), augmentation=None)


def rows(n_per_class=5, n_classes=3, seed=0, width=6):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n_per_class)
    return rng.normal(size=(len(y), width)) + 2 * np.eye(n_classes, width)[y], y


def autograd_gradient(features, targets, head, weights):
    """Return the gradient of a linear layer's weighted cross-entropy, weights and bias."""
    layer = torch.nn.Linear(features.shape[1], len(head)).double()
    with torch.no_grad():
        layer.weight.copy_(head)
        layer.bias.zero_()
    loss = torch.nn.functional.cross_entropy(
        layer(torch.as_tensor(features, dtype=torch.float64)),
        torch.as_tensor(targets),
        reduction="none",
    )
    (loss * torch.as_tensor(weights)).sum().backward()
    return torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1).numpy()


def cosine(a, b):
    return np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2))


def balanced(targets):
    counts = np.bincount(targets)
    return (len(targets) / (len(counts) * counts))[targets]


@pytest.mark.parametrize("matching", ["global", "row"])
@pytest.mark.parametrize("class_weight", ["balanced", None])
def test_cosines_are_those_of_autograd(matching, class_weight):
    features, y = rows()
    features, y = features[:-3], y[:-3]  # classes of unequal size
    own, labels = rows(n_per_class=2, seed=1)
    own, labels = own[1:], labels[1:]
    settings = LGMDistiller(
        None,
        heads=RandomHeads(pool_size=7, scale=0.3),
        matching=matching,
        class_weight=class_weight,
    )
    real = clone(settings).set_params(random_state=5).compute_gradients(features, y)
    found = gradient_alignment(
        PrototypeSet(own, labels), backbone=None, gradients=real, distiller=settings
    )
    heads = real.heads.take(slice(None)).double()
    weights = balanced if class_weight == "balanced" else lambda targets: np.ones(len(targets))
    expected = []
    for head in heads:
        a = autograd_gradient(features, y, head, weights(y))
        b = autograd_gradient(own, labels, head, weights(labels))
        pairs = [(a, b)] if matching == "global" else zip(a, b, strict=True)
        expected.append(np.mean([cosine(*pair) for pair in pairs]))
    assert_allclose(found.by_head, expected, rtol=1e-5)
    assert_allclose(found.score, np.mean(expected), rtol=1e-5)


def test_images_are_seen_in_centre_crops_and_half_in_random_views():
    """Against features of views cut here, through the plain module."""
    net = TinyConvNet().eval()
    size = NET.image_size
    canvas = NET.canvas_size

    def features(images):
        with torch.no_grad():
            pixels = torch.as_tensor(images, dtype=torch.float32).permute(0, 3, 1, 2)
            start = round((canvas - size) / 2)
            crop = pixels[..., start : start + size, start : start + size]
            plain, mirrored = (net((view - 0.5) / 0.25).double() for view in (crop, crop.flip(-1)))
        return plain, mirrored

    canvases = np.stack([resize_crop(image, size=canvas) for image in X]) / 255
    prototypes = RandomImages(NET, random_state=0).fit(X, Y)
    settings = LGMDistiller(
        NET,
        n_real_views=0,
        heads=RandomHeads(pool_size=5),
        augmentation=StandardAugmentation(),
    )
    real = clone(settings).set_params(random_state=1).compute_gradients(X, Y)
    found = gradient_alignment(prototypes, backbone=NET, gradients=real, distiller=settings)
    targets = np.searchsorted(prototypes.classes_, Y)
    own = np.searchsorted(prototypes.classes_, prototypes.prototype_labels_)
    for head, value in zip(real.heads.take(slice(None)).double(), found.by_head, strict=True):
        a = sum(autograd_gradient(z, targets, head, balanced(targets)) for z in features(canvases))
        b = sum(
            autograd_gradient(z, own, head, balanced(own)) for z in features(prototypes.prototypes_)
        )
        assert_allclose(value, cosine(a, b), rtol=1e-5)


@pytest.mark.parametrize("backbone", [NET, OTHER])
def test_the_real_set_is_aligned_with_itself(backbone):
    canvases = np.stack([resize_crop(image, size=backbone.canvas_size) for image in X]) / 255
    found = gradient_alignment(PrototypeSet(canvases, Y), X, Y, backbone, random_state=0)
    assert_allclose(found.by_head, 1, atol=1e-6)
    assert len(found.by_head) == 256


def test_the_net_is_the_estimators_own_unless_named():
    expected = gradient_alignment(FITTED, X, Y, NET, random_state=0)
    for own in (FITTED, FrozenEstimator(FITTED)):
        found = gradient_alignment(own, X, Y, random_state=0)
        assert_allclose(found.by_head, expected.by_head, rtol=1e-6)
    with pytest.raises(ValueError, match="In Python, pass backbone="):
        gradient_alignment(PrototypeSet.from_estimator(FITTED), X, Y)


def test_rows_are_aligned_with_themselves():
    features, y = rows()
    found = gradient_alignment(PrototypeSet(features, y), features, y, backbone=None)
    assert_allclose(found.by_head, 1, atol=1e-6)


def test_at_home_it_is_what_was_optimised():
    plain = {"augmentation": None, "n_real_views": 0, "random_state": 0}
    start, end = (distiller(NET, max_iter=n, **plain).fit(X, Y) for n in (1, 30))
    before, after = (gradient_alignment(one, X, Y, NET, random_state=0) for one in (start, end))
    assert after.low > before.high
    # With centre crops alone both sides see in distillation what they see here.
    assert_allclose(1 - after.score, end.loss_curve_[-5:].mean(), rtol=0.5)


def test_the_interval_is_that_of_the_mean_over_heads():
    prototypes = RandomImages(NET, random_state=0).fit(X, Y)
    settings = LGMDistiller(heads=RandomHeads(pool_size=100, scale=2.0))
    found = gradient_alignment(prototypes, X, Y, NET, distiller=settings, random_state=0)
    assert found.low < found.score < found.high
    error = found.by_head.std() / np.sqrt(100)
    assert_allclose([found.score - found.low, found.high - found.score], 1.96 * error, rtol=0.2)
    assert repr(found).startswith(f"GradientAlignment(score={found.score!r}, low=")


def test_it_is_reproducible_and_leaves_the_global_generators_alone():
    prototypes = RandomImages(NET, random_state=0).fit(X, Y)
    settings = distiller()
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002

    def measure(seed):
        return gradient_alignment(prototypes, X, Y, OTHER, distiller=settings, random_state=seed)

    first, same, other = measure(0), measure(0), measure(1)
    measure(None)
    assert_array_equal(first.by_head, same.by_head)
    assert (first.score, first.low, first.high) == (same.score, same.low, same.high)
    assert not np.isclose(first.by_head, other.by_head, rtol=1e-9).any()
    assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_heads_are_not_those_of_a_distillation_with_the_same_number():
    seen = []

    class Spy(LGMDistiller):
        def compute_gradients(self, X, y):
            seen.append(super().compute_gradients(X, y))
            return seen[-1]

    prototypes = distiller(random_state=0).fit(X, Y)
    gradient_alignment(
        prototypes, X, Y, NET, distiller=Spy(heads=RandomHeads(pool_size=4)), random_state=0
    )
    home = distiller(random_state=0).compute_gradients(X, Y)
    assert seen[0].head_seed != home.head_seed


def test_settings_are_those_of_the_estimator():
    fitted = distiller(heads=RandomHeads(pool_size=9), random_state=0).fit(X, Y)
    expected = gradient_alignment(fitted, X, Y, OTHER, random_state=0)
    assert len(expected.by_head) == 9
    kept = PrototypeSet.from_estimator(fitted)
    for prototypes, settings in [
        (FrozenEstimator(fitted), None),
        (kept, fitted),
        (kept, distiller(heads=RandomHeads(pool_size=9))),
    ]:
        found = gradient_alignment(prototypes, X, Y, OTHER, distiller=settings, random_state=0)
        assert_array_equal(found.by_head, expected.by_head)
    assert len(gradient_alignment(kept, X, Y, OTHER, random_state=0).by_head) == 256
    near = NearestImages(FrozenEstimator(fitted)).fit(X, Y)
    assert len(gradient_alignment(near, X, Y, OTHER).by_head) == 9
    # Its parameters are as they were.
    assert fitted.backbone is NET
    assert fitted.random_state == 0


def test_prototypes_of_several_backbones_and_of_another_canvas():
    fitted = distiller([NET, OTHER], random_state=0).fit(X, Y)
    assert fitted.prototypes_.shape[1] == NET.canvas_size != OTHER.canvas_size
    found = gradient_alignment(fitted, X, Y, OTHER, random_state=0)
    assert 0.5 < found.score <= 1


@pytest.mark.parametrize("kind", ["integers", "booleans", "floats", "objects"])
def test_labels_of_any_type(kind):
    expected = gradient_alignment(
        RandomImages(NET, random_state=0).fit(X, Y), X, Y, NET, distiller=CLEAN, random_state=0
    )
    if kind == "booleans":
        images, labels = X[Y != "c"], Y[Y != "c"] == "a"
    else:
        images = X
        labels = {
            "integers": np.searchsorted(["a", "b", "c"], Y) - 7,
            "floats": np.searchsorted(["a", "b", "c"], Y) + 0.0,
            "objects": Y.astype(object),
        }[kind]
    prototypes = RandomImages(NET, random_state=0).fit(images, labels)
    found = gradient_alignment(prototypes, images, labels, NET, distiller=CLEAN, random_state=0)
    if kind == "booleans":
        assert 0 < found.score < 1
    else:
        assert_allclose(found.by_head, expected.by_head, rtol=1e-6)


def test_paths_are_images_too(tmp_path):
    prototypes = RandomImages(NET, random_state=0).fit(X, Y)
    first = gradient_alignment(prototypes, X, Y, NET, distiller=CLEAN, random_state=0)
    paths = save_images(X, tmp_path)
    same = gradient_alignment(prototypes, paths, list(Y), NET, distiller=CLEAN, random_state=0)
    assert_array_equal(first.by_head, same.by_head)


def test_gradients_at_hand_need_no_real_images():
    fitted = distiller(random_state=0).fit(X, Y)
    real = distiller(OTHER, random_state=3).compute_gradients(X, Y)
    first = gradient_alignment(fitted, backbone=OTHER, gradients=real, random_state=0)
    assert len(first.by_head) == 8
    again = gradient_alignment(fitted, backbone=OTHER, gradients=real, random_state=1)
    # Heads are the same, views of the prototypes others.
    assert_allclose(first.by_head, again.by_head, atol=0.05)
    assert not np.array_equal(first.by_head, again.by_head)


def test_real_images_pass_once_and_prototypes_as_often():
    net = counting_backbone()
    settings = LGMDistiller(n_real_views=3, heads=RandomHeads(pool_size=4))
    prototypes = RandomImages(NET, random_state=0).fit(X, Y)
    gradient_alignment(prototypes, X, Y, net, distiller=settings)
    # Two centre crops of each; of random views as many on either side, 18 of each prototype.
    assert net.module.n_images == len(X) * (2 + 3) + 3 * (2 + 18)


def test_a_matrix_has_the_single_measurements():
    nets = {"A": NET, "B": OTHER}
    sets = {
        "A": distiller(NET, random_state=0).fit(X, Y),
        "B": distiller(OTHER, random_state=0).fit(X, Y),
        "kept": PrototypeSet.from_estimator(RandomImages(NET, random_state=0).fit(X, Y)),
    }
    found = gradient_alignment_matrix(sets, X, Y, backbones=nets, random_state=0)
    assert found.rows == ("A", "B", "kept")
    assert found.columns == ("A", "B")
    for i, prototypes in enumerate(sets.values()):
        for j, net in enumerate(nets.values()):
            one = gradient_alignment(prototypes, X, Y, net, distiller=sets["A"], random_state=0)
            cell = found.scores[i, j], found.low[i, j], found.high[i, j]
            assert cell == (one.score, one.low, one.high)
    lines = [" ".join(line.split()) for line in found.to_markdown().splitlines()]
    assert lines[0] == "| gradient alignment | A | B |"
    assert lines[2].startswith(
        f"| A | {found.scores[0, 0]:.3f} [{found.low[0, 0]:.3f}, {found.high[0, 0]:.3f}] |"
    )
    with pytest.raises(ValueError, match="'calibrated' is none of this result"):
        found.values("calibrated")


def test_real_images_pass_each_backbone_of_a_matrix_once():
    net = counting_backbone()
    sets = {str(i): RandomImages(NET, random_state=i).fit(X, Y) for i in range(3)}
    gradient_alignment_matrix(sets, X, Y, backbones=[net], distiller=CLEAN)
    assert net.module.n_images == len(X) + 3 * 3


FITTED = RandomImages(NET, random_state=0).fit(X, Y)
IMAGES, LABELS = FITTED.prototypes_, FITTED.prototype_labels_


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gradients": RealGradients(list("abc"))}, "gradients take the place of X and y"),
        ({"X": None, "y": None, "gradients": [RealGradients(list("abc"))]}, "gradients"),
        (
            {"X": None, "y": None, "gradients": RealGradients(list("abc"))},
            "no image of the classes",
        ),
        (
            {
                "X": None,
                "y": None,
                "gradients": distiller(OTHER).compute_gradients(X, Y),
                "distiller": distiller(n_real_views=2),
            },
            "made with views",
        ),
        ({"y": np.where(Y == "a", "b", Y)}, r"include \['a'\]"),
        ({"y": np.where(np.arange(len(Y)) == 0, "z", Y)}, r"include \['z'\]"),
        ({"y": np.searchsorted(["a", "b", "c"], Y)}, "labels of one type"),
        ({"backbone": [NET, OTHER]}, "backbone"),
        ({"prototypes": PrototypeSet.from_estimator(FITTED), "backbone": None}, "pass backbone="),
        ({"distiller": RandomImages()}, "distiller"),
        ({"distiller": LGMDistiller(heads=RandomHeads(pool_size=0))}, "pool_size"),
        ({"distiller": LGMDistiller(heads=RandomHeads(pool_size=1))}, "Raise its pool_size"),
        ({"prototypes": PrototypeSet(IMAGES[:, :-1], LABELS)}, "have the shape"),
        ({"prototypes": PrototypeSet(IMAGES.mean(axis=(1, 2)), LABELS)}, "have the shape"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said(wrong, message):
    params = {"prototypes": FITTED, "X": X, "y": Y, "backbone": OTHER} | wrong
    with pytest.raises(ValueError, match=message):
        gradient_alignment(**params)


def test_what_has_no_prototypes_is_refused():
    features, y = rows()
    for other in ("clip", IMAGES, RandomImages, LogisticRegression().fit(features, y)):
        with pytest.raises((ValueError, TypeError)):
            gradient_alignment(other, X, Y, NET)
    with pytest.raises(NotFittedError):
        gradient_alignment(RandomImages(NET), X, Y, NET)
    for wrong in ([FITTED], None):
        with pytest.raises(ValueError, match="prototypes"):
            gradient_alignment_matrix(wrong, X, Y, backbones=[NET])
    chosen = RandomImages(None).fit(features, y)
    with pytest.raises(ValueError, match=r"have the shape \(6,\).*needs \(4,\)"):
        gradient_alignment(chosen, features[:, :4], y, None)


def test_more_images_of_a_class_change_nothing_when_classes_are_balanced():
    X2, Y2 = toy_images(n_per_class=4, seed=9)
    often = np.concatenate([np.arange(len(Y2)), *[np.flatnonzero(Y2 == "a")] * 3])
    first, same = (
        gradient_alignment(FITTED, X2[i], Y2[i], NET, distiller=CLEAN, random_state=0)
        for i in (slice(None), often)
    )
    assert_allclose(first.by_head, same.by_head, rtol=1e-5)
