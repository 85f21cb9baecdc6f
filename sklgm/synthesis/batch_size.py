"""How many images pass a net at once: as given, or as many as the memory allows."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# Parts of the messages of errors that torch does not raise as `torch.OutOfMemoryError`.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

# Pixels that pass at once by default: on a GPU 128 images of 224 x 224 (measured: an H100 passes a
# quarter fewer of 64 at once), on a CPU few enough for the caches of a core (512 images of 56 x 56
# take almost twice as long each as 64 do).
_GPU_PIXELS = 128 * 224**2
_CPU_PIXELS_PER_THREAD = 2**17
_MOST = 1024
# Passes whose graphs are kept at once before free memory is asked for.
_CPU_PASSES, _GPU_PASSES = 4, 2
# Share of the free memory that graphs may take.
_SHARE = 0.6
# Where Linux says how much memory is free, and how much a container may take.
_MEMORY, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


class BatchSize:
    """How many images pass a net at once, which sets the peak memory.

    ``graphs`` images may have their graphs kept at the same time, so that they need not pass again.
    If it is adaptive, a pass that runs out of memory is tried again with half as many graphs, and
    with no more images at once than graphs.
    """

    def __init__(self, images: int, graphs: int | None = None, *, adaptive: bool = False) -> None:
        self.images = images
        self.graphs = images if graphs is None else graphs
        self.adaptive = adaptive
        self._measured = not adaptive

    @classmethod
    def auto(cls, image_size: int, device: torch.device) -> BatchSize:
        """Return an adaptive batch size for images of a side in pixels, on a kind of device."""
        passes, pixels = _GPU_PASSES, _GPU_PIXELS
        if device.type == "cpu":
            passes = _CPU_PASSES
            pixels = _CPU_PIXELS_PER_THREAD * max(2, torch.get_num_threads())
        images = min(_MOST, max(1, pixels // image_size**2))
        return cls(images, passes * images, adaptive=True)

    def run(self, function: Callable[[], T]) -> T:
        """Return ``function()``; while it runs out of memory, halve the graphs and try again.

        The function reads this object. If memory runs out with one image, or with a batch size that
        is not adaptive, its error is raised.
        """
        while True:
            try:
                return function()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not (self.adaptive and self.graphs > 1):
                    less = "batch_size or leave it at 'auto'" if self.images > 1 else "image_size"
                    error.add_note(f"With {self.images} images at once. Lower {less}.")
                    raise
            # After the except clause, which holds the frames and with them what filled the memory.
            self.graphs //= 2
            self.images = min(self.images, self.graphs)

    @contextlib.contextmanager
    def learning(self, n_images: int, device: torch.device) -> Iterator[None]:
        """Measure the graphs of images that pass a net, and set how many may be kept at once.

        Only the first context measures; later ones change nothing.
        """
        if self._measured:
            yield
            return
        with counting_graph() as sizes:
            yield
        self._measured = True
        free = _free_bytes(device)
        if free is None or not sizes:
            return
        graphs = max(1, int(_SHARE * free * n_images / sum(sizes.values())))
        if device.type == "cuda":
            self.graphs = graphs
            self.images = min(self.images, graphs)
        else:  # what a CPU can free in need is more than what is free
            self.graphs = max(self.graphs, graphs)


def _free_bytes(device: torch.device) -> int | None:
    """Return the memory that this process may still take on a device, None if not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator holds but does not use is free too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    try:
        free = _read_numbers(_MEMORY)["MemAvailable"] * 1024
    except (OSError, KeyError):  # Windows, macOS
        return None
    # Neither number counts the cache of files as used: the kernel frees it when graphs need room.
    with contextlib.suppress(OSError, ValueError, KeyError):  # "max" where there is no limit
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used + _read_numbers(_CGROUP / "memory.stat")["inactive_file"])
    # A process that has a share of the cores, as the workers of a search do, takes that of memory.
    return int(free * min(1, torch.get_num_threads() / (os.cpu_count() or 1)))


def _read_numbers(path: Path) -> dict[str, int]:
    """Return the first number of each line of a file, by the word before it."""
    return {
        name: int(number)
        for name, number in re.findall(r"^(\w+):?\s+(\d+)", path.read_text(), re.MULTILINE)
    }


@contextlib.contextmanager
def counting_graph() -> Iterator[dict[int, int]]:
    """Count the bytes that graphs made in this context keep, without the weights, by address."""
    sizes: dict[int, int] = {}

    def look(tensor: Tensor) -> Tensor:
        # A transposed weight is no parameter, but a view of one.
        whole = tensor if tensor._base is None else tensor._base
        if not isinstance(whole, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        # Otherwise an output that is kept would keep its own graph alive.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        yield sizes


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is used up, on any device."""
    known = isinstance(error, torch.OutOfMemoryError)
    return known or any(message in str(error) for message in _OUT_OF_MEMORY)
