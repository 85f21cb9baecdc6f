import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sklgm import Backbone, FrozenBackboneProbe, RandomImages
from sklgm.bias import object_focus
from tests.bias.toys import BORDER, CENTRE, PROBE, draw
from tests.tiny_backbones import tiny_backbone

Y = np.arange(12) % 3
X, MASKS = draw(Y, np.roll(Y, 1))
NET = tiny_backbone(14)


class MeansOfQuarters(nn.Module):
    """The mean of each colour in each quarter: linear, so that its gradient is known."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


QUARTERS = Backbone.from_module(MeansOfQuarters(), image_size=14)


def fitted(net, **params):
    settings = {"augmentation": None, "max_epochs": 100, "learning_rate": 0.02, "random_state": 0}
    return FrozenBackboneProbe(net, **(settings | params)).fit(X, Y)


def seen(images):
    """Return what the net of 14 pixels sees of images of 16."""
    return images[:, 1:15, 1:15]


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_controls(method):
    border = object_focus(fitted(BORDER), X, MASKS, method=method, patch_size=2)
    centre = object_focus(fitted(CENTRE), X, MASKS, method=method, patch_size=2)
    assert np.nanmax(border.fractions) == 0
    assert np.nanmin(centre.fractions) > 0.999
    np.testing.assert_allclose(border.areas, 36 / 196, atol=1e-6)
    assert border.summary()["lift"] == 0
    assert centre.summary()["lift"] == pytest.approx(196 / 36, rel=1e-3)
    assert f"method={method!r}" in repr(border)


def test_gradient_energy_of_a_linear_net_is_known():
    probe = fitted(QUARTERS)
    weight = probe.head_.module_.weight.detach().numpy().reshape(3, 3, 2, 2)
    margins = probe.decision_function(X)
    order = margins.argsort(axis=1)
    masks = np.zeros((12, 16, 16), bool)
    masks[:, :8, :8] = True  # the upper left quarter
    found = object_focus(probe, X, masks)
    for i in range(12):
        difference = weight[order[i, -1]] - weight[order[i, -2]]
        energy = (difference**2).sum(axis=0)
        assert found.fractions[i] == pytest.approx(energy[0, 0] / energy.sum(), rel=1e-4)
    np.testing.assert_allclose(found.areas, 0.25)


def test_gradient_energy_by_differences():
    probe = fitted(NET)
    pixels = torch.from_numpy(seen(X[:1])).permute(0, 3, 1, 2).double() / 255
    linear = probe.head_.module_

    def margin(pixels):
        scores = NET.features(pixels) @ linear.weight.T + linear.bias
        best = scores.topk(2, dim=1).values
        return (best[:, 0] - best[:, 1]).detach().numpy()

    step = 1e-2
    changes = step * torch.eye(3 * 14 * 14, dtype=torch.float64).reshape(-1, 3, 14, 14)
    slopes = (margin(pixels + changes) - margin(pixels - changes)) / (2 * step)
    energy = (slopes**2).reshape(3, 14, 14).sum(axis=0)
    expected = (energy * seen(MASKS)[0]).sum() / energy.sum()
    found = object_focus(probe, X[:1], MASKS[:1])
    assert found.fractions[0] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("side", [5, 14])
def test_occlusion_by_hand(side):
    probe = fitted(NET)
    linear = probe.head_.module_
    found = object_focus(probe, X, MASKS, method="occlusion", patch_size=side)

    def scores(image):
        with torch.no_grad():
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            return (NET.features(pixels) @ linear.weight.T + linear.bias)[0].numpy()

    for i, image in enumerate(seen(X) / 255):
        whole = scores(image)
        winner = whole.argmax()
        total = inside = 0.0
        for top in range(0, 14, side):
            for left in range(0, 14, side):
                hidden = image.copy()
                hidden[top : top + side, left : left + side] = image.mean(axis=(0, 1))
                without = scores(hidden)
                drop = (whole[winner] - np.delete(whole, winner).max()) - (
                    without[winner] - np.delete(without, winner).max()
                )
                total += max(drop, 0)
                covered = seen(MASKS)[i, top : top + side, left : left + side].mean()
                inside += max(drop, 0) * covered
        if total:
            assert found.fractions[i] == pytest.approx(inside / total, rel=1e-3, abs=1e-5)
        else:
            assert np.isnan(found.fractions[i])


def test_masks_are_cropped_and_resized_as_images_are():
    large = np.stack([np.kron(image, np.ones((4, 4, 1), np.uint8)) for image in X])
    masks = np.kron(MASKS, np.ones((1, 4, 4), bool))
    small = object_focus(fitted(CENTRE), X, MASKS)
    found = object_focus(fitted(CENTRE), large, masks)
    np.testing.assert_allclose(found.areas, small.areas, atol=0.02)
    np.testing.assert_allclose(found.fractions, small.fractions, atol=0.05)
    whole = object_focus(fitted(NET), X, np.ones((12, 16, 16)))
    np.testing.assert_allclose(whole.fractions, 1, rtol=1e-6)
    np.testing.assert_allclose(whole.areas, 1)


def test_batches_and_kinds_of_images_give_the_same(tmp_path):
    expected = object_focus(fitted(NET), X, MASKS)
    found = object_focus(fitted(NET, batch_size=5), X, list(MASKS.astype(float)))
    np.testing.assert_allclose(found.fractions, expected.fractions, rtol=1e-4)
    pictures = [Image.fromarray(image) for image in X]
    found = object_focus(fitted(NET), pictures, MASKS)
    np.testing.assert_allclose(found.fractions, expected.fractions, rtol=1e-6)


def test_a_probe_with_a_distiller():
    probe = FrozenBackboneProbe(NET, distiller=RandomImages(NET, random_state=0), max_epochs=50)
    probe.set_params(augmentation=PROBE.augmentation, random_state=0).fit(X, Y)
    found = object_focus(probe, X, MASKS)
    assert np.isfinite(found.fractions).all()
    before = [parameter.grad for parameter in NET.module.parameters()]
    assert all(gradient is None for gradient in before)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_heads_of_scikit_learn(n_classes):
    kept = n_classes > Y
    probe = FrozenBackboneProbe(NET, head=LogisticRegression(), augmentation=None)
    probe.fit(X[kept], Y[kept])
    twin = FrozenBackboneProbe(
        NET, head=SGDClassifier(loss="log_loss", random_state=0), augmentation=None
    ).fit(X[kept], Y[kept])
    coef, intercept = probe.head_.coef_, probe.head_.intercept_
    twin.head_.coef_, twin.head_.intercept_ = coef, intercept
    found, same = (object_focus(p, X, MASKS) for p in (probe, twin))
    np.testing.assert_array_equal(found.fractions, same.fractions)
    if n_classes == 2:
        pixels = (torch.from_numpy(seen(X)).permute(0, 3, 1, 2).float() / 255).requires_grad_()
        (NET.features(pixels) @ torch.from_numpy(coef).float().T).sum().backward()
        energy = pixels.grad.square().sum(dim=1).numpy()
        expected = (energy * seen(MASKS)).sum(axis=(1, 2)) / energy.sum(axis=(1, 2))
        np.testing.assert_allclose(found.fractions, expected, rtol=1e-4)


def test_no_effect_is_no_fraction():
    class Constant(nn.Module):
        def forward(self, images):
            return 0 * images.mean(dim=(2, 3))

    probe = fitted(Backbone.from_module(Constant(), image_size=14))
    found = object_focus(probe, X, MASKS)
    assert np.isnan(found.fractions).all()
    assert found.summary()["n_images"] == 0
    assert np.isnan(found.summary()["fraction"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"masks": MASKS[:-1]}, "inconsistent numbers of samples"),
        ({"masks": MASKS[..., None]}, r"masks\[0\] must have .*got shape \(16, 16, 1\)"),
        ({"masks": MASKS * 2}, r"masks\[0\] must have .*from 0 to 2"),
        ({"masks": MASKS[:, :-1]}, r"masks\[0\] must have the height and width of X\[0\]"),
        ({"method": "saliency"}, "The 'method' parameter"),
        ({"patch_size": 0}, "The 'patch_size' parameter"),
        ({"probe": 3}, "The 'probe' parameter"),
    ],
)
def test_errors(params, message):
    arguments = {"probe": fitted(NET, max_epochs=1), "X": X, "masks": MASKS, **params}
    with pytest.raises(ValueError, match=message):
        object_focus(**arguments)


# With three classes there are as many pairs of classes, one row of coef_ for each.
@pytest.mark.parametrize("head", [DecisionTreeClassifier(), SVC(kernel="linear")])
def test_heads_that_are_not_linear_are_refused(head):
    with pytest.raises(ValueError, match="are no linear function"):
        object_focus(fitted(NET, head=head), X, MASKS)


@pytest.mark.parametrize(
    "head", [LinearSVC(), make_pipeline(StandardScaler(), LogisticRegression())]
)
def test_any_linear_head_is_taken(head):
    found = object_focus(fitted(NET, head=head), X, MASKS)
    assert np.isfinite(found.fractions).all()


def test_rows_are_refused():
    probe = FrozenBackboneProbe(None, head=LogisticRegression()).fit(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match="backbone=None"):
        object_focus(probe, np.eye(3), MASKS[:3])
