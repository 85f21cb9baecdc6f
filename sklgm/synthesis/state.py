"""The state of the loop as tensors, with which another process goes on as if never stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sklgm.synthesis.parametrization import Synthetic
from sklgm.synthesis.ranks import Ranks

_MOMENTS = ("exp_avg", "exp_avg_sq")


def collect(
    step: int,
    synthetic: Synthetic,
    optimizer: torch.optim.Optimizer,
    recent: Sequence[Sequence[Tensor]],
    generator: torch.Generator,
    n: int,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """Return the state of the loop after a step.

    Parameters
    ----------
    step : int
        The step that comes next.
    synthetic : Synthetic
        This process's share of the samples.
    optimizer : torch.optim.Optimizer
        Adam, after its step.
    recent : sequence of sequences of Tensor
        Features of earlier steps, for each objective.
    generator : torch.Generator
        The generator that draws heads and views.
    n : int
        Number of samples of all processes.
    ranks : Ranks
        The processes, all of which must call this.

    Returns
    -------
    dict of str to Tensor
        The state of all processes, on the device of the samples or on the CPU. Tensors that are
        no copies change with the next step of the loop.
    """
    state = {"next_step": torch.tensor([step]), "generator": generator.get_state()}
    if synthetic.generator is not None:
        state["synthetic.generator"] = synthetic.generator.get_state()
    for i, level in enumerate(synthetic.parameters):
        # Empty where a process has no sample, and Adam nothing to remember.
        moments = optimizer.state.get(level, {})
        state[f"level.{i}"] = ranks.gather(level.detach(), n)
        for name in _MOMENTS:
            state[f"level.{i}.{name}"] = ranks.gather(moments.get(name, level.detach()), n)
        steps = torch.full((len(level),), float(moments.get("step", 0)))
        state[f"level.{i}.step"] = ranks.gather(steps, n)[0].clone()
    for i, past in enumerate(recent):
        for k, features in enumerate(past):
            state[f"recent.{i}.{k}"] = features
    return state


def restore(
    state: Mapping[str, Tensor],
    synthetic: Synthetic,
    optimizer: torch.optim.Optimizer,
    recent: Sequence[deque[Tensor]],
    generator: torch.Generator,
    own: slice,
) -> int:
    """Bring a loop that is at its start to where :func:`collect` found another.

    Parameters
    ----------
    state : mapping of str to Tensor
        The state that :func:`collect` returned.
    synthetic, optimizer, recent, generator
        Those of a loop at its start. They are changed in place.
    own : slice
        Which of the samples are this process's.

    Returns
    -------
    int
        The step to go on with.
    """
    generator.set_state(state["generator"].cpu())
    if synthetic.generator is not None:
        synthetic.generator.set_state(state["synthetic.generator"].cpu())
    first = synthetic.parameters[0]
    n_levels = sum(name.endswith(".step") for name in state)
    moments = {}
    for i in range(n_levels):
        level = state[f"level.{i}"][own].to(first.device, copy=True)
        if i == 0:
            with torch.no_grad():
                first.copy_(level)
        else:
            synthetic.parameters.append(level.requires_grad_())
            optimizer.add_param_group({"params": [level]})
        moments[i] = {name: state[f"level.{i}.{name}"][own].clone() for name in _MOMENTS}
        moments[i]["step"] = state[f"level.{i}.step"].clone()
    # Which puts moments where parameters are.
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for i, past in enumerate(recent):
        while f"recent.{i}.{len(past)}" in state:
            past.append(state[f"recent.{i}.{len(past)}"].to(first.device))
    return int(state["next_step"])
