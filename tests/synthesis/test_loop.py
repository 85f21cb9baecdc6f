"""The loop: phases, micro-batches, steps, rates and seeds."""

import itertools
import math
import random
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from sklgm.matching import RealGradients, angular_distance, probe_gradients
from sklgm.matching.heads import HeadPool
from sklgm.synthesis import (
    BatchSize,
    FeatureRows,
    LoopState,
    MatchingSettings,
    Objective,
    Pixels,
    Pyramid,
    StandardAugmentation,
    match_gradients,
)
from sklgm.synthesis.augmentation import centre_views
from sklgm.synthesis.parametrization import Synthetic
from tests.tiny_backbones import CountingNet, TinyConvNet

CPU = torch.device("cpu")
CANVAS, SIZE, D, C = 18, 16, 6, 3
LABELS = torch.tensor([0, 1, 2])
EVERYTHING = StandardAugmentation((0.08, 1.0), blur=0.5, noise=0.5)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny_net(n_features=D, seed=0):
    return CountingNet(TinyConvNet(n_features, seed).eval().requires_grad_(False))


def real(n_features=D, head_scale=0.5, head_seed=1):
    """Three classes, each around a corner of its own."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(C), 10)
    rows = 2 * np.eye(C, n_features)[y] + 0.3 * rng.normal(size=(30, n_features))
    gradients = RealGradients(
        range(C), head_pool_size=8, head_scale=head_scale, head_seed=head_seed
    )
    return gradients.update(rows, y)


def on_images(net, batch_size=1000, gradients=None, centre_share=7 / 8):
    return Objective(gradients or real(), net, SIZE, BatchSize(batch_size), centre_share)


def on_rows(gradients, features=lambda z: z):
    return Objective(gradients, features, None, BatchSize(1000), 1)


def images(strategy=None, max_iter=20):
    return (strategy or Pyramid()).start(C, CANVAS, max_iter, seeded(5), CPU)


def rows(gradients, n=C):
    mean, std = map(torch.from_numpy, gradients.feature_moments())
    return FeatureRows(n, mean, std, seeded(5))


def run(synthetic, *objectives, labels=LABELS, generator=None, **changes):
    on_pixels = objectives[0].image_size is not None
    settings = {
        "augmentation": EVERYTHING if on_pixels else None,
        "n_views": 4 if on_pixels else 0,
        "max_iter": 20,
        "learning_rate": 0.05,
        "n_heads": 4,
        "matching": "global",
    }
    state = LoopState(synthetic, len(labels), len(objectives), generator or seeded(9))
    return match_gradients(state, labels, objectives, MatchingSettings(**settings | changes))


def two_distances(features, gradients, heads, matching="global", recent=()):
    """Return the loss of features (C, 5, D), a centre crop and four views of each sample."""
    heads, targets = gradients.heads.take(np.array(heads)), gradients.sums[heads]

    def distance(rows, labels):
        found = probe_gradients(rows, labels, heads.to(rows.dtype))
        return angular_distance(found, targets.to(rows.dtype), matching)

    labels = LABELS.repeat_interleave(4)
    views = torch.cat([features[:, 1:].flatten(0, 1), *recent])
    of_crops = distance(features[:, 0], LABELS)
    return 0.2 * of_crops + 0.8 * distance(views, labels.repeat(1 + len(recent)))


def crops_and_views(net, canvases, size, generator):
    """Return features (C, 5, D) of what a step shows of each canvas, cut one by one."""
    drawn = EVERYTHING.draw(C * 5, CANVAS, generator)
    shown = []
    for i in range(C * 5):
        canvas = canvases[i // 5][None]
        if i % 5 == 0:
            crop = centre_views(canvas, size, 7 / 8)
            shown.append(crop.flip(-1) if drawn.flip[i] else crop)
        else:
            shown.append(EVERYTHING.apply(canvas, drawn[i : i + 1], size))
    return net(torch.cat(shown)).view(C, 5, -1)


# One step


class Given(Synthetic):
    """Samples that stay as they are, with their graph to some leaves."""

    def __init__(self, samples, leaves):
        self.samples = samples
        self.parameters = list(leaves)

    def decode(self):
        return self.samples


def once(samples, *objectives, leaves=None, **changes):
    """Take one step that moves nothing; gradients are found in the leaves. Return the loss."""
    synthetic = Given(samples, [samples] if leaves is None else leaves)
    still = {"n_heads": 3, "max_iter": 1, "learning_rate": 0.0, "augmentation": EVERYTHING}
    (step,) = run(synthetic, *objectives, generator=seeded(2), **still | changes)
    return step.loss


def heads_and_generator():
    """Return the heads that `once` draws, and the generator that draws its views."""
    generator = seeded(2)
    return torch.randperm(8, generator=generator)[:3].tolist(), generator


def one_backward(batch_size, net=None, matching="global"):
    """Gradient of every level of a grown pyramid after one back-propagation."""
    synthetic = images(Pyramid(grow_every=1))
    for _ in range(3):
        synthetic.grow(100)
    objective = on_images(net or tiny_net(), batch_size)
    leaves = synthetic.parameters
    loss = once(synthetic.decode(), objective, leaves=leaves, matching=matching)
    return loss, [level.grad for level in leaves]


@pytest.mark.parametrize("batch_size", [1, 4, 14, 1000])
@pytest.mark.parametrize("matching", ["global", "row"])
def test_gradients_are_those_of_plain_autograd(batch_size, matching):
    """All views in one graph, the distances of their gradients, backward: in float64."""
    synthetic = images(Pyramid(grow_every=1))
    for _ in range(3):
        synthetic.grow(100)
    net, gradients = tiny_net().double(), real()
    heads, generator = heads_and_generator()
    features = crops_and_views(net, synthetic.decode().double(), SIZE, generator)
    expected = two_distances(features, gradients, heads, matching)
    expected.backward()

    loss, by_level = one_backward(batch_size, matching=matching)
    assert not loss.requires_grad
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    for one, level in zip(by_level, synthetic.parameters, strict=True):
        error = (one - level.grad).abs().max() / level.grad.abs().max()
        assert error < 1e-4


def test_both_phases_see_the_same_views():
    seen = []
    net = tiny_net()
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    one_backward(4, net)
    half = len(seen) // 2
    for first, second in zip(seen[:half], seen[half:], strict=True):
        assert torch.equal(first, second)
    at_once = []
    net = tiny_net()
    net.register_forward_pre_hook(lambda module, inputs: at_once.append(inputs[0].detach()))
    one_backward(1000, net)
    torch.testing.assert_close(torch.cat(seen[:half]), at_once[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "calls", "n_images"),
    [(1000, 1, 15), (15, 1, 15), (14, 4, 30), (4, 8, 30), (1, 30, 30)],
)
def test_one_forward_when_all_fits_two_otherwise(batch_size, calls, n_images):
    net = tiny_net()
    one_backward(batch_size, net)
    assert (net.n_calls, net.n_images) == (calls, n_images)
    assert net.largest_batch <= batch_size


def test_one_forward_in_parts_when_all_graphs_fit():
    net, whole = tiny_net(), one_backward(1000)
    objective = replace(on_images(net), batch_size=BatchSize(4, 15))
    synthetic = images(Pyramid(grow_every=1))
    for _ in range(3):
        synthetic.grow(100)
    loss = once(synthetic.decode(), objective, leaves=synthetic.parameters)
    assert (net.n_calls, net.n_images, net.largest_batch) == (4, 15, 4)
    torch.testing.assert_close(loss, whole[0], rtol=1e-5, atol=1e-6)
    for level, expected in zip(synthetic.parameters, whole[1], strict=True):
        assert (level.grad - expected).abs().max() < 1e-5 * expected.abs().max()


def test_first_phase_keeps_no_graph():
    graphs = []
    net = tiny_net()
    net.register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    one_backward(4, net)
    assert graphs == [False] * 4 + [True] * 4


def test_views_belong_to_their_sample():
    """A sample that is black gives views that are black, labelled with its class."""
    samples = torch.zeros(C, 3, CANVAS, CANVAS)
    samples[1], samples[2] = 0.5, 1.0
    seen = []

    def features(pixels):
        seen.append(pixels.detach().mean(dim=(1, 2, 3)))
        return pixels.mean(dim=(2, 3)) @ torch.ones(3, D)

    plain = StandardAugmentation()
    samples.requires_grad_()
    once(samples, on_images(features, 4), augmentation=plain, n_views=2)
    owners = torch.tensor([0.0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1])
    torch.testing.assert_close(torch.cat(seen), owners.repeat(2))
    assert (samples.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
@pytest.mark.parametrize("share", [7 / 8, 1])
def test_without_augmentation_the_centre_crop_is_embedded(batch_size, share):
    """As the real images are; the net takes no canvas."""
    net, seen = tiny_net(), []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    samples = images(Pixels()).decode().detach().requires_grad_()
    objective = on_images(net, batch_size, centre_share=share)
    once(samples, objective, augmentation=None, n_views=0)
    found = torch.cat(seen)[:C]
    assert found.shape == (C, 3, SIZE, SIZE)
    assert torch.equal(found, centre_views(samples.detach(), SIZE, share))


def test_several_samples_a_class_and_classes_without_any():
    gradients = real()
    labels = torch.tensor([2, 2, 0])
    losses = [step.loss for step in run(rows(gradients), on_rows(gradients), labels=labels)]
    assert losses[-1] < losses[0]


# The run


@pytest.mark.parametrize("matching", ["global", "row"])
def test_loss_falls_on_features(matching):
    gradients = real()
    synthetic = rows(gradients)
    steps = list(run(synthetic, on_rows(gradients), max_iter=150, n_heads=8, matching=matching))
    losses = torch.stack([step.loss for step in steps])
    assert losses[-1] < 0.2 * losses[0]
    # Reported is the loss before the step, with all heads of the pool.
    found = probe_gradients(rows(gradients).decode(), LABELS, gradients.heads.take(slice(None)))
    torch.testing.assert_close(
        losses[0], angular_distance(found, gradients.sums, matching).detach()
    )


def test_loss_falls_on_images():
    crops = {"augmentation": StandardAugmentation((0.5, 1.0)), "n_views": 2}
    steps = list(run(images(Pyramid(grow_every=2)), on_images(tiny_net()), max_iter=60, **crops))
    losses = torch.stack([step.loss for step in steps])
    assert losses[-10:].mean() < 0.8 * losses[:10].mean()


@pytest.mark.parametrize("max_iter", [1, 2, 30])
def test_exactly_max_iter_steps(max_iter):
    """The published scripts take 5001 instead of 5000."""
    gradients = real()
    synthetic, calls = rows(gradients), itertools.count()
    objective = on_rows(gradients, lambda z: (next(calls), z)[1])
    steps = list(run(synthetic, objective, max_iter=max_iter))
    assert [step.index for step in steps] == list(range(max_iter))
    assert next(calls) == max_iter


def test_steps_are_those_of_a_loop_by_hand():
    """With all heads in every step: autograd of the distance, then Adam's update written out."""
    gradients = real()
    synthetic, mine = rows(gradients), rows(gradients)
    (row,) = mine.parameters
    first, second = torch.zeros_like(row), torch.zeros_like(row)
    for step in run(synthetic, on_rows(gradients), n_heads=8, max_iter=6):
        found = probe_gradients(mine.decode(), LABELS, gradients.heads.take(slice(None)))
        (by_row,) = torch.autograd.grad(angular_distance(found, gradients.sums), row)
        first = 0.5 * first + 0.5 * by_row
        second = 0.999 * second + 0.001 * by_row**2
        t = step.index + 1
        rate = 0.025 * (1 + math.cos(math.pi * step.index / 6))
        with torch.no_grad():
            row -= rate * (first / (1 - 0.5**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(synthetic.parameters[0], row, rtol=1e-4, atol=1e-4)


def test_features_of_earlier_steps_count_in_the_loss():
    """None at first, then those of four steps; the loss is that of all of them together."""
    net, gradients = tiny_net(), real()
    seen = []
    net.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    n_recent = [0, 0, 1, 2, 3, *[4] * 15]
    for step in run(images(), on_images(net, gradients=gradients), n_heads=8):
        features = [rows.view(C, 5, D) for rows in seen]
        before = features[step.index - n_recent[step.index] : step.index]
        recent = [rows[:, 1:].flatten(0, 1) for rows in before]
        expected = two_distances(features[-1], gradients, range(8), recent=recent)
        torch.testing.assert_close(step.loss, expected, rtol=1e-4, atol=1e-5)
    assert len(seen) == 20


class SpyAdam(torch.optim.Adam):
    made = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.made.append(self)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr(SpyAdam, "made", [])
    monkeypatch.setattr(torch.optim, "Adam", SpyAdam)
    return SpyAdam.made


def test_moments_of_old_levels_survive_a_new_one(spy):
    synthetic = images(Pyramid(grow_every=3))
    moments = {}
    for step in run(synthetic, on_images(tiny_net()), n_views=1, max_iter=20):
        (adam,) = spy
        assert len({group["lr"] for group in adam.param_groups}) == 1
        levels = synthetic.parameters
        assert len(levels) == min(1 + step.index // 3, 6)
        assert sum(len(group["params"]) for group in adam.param_groups) == len(levels)
        for born, level in enumerate(levels):
            state = adam.state[level]
            assert state["step"] == step.index + 1 - 3 * born
            # Both moments continue from the step before: from zero only where a level is new.
            first, second = moments.get(born, (torch.zeros_like(level),) * 2)
            beta1, beta2 = adam.defaults["betas"]
            for key, old, beta, new in (
                ("exp_avg", first, beta1, level.grad),
                ("exp_avg_sq", second, beta2, level.grad**2),
            ):
                expected = beta * old + (1 - beta) * new
                error = (state[key] - expected).abs().max() / expected.abs().max()
                assert error < 1e-5
            moments[born] = state["exp_avg"].clone(), state["exp_avg_sq"].clone()
    assert len(moments) == 6


def test_stop_early_is_to_stop_iterating():
    gradients = real()
    stopped, whole = rows(gradients), rows(gradients)
    steps = run(stopped, on_rows(gradients))
    first = list(itertools.islice(steps, 7))
    after_seven = stopped.decode().detach().clone()
    steps.close()
    assert torch.equal(stopped.decode(), after_seven)
    continued = []
    for step in run(whole, on_rows(gradients)):
        continued.append(step.loss)
        if step.index == 6:
            assert torch.equal(whole.decode(), after_seven)
    assert [step.loss for step in first] == continued[:7]
    assert len(continued) == 20


@pytest.mark.parametrize(("strategy", "batch_size"), [(Pyramid(grow_every=2), 4), (Pixels(), 1000)])
def test_same_seed_same_images_bit_for_bit(strategy, batch_size):
    results = []
    for seed in (9, 9, 10):
        synthetic = images(strategy)
        objective = on_images(tiny_net(), batch_size)
        steps = list(run(synthetic, objective, n_views=2, max_iter=8, generator=seeded(seed)))
        results.append((torch.stack([s.loss for s in steps]), synthetic.decode().detach()))
    (losses, pixels), (same_losses, same_pixels), (_, other) = results
    assert torch.equal(losses, same_losses)
    assert torch.equal(pixels, same_pixels)
    assert not torch.allclose(pixels, other)


def test_global_generators_are_left_alone():
    torch_state = torch.get_rng_state()
    python_state = random.getstate()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    list(run(images(), on_images(tiny_net(), 4), max_iter=3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert random.getstate() == python_state


def test_real_gradients_and_net_are_left_alone():
    gradients, net = real(), tiny_net()
    sums = gradients.sums.clone()
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    list(run(images(), on_images(net, 4, gradients), max_iter=3))
    assert torch.equal(gradients.sums, sums)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_caller_without_gradients():
    gradients = real()
    with torch.no_grad():
        steps = list(run(images(), on_images(tiny_net(), 4, gradients), max_iter=3))
    expected = list(run(images(), on_images(tiny_net(), 4, gradients), max_iter=3))
    assert [step.loss for step in steps] == [step.loss for step in expected]


@pytest.mark.parametrize("n_heads", [1, 8, 1000])
def test_heads_are_drawn_without_repetition_and_each_step_anew(n_heads, monkeypatch):
    gradients = real()
    taken = []
    take = type(gradients.heads).take
    monkeypatch.setattr(
        type(gradients.heads),
        "take",
        lambda self, i, d: taken.append(i.tolist()) or take(self, i, d),
    )
    list(run(rows(gradients), on_rows(gradients), max_iter=30, n_heads=n_heads))
    assert len(taken) == 30
    for heads in taken:
        assert len(set(heads)) == len(heads) == min(n_heads, 8)
    assert set(itertools.chain(*taken)) == set(range(8))
    assert len(set(map(tuple, taken))) > 5


def test_targets_are_those_of_the_drawn_heads():
    """With samples that are the real rows, every head's gradient is matched from the start."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(6, D)).astype(np.float32)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    gradients = RealGradients(range(C), head_pool_size=8, head_scale=1.0)
    gradients.update(features, labels.numpy())
    synthetic = FeatureRows(6, torch.zeros(D), torch.ones(D), seeded())
    with torch.no_grad():
        synthetic.parameters[0].copy_(torch.from_numpy(features))
    (step,) = run(synthetic, on_rows(gradients), labels=labels, max_iter=1, n_heads=2)
    assert abs(step.loss) < 1e-5


def test_one_view_is_smaller_than_the_batch():
    """The published scripts raise a TypeError for a data set smaller than one batch."""
    (step,) = run(images(), on_images(tiny_net(), 10**9), n_views=1, max_iter=1)
    assert math.isfinite(step.loss)


# Several objectives


def other_objective(batch_size=1000, net=None):
    """Another net with other features, another size and other heads."""
    net = net or tiny_net(9, seed=1)
    return Objective(real(9, head_seed=2), net, 10, BatchSize(batch_size), 7 / 8)


@pytest.mark.parametrize(
    ("batch_sizes", "matching"),
    [((1000, 1000), "global"), ((4, 1000), "row"), ((1, 7), "global")],
)
def test_losses_and_gradients_add_up(batch_sizes, matching):
    """All views of both nets in one graph, the sum of the distances, backward: in float64."""
    synthetic = images(Pixels())
    (pixels,) = synthetic.parameters
    objectives = [on_images(tiny_net(), batch_sizes[0]), other_objective(batch_sizes[1])]
    loss = once(synthetic.decode(), *objectives, leaves=[pixels], matching=matching)
    found, pixels.grad = pixels.grad, None

    expected = 0
    for objective in objectives:
        heads, generator = heads_and_generator()
        canvases, net = synthetic.decode().double(), objective.features.double()
        features = crops_and_views(net, canvases, objective.image_size, generator)
        expected = expected + two_distances(features, objective.gradients, heads, matching)
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-5)
    assert (found - pixels.grad).abs().max() / pixels.grad.abs().max() < 1e-4


@pytest.mark.parametrize("batch_size", [4, 1000])
def test_nothing_of_an_objective_is_kept_for_the_next(batch_size):
    alive, counts = weakref.WeakSet(), []
    first, second = tiny_net(), tiny_net(9, seed=1)
    first.register_forward_hook(lambda module, inputs, output: alive.add(output))
    second.register_forward_pre_hook(lambda module, inputs: counts.append(len(alive)))
    objectives = on_images(first, batch_size), other_objective(batch_size, second)
    list(run(images(), *objectives, max_iter=2))
    assert set(counts) == {0}
    assert max(first.largest_batch, second.largest_batch) <= batch_size


def test_heads_are_the_same_of_every_pool(monkeypatch):
    objectives = on_images(tiny_net()), other_objective()
    taken = []
    take = HeadPool.take
    monkeypatch.setattr(
        HeadPool,
        "take",
        lambda self, i, d: taken.append((self.seed, i.tolist())) or take(self, i, d),
    )
    list(run(images(), *objectives, max_iter=5))
    assert [seed for seed, _ in taken] == [1, 2] * 5
    assert all(taken[i][1] == taken[i + 1][1] for i in range(0, 10, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_step_does_not_wait_for_the_gpu():
    gpu = torch.device("cuda", torch.cuda.current_device())
    objective = on_images(tiny_net().to(gpu), gradients=real().to(gpu))
    synthetic = Pyramid(grow_every=1).start(C, CANVAS, 20, seeded(5), gpu)
    steps = run(synthetic, objective, labels=LABELS.to(gpu))
    while not synthetic.is_complete:  # a new level is drawn on the CPU
        next(steps)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [step.loss for step in steps]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert len(losses) == 14
    assert torch.stack(losses).isfinite().all()
