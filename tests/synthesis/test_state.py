"""The state of the loop: what comes after it is as if nothing had come between."""

import itertools

import pytest
import torch

from sklgm.matching import RealGradients
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
from tests.tiny_backbones import TinyConvNet

N_STEPS = 15
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
NETS = [TinyConvNet(6, seed=i).requires_grad_(False).eval() for i in range(2)]
GRADIENTS = [
    RealGradients(range(3), head_pool_size=8).update(
        torch.randn(12, 6, generator=torch.Generator().manual_seed(i)), [0, 1, 2] * 4
    )
    for i in range(2)
]


def begin(kind, resume=None, device="cpu"):
    """Return what is optimised, and the steps of it."""
    device = torch.device(device)
    generator = torch.Generator().manual_seed(5)
    if kind == "rows":
        mean, std = (torch.from_numpy(m).to(device) for m in GRADIENTS[0].feature_moments())
        synthetic = FeatureRows(6, mean, std, generator)
        objectives = [Objective(GRADIENTS[0], lambda rows: rows, None, BatchSize(1000), 1)]
    else:
        synthetic = kind.start(6, 18, N_STEPS, generator, device)
        objectives = [
            Objective(gradients, net.to(device), 16, BatchSize(5), 7 / 8)
            for gradients, net in zip(GRADIENTS, NETS, strict=True)
        ]
    settings = MatchingSettings(
        augmentation=None if kind == "rows" else StandardAugmentation(blur=0.5, noise=0.5),
        n_views=0 if kind == "rows" else 2,
        max_iter=N_STEPS,
        learning_rate=0.05,
        n_heads=4,
        matching="global",
    )
    state = LoopState(synthetic, 6, len(objectives), torch.Generator().manual_seed(9))
    if resume is not None:
        state.restore(resume)
    return synthetic, match_gradients(state, LABELS.to(device), objectives, settings)


KINDS = {
    "pyramid": Pyramid(grow_every=3),
    "a level each step": Pyramid(grow_every=1),
    "pixels": Pixels(),
    "rows": "rows",
}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_goes_on_from_any_step(kind, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    synthetic, steps = begin(KINDS[kind], device=device)
    states, losses = [], []
    for step in steps:
        # Copies, as of a file: the loop changes them.
        states.append({name: tensor.cpu().clone() for name, tensor in step.state().items()})
        losses.append(float(step.loss))
    expected = synthetic.decode()
    assert len(set(losses)) == N_STEPS
    for i in range(0, N_STEPS, 4):
        state = states[i]
        kept = {name: tensor.clone() for name, tensor in state.items()}
        other, rest = begin(KINDS[kind], state, device)
        indices, found = [], []
        for step in rest:
            indices.append(step.index)
            found.append(float(step.loss))
        assert indices == list(range(i + 1, N_STEPS))
        assert found == losses[i + 1 :]
        assert torch.equal(other.decode(), expected)
        assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())


def test_the_state_is_all_there_is():
    """Adam's moments of every level, the features remembered, and both generators."""
    _, steps = begin(KINDS["pyramid"])
    *_, last = itertools.islice(steps, 13)
    names = last.state().keys()
    levels = {f"level.{i}{part}" for i in range(5) for part in ("", ".exp_avg", ".exp_avg_sq")}
    levels |= {f"level.{i}.step" for i in range(5)}
    recent = {f"recent.{i}.{k}" for i in range(2) for k in range(4)}
    assert names == levels | recent | {"next_step", "generator", "synthetic.generator"}
    ages = [int(last.state()[f"level.{i}.step"]) for i in range(5)]
    assert ages == [13, 10, 7, 4, 1]
