"""Runs under torchrun: several processes that make one result."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import distributed

from sklgm.synthesis import ALONE, Ranks
from sklgm.utils.devices import resolve_device


@contextmanager
def torchrun_job(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the other processes of a torchrun job, if this is one, and leave them at the end.

    Yields this process's place in the job, and its device: where the ``device=`` parameter means a
    GPU, that of its own local rank. Too few GPUs, or a device that cannot send, are a ValueError.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ALONE, device
        return
    own, backend = resolve_device(device), "gloo"
    if own.type == "mps":
        raise ValueError("Under torchrun the device may be cuda or cpu, not mps. Set it to cpu.")
    if own.type == "cuda":
        own = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(own)
        # NCCL sends from GPUs alone, but seeds and counts are on the CPU.
        backend = "cpu:gloo,cuda:nccl"
    # The first step of Adam imports this, too. If it were imported when there is a group already,
    # it would keep hold of the group, and of threads that can abort the process at its end.
    import_module("torch._dynamo")
    store, rank, size = next(distributed.rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun starts lost processes again with the same store, in which their addresses are.
        store = distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Ranks.of_group(), str(own)
    finally:
        distributed.destroy_process_group()
