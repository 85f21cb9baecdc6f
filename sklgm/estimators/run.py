"""What goes on around the method during one fit: callbacks, kept work, the processes of a job."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.callback import CallbackContext
from torch import Tensor

from sklgm.checkpoint.memory import cached, hash_each
from sklgm.checkpoint.state import FitState
from sklgm.matching import RealGradients
from sklgm.synthesis import Ranks, Step

# Steps between two looks at whether the loss is finite, since to look is to wait for the device.
_FINITE_EVERY = 50


class Seeds(NamedTuple):
    """One seed for each purpose, so that changing one part leaves the others' draws alone."""

    heads: int
    real_views: int
    start: int
    steps: int


class Run:
    """One fit of an estimator, as its callbacks, its cache and its job see it.

    ``settings`` are everything that the result depends on, beside data and ``seeds``, which are
    drawn when all processes of the job were given the same.
    """

    def __init__(self, estimator: Any, memory: Any, ranks: Ranks, settings: list[Any]) -> None:
        self.estimator = estimator
        self.memory = memory
        self.ranks = ranks
        # Hashed before the work, in which an object may change.
        self.settings = hash_each(settings) if memory is not None or ranks.size > 1 else ""
        self.seeds: Seeds
        self._context: CallbackContext

    @contextmanager
    def begun(self, n_tasks: int, **data: Any) -> Iterator[None]:
        """Tell callbacks that the fit begins and, unless it fails, that it ends."""
        self._context = self.estimator._init_callback_context(max_subtasks=n_tasks)
        self._context.call_on_fit_task_begin(estimator=self.estimator, **data)
        yield
        self._context.call_on_fit_task_end(estimator=self.estimator, **data)

    def once(
        self, key: Callable[[], Any], compute: Callable[[Callable[[int], None]], RealGradients]
    ) -> RealGradients:
        """Return gradients that were kept under a key, or compute and keep them.

        ``compute`` is given a function to call after each batch, with its size. What a cache has
        kept or keeps is on the CPU.
        """
        with self._task("real-gradients", None) as task:

            def on_batch(n_samples: int) -> None:
                batch = task.subcontext(task_name="batch")
                batch.call_on_fit_task_begin(estimator=self.estimator)
                of_batch = {"n_samples": n_samples}
                batch.call_on_fit_task_end(estimator=self.estimator, metadata=of_batch)

            if self.memory is None:
                return compute(on_batch)
            return cached(self.memory, key, lambda: compute(on_batch).to("cpu"))

    def follow(
        self, steps: Iterator[Step], kept: FitState, attributes: Callable[[Tensor], dict[str, Any]]
    ) -> Tensor:
        """Take the steps that are left, after those kept, and return all losses (n_iter,).

        ``attributes`` returns the fitted attributes that follow from the losses so far and from the
        samples.
        """
        max_iter = self.estimator.max_iter
        # One tensor: small ones kept from every step would fragment the heap.
        losses = torch.full((max_iter,), torch.nan)
        n_iter = n_kept = len(kept.losses)
        losses[:n_kept] = kept.losses
        n_left = 0 if kept.stopped else max_iter - n_kept
        if self.estimator.verbose and n_kept:
            print(f"goes on after step {n_kept} of {max_iter}, found in memory")  # noqa: T201
        with self._task("synthesis", n_left) as task, kept.holding_interrupts():
            for n_iter in range(n_kept + 1, n_kept + n_left + 1):
                context = task.subcontext(task_name="step")
                context.call_on_fit_task_begin(estimator=self.estimator)
                step = next(steps)
                losses = losses.to(step.loss.device)
                losses[n_iter - 1] = step.loss
                if self.estimator.verbose and n_iter % math.ceil(max_iter / 10) == 0:
                    print(f"step {n_iter} of {max_iter}: loss {float(step.loss):.3f}")  # noqa: T201
                so_far = losses[:n_iter]
                # To gather the prototypes, all processes would have to ask at the same time.
                of_now = partial(attributes, so_far) if self.ranks.size == 1 else None
                stop = context.call_on_fit_task_end(
                    estimator=self.estimator, reconstruction_attributes=of_now
                )
                stop = stop or (n_iter % _FINITE_EVERY == 0 and not bool(so_far.isfinite().all()))
                if kept.after_step(step.state, so_far, bool(stop)):
                    break
        return losses[:n_iter]

    @contextmanager
    def _task(self, name: str, n_subtasks: int | None) -> Iterator[CallbackContext]:
        task = self._context.subcontext(task_name=name, max_subtasks=n_subtasks)
        task.call_on_fit_task_begin(estimator=self.estimator)
        yield task
        task.call_on_fit_task_end(estimator=self.estimator)


def check_same(ranks: Ranks, given: list[Any], fault: str) -> None:
    """Raise ValueError unless all processes of a job were given things of equal content."""
    if ranks.size > 1 and len(set(ranks.collect(hash_each(given)))) > 1:
        raise ValueError(f"The {ranks.size} processes of this torch.distributed job {fault}")


def check_finite(fitted: dict[str, Any], kept: FitState) -> None:
    """Raise ValueError if fitted attributes are not finite, say since when, and keep nothing."""
    finite = np.isfinite(fitted["loss_curve_"])
    if not finite.all():
        fault = f"The loss is not finite at step {finite.argmin()}"
    elif all(np.isfinite(fitted[name]).all() for name in ("prototypes_", "prototype_features_")):
        return
    else:
        fault = f"The prototypes or their features are not finite after step {len(finite) - 1}"
    kept.remove()
    raise ValueError(
        f"{fault}. Lower learning_rate or the scale of heads, or use precision='float32'."
    )
