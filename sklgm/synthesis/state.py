"""What a step of the loop changes; another process that has it goes on as if never stopped."""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from sklgm.synthesis.parametrization import Synthetic
from sklgm.synthesis.ranks import ALONE, Ranks

# Adam averages over fewer steps than is usual, since gradients are averaged already.
_BETAS = (0.5, 0.999)
_MOMENTS = ("exp_avg", "exp_avg_sq")


class LoopState:
    """All that a step of the loop changes: the samples, and what it draws and remembers.

    ``synthetic`` holds this process's share of the ``n`` samples of all processes. The generator is
    on the CPU, and must draw the same heads and views in all of them. ``recent`` has the features
    of the random views of earlier steps, for each objective.
    """

    def __init__(
        self,
        synthetic: Synthetic,
        n: int,
        n_objectives: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        self.synthetic = synthetic
        self.n = n
        self.own = ranks.share(n)
        self.generator = generator
        self.ranks = ranks
        self.recent: list[deque[Tensor]] = [deque() for _ in range(n_objectives)]
        self.next_step = 0
        on_gpu = synthetic.parameters[0].device.type == "cuda"
        self.optimizer = torch.optim.Adam(synthetic.parameters, betas=_BETAS, fused=on_gpu or None)

    def collect(self) -> dict[str, Tensor]:
        """Return the state of all processes, all of which must call this.

        Some tensors are no copies, and change with the next step of the loop.
        """
        state = {
            "next_step": torch.tensor([self.next_step]),
            "generator": self.generator.get_state(),
        }
        if self.synthetic.generator is not None:
            state["synthetic.generator"] = self.synthetic.generator.get_state()
        for i, level in enumerate(self.synthetic.parameters):
            # Empty where a process has no sample, and Adam nothing to remember.
            moments = self.optimizer.state.get(level, {})
            state[f"level.{i}"] = self.ranks.gather(level.detach(), self.n)
            for name in _MOMENTS:
                moment = moments.get(name, level.detach())
                state[f"level.{i}.{name}"] = self.ranks.gather(moment, self.n)
            steps = torch.full((len(level),), float(moments.get("step", 0)))
            state[f"level.{i}.step"] = self.ranks.gather(steps, self.n)[0].clone()
        for i, past in enumerate(self.recent):
            for k, features in enumerate(past):
                state[f"recent.{i}.{k}"] = features
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Bring a loop that is at its start to where :meth:`collect` found another."""
        self.next_step = int(state["next_step"])
        self.generator.set_state(state["generator"].cpu())
        if self.synthetic.generator is not None:
            self.synthetic.generator.set_state(state["synthetic.generator"].cpu())
        first = self.synthetic.parameters[0]
        moments = {}
        for i in range(sum(name.endswith(".step") for name in state)):
            level = state[f"level.{i}"][self.own].to(first.device, copy=True)
            if i == 0:
                with torch.no_grad():
                    first.copy_(level)
            else:
                self.synthetic.parameters.append(level.requires_grad_())
                self.optimizer.param_groups[0]["params"].append(level)
            moments[i] = {name: state[f"level.{i}.{name}"][self.own].clone() for name in _MOMENTS}
            moments[i]["step"] = state[f"level.{i}.step"].clone()
        # The optimizer puts moments on the device of their parameters.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        for i, past in enumerate(self.recent):
            while f"recent.{i}.{len(past)}" in state:
                past.append(state[f"recent.{i}.{len(past)}"].to(first.device))
