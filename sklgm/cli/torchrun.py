"""Runs under torchrun: several processes that make one result."""

from __future__ import annotations

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

    Parameters
    ----------
    device : str
        A ``device=`` parameter. On a machine with GPUs each process takes that of its own local
        rank, unless this is "cpu".

    Yields
    ------
    ranks : Ranks
        This process among those of the job.
    device : str
        The device of this process.

    Raises
    ------
    ValueError
        If there are more processes than GPUs, or the device is one that cannot send.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ALONE, device
        return
    kind = resolve_device(device)
    if kind.type == "mps":
        raise ValueError("Under torchrun the device may be cuda or cpu, not mps. Set it to cpu.")
    if kind.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        n_devices = torch.cuda.device_count()
        if local >= n_devices:
            raise ValueError(
                f"torchrun started more processes than there are GPUs, {n_devices}. Lower "
                f"--nproc-per-node, or set the device to cpu."
            )
        kind = torch.device("cuda", local)
        torch.cuda.set_device(kind)
    # What the first step of Adam imports, too. Imported once there is a group it would keep hold of
    # it, and of threads that can abort the process at its end.
    import_module("torch._dynamo")
    # NCCL sends from GPUs alone, and seeds and counts are on the CPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if kind.type == "cuda" else "gloo")
    try:
        yield Ranks.of_group(), str(kind)
    finally:
        distributed.destroy_process_group()
