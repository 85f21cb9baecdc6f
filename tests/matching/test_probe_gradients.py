"""The closed forms against autograd: the probe's gradient, the angular distance, its derivative."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from sklgm.matching import angular_distance, gradients, matching_loss, probe_gradients

N, D, C, H = 7, 5, 3, 4
MATCHINGS = ["global", "row"]


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.tensor([0, 1, 2, 2, 1, 0, 2])
    return normal(N, D), labels, 0.7 * normal(H, C, D), normal(H, C, D + 1)


def linear_probe(head):
    probe = nn.Linear(head.shape[1], head.shape[0], dtype=head.dtype)
    with torch.no_grad():
        probe.weight.copy_(head)
        probe.bias.zero_()
    return probe


def autograd_gradient(features, labels, head, weights=None, **kwargs):
    """Gradient of the summed cross-entropy of a real ``nn.Linear``, its bias in the last column."""
    probe = linear_probe(head)
    losses = F.cross_entropy(probe(features), labels, reduction="none")
    loss = losses.sum() if weights is None else losses @ weights
    by_weight, by_bias = torch.autograd.grad(loss, [probe.weight, probe.bias], **kwargs)
    return torch.cat([by_weight, by_bias[:, None]], dim=1)


def autograd_matching(features, labels, heads, targets, matching):
    """The matching loss and its derivative by autograd's own double backward."""
    features = features.clone().requires_grad_()
    distances = []
    for head, target in zip(heads, targets, strict=True):
        found = autograd_gradient(features, labels, head, create_graph=True)
        pairs = [(found.flatten(), target.flatten())]
        if matching == "row":
            pairs = list(zip(found, target, strict=True))
        cosines = [a @ b / (a.square().sum().sqrt() * b.square().sum().sqrt()) for a, b in pairs]
        distances.append(1 - sum(cosines) / len(cosines))
    loss = sum(distances) / len(distances)
    loss.backward()
    return loss.detach(), features.grad


@pytest.mark.parametrize("weighted", [False, True])
def test_probe_gradients_are_autograds(problem, weighted):
    features, labels, heads, _ = problem
    weights = torch.linspace(0, 3, N, dtype=torch.float64) if weighted else None
    found = probe_gradients(features, labels, heads, weights)
    assert found.shape == (H, C, D + 1)
    for gradient, head in zip(found, heads, strict=True):
        expected = autograd_gradient(features, labels, head, weights)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_probe_gradients_of_no_rows_are_zero(problem):
    features, labels, heads, _ = problem
    found = probe_gradients(features[:0], labels[:0], heads)
    assert torch.equal(found, torch.zeros(H, C, D + 1, dtype=torch.float64))


def test_probe_gradients_gradcheck(problem):
    features, labels, heads, _ = problem
    weights = torch.linspace(0.5, 2, N, dtype=torch.float64)
    features.requires_grad_()
    assert gradcheck(lambda z: probe_gradients(z, labels, heads), features)
    assert gradcheck(lambda z: probe_gradients(z, labels, heads, weights), features)


def test_class_that_no_row_has(problem):
    features, _, heads, _ = problem
    labels = torch.zeros(N, dtype=torch.int64)
    found = probe_gradients(features, labels, heads)
    for gradient, head in zip(found, heads, strict=True):
        torch.testing.assert_close(gradient, autograd_gradient(features, labels, head))


@pytest.mark.parametrize("matching", MATCHINGS)
def test_angular_distance_is_scipys(problem, matching):
    targets = problem[3]
    others = targets.flip(0) + 0.3 * targets
    if matching == "global":
        pairs = [(a.flatten(), b.flatten()) for a, b in zip(targets, others, strict=True)]
    else:
        pairs = list(zip(targets.flatten(0, 1), others.flatten(0, 1), strict=True))
    expected = np.mean([cosine(a.numpy(), b.numpy()) for a, b in pairs])
    found = angular_distance(targets, others, matching)
    assert found.shape == ()
    np.testing.assert_allclose(found.item(), expected, rtol=1e-12)


def test_rows_of_a_gradient_pull_alike():
    """A row a thousand times longer than the others decides alone unless rows are compared."""
    a = torch.eye(3, 4, dtype=torch.float64)[None]
    b = a.clone()
    b[0, 0] *= -1
    a[0, 0] *= 1000
    np.testing.assert_allclose(angular_distance(a, b, "row"), 2 / 3)
    assert angular_distance(a, b, "global") > 1.5


@pytest.mark.parametrize("matching", MATCHINGS)
def test_matching_loss_is_the_double_backward(problem, matching):
    features, labels, heads, targets = problem
    loss, derivative = matching_loss(features, labels, heads, targets, matching)
    expected_loss, expected = autograd_matching(features, labels, heads, targets, matching)
    assert not loss.requires_grad
    assert not derivative.requires_grad
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(derivative, expected, rtol=0, atol=1e-10)
    assert derivative.abs().max() > 1e-3


@pytest.mark.parametrize("matching", MATCHINGS)
def test_matching_loss_is_the_distance_of_the_gradients(problem, matching):
    features, labels, heads, targets = problem
    loss, _ = matching_loss(features, labels, heads, targets, matching)
    found = probe_gradients(features, labels, heads)
    torch.testing.assert_close(loss, angular_distance(found, targets, matching))


@pytest.mark.parametrize("chunk", [2**20, 2 * C, 1], ids=["whole", "in twos", "in ones"])
@pytest.mark.parametrize("matching", MATCHINGS)
def test_all_features_count_in_the_derivative_by_some(problem, matching, chunk, monkeypatch):
    monkeypatch.setattr(gradients, "_CHUNK_FLOATS", chunk)
    features, labels, heads, targets = problem
    expected_loss, expected = autograd_matching(features, labels, heads, targets, matching)
    for rows in (slice(0, 2), slice(1, 3), slice(2, None), slice(0, 0)):
        loss, derivative = matching_loss(features, labels, heads, targets, matching, rows=rows)
        torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
        torch.testing.assert_close(derivative, expected[rows], rtol=0, atol=1e-10)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_matching_loss_gradcheck(problem, matching):
    features, labels, heads, targets = problem

    class MatchingLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            loss, derivative = matching_loss(z, labels, heads, targets, matching)
            ctx.save_for_backward(derivative)
            return loss

        @staticmethod
        def backward(ctx, by_loss):
            return by_loss * ctx.saved_tensors[0]

    assert gradcheck(MatchingLoss.apply, features.requires_grad_())


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("heads_at_once", [1, 2, 3])
def test_heads_in_chunks(problem, matching, heads_at_once, monkeypatch):
    features, labels, heads, targets = problem
    expected = matching_loss(features, labels, heads, targets, matching)
    largest = C * max(N, D + 1)
    monkeypatch.setattr(gradients, "_CHUNK_FLOATS", heads_at_once * largest)
    calls = []
    residuals = gradients.residuals
    monkeypatch.setattr(
        gradients,
        "residuals",
        lambda z, y, w, *rest: calls.append(len(w)) or residuals(z, y, w, *rest),
    )
    found = matching_loss(features, labels, heads, targets, matching)
    assert calls == [min(heads_at_once, H - start) for start in range(0, H, heads_at_once)]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_chunk_never_has_less_than_one_head(problem, monkeypatch):
    monkeypatch.setattr(gradients, "_CHUNK_FLOATS", 1)
    found = matching_loss(*problem, "row")
    expected = autograd_matching(*problem, "row")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_what_is_given_stays_as_it_is(problem, matching):
    before = [x.clone() for x in problem]
    matching_loss(*problem, matching)
    probe_gradients(*problem[:3])
    angular_distance(problem[3], problem[3], matching)
    for x, y in zip(problem, before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_float32_stays_finite_and_close(problem, matching, scale):
    features, labels, heads, targets = problem
    features = features * scale
    heads = heads / scale
    expected_loss, expected = autograd_matching(features, labels, heads, targets, matching)
    loss, derivative = matching_loss(
        features.float(), labels, heads.float(), 1e6 * targets.float(), matching
    )
    assert loss.dtype == derivative.dtype == torch.float32
    np.testing.assert_allclose(loss.item(), expected_loss.item(), atol=1e-5)
    error = (derivative.double() - expected).abs().max() / expected.abs().max()
    assert error < 1e-4


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_targets_count_as_orthogonal(problem, matching, dtype):
    features, labels, heads, targets = (
        x.to(dtype) if x.is_floating_point() else x for x in problem
    )
    loss, derivative = matching_loss(features, labels, heads, torch.zeros_like(targets), matching)
    np.testing.assert_allclose(loss.item(), 1, atol=1e-6)
    assert torch.equal(derivative, torch.zeros_like(derivative))


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_gradient_counts_as_orthogonal(matching, dtype):
    """Two equal rows of two classes cancel exactly where the head cannot tell the classes."""
    features = torch.ones(2, D, dtype=dtype)
    heads = torch.linspace(-1, 1, D, dtype=dtype).expand(H, 2, D).clone()
    labels = torch.tensor([0, 1])
    assert torch.equal(
        probe_gradients(features, labels, heads), torch.zeros(H, 2, D + 1, dtype=dtype)
    )
    targets = torch.ones(H, 2, D + 1, dtype=dtype)
    loss, derivative = matching_loss(features, labels, heads, targets, matching)
    assert loss == 1
    assert torch.equal(derivative, torch.zeros_like(derivative))


@pytest.mark.parametrize("matching", MATCHINGS)
def test_saturated_probe_is_finite(matching):
    """Logits of +-1e6: probabilities are 0 or 1 to the last bit."""
    features = torch.eye(3)
    heads = (1e6 * torch.eye(3))[None]
    targets = torch.ones(1, 3, 4)
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])):
        loss, derivative = matching_loss(features, labels, heads, targets, matching)
        assert torch.isfinite(loss)
        assert torch.isfinite(derivative).all()


def test_targets_of_another_dtype(problem):
    features, labels, heads, targets = problem
    loss, derivative = matching_loss(features, labels, heads, targets.float())
    expected = matching_loss(features, labels, heads, targets)
    assert derivative.dtype == torch.float64
    torch.testing.assert_close((loss, derivative), expected, rtol=1e-6, atol=1e-7)
