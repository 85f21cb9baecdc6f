"""Batches of transformed images, prepared in threads while the last one is being used."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from sklgm.images.source import ImageSource

Transform = Callable[[NDArray[np.uint8]], NDArray[Any]]
Batches = Generator[NDArray[Any], None, None]

_BATCHES_AHEAD = 2


def iter_batches(
    source: ImageSource, transform: Transform, *, batch_size: int, n_jobs: int | None = None
) -> Batches:
    """Decode and transform images in threads, and yield them in batches, in order.

    At most two batches are ever prepared ahead of the one in use. An error in a thread is raised
    here; then, and when the generator is closed early, the threads are stopped.

    Parameters
    ----------
    source : ImageSource
        The images.
    transform : callable
        Makes of a uint8 array of shape (H, W, 3) an array of one fixed shape and dtype.
    batch_size : int
        Images in a batch; the last one may hold fewer.
    n_jobs : int or None, default=None
        Number of threads, counted as joblib does: None is one, -1 is one for each core.

    Yields
    ------
    ndarray of shape (batch_size, ...)
        The transformed images of one batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    return _batches(source, transform, batch_size, joblib.effective_n_jobs(n_jobs))


def _batches(source: ImageSource, transform: Transform, batch_size: int, n_threads: int) -> Batches:
    stopped = threading.Event()
    chunk_size = -(-batch_size // n_threads)

    def prepare(chunk: range) -> list[NDArray[Any]]:
        images = []
        for i in chunk:
            if stopped.is_set():
                break
            images.append(transform(source[i]))
        return images

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sklgm-images")
    ahead: deque[list[Future[list[NDArray[Any]]]]] = deque()
    try:
        for start in range(0, len(source), batch_size):
            batch = range(start, min(start + batch_size, len(source)))
            chunks = (batch[i : i + chunk_size] for i in range(0, len(batch), chunk_size))
            ahead.append([pool.submit(prepare, chunk) for chunk in chunks])
            if len(ahead) > _BATCHES_AHEAD:
                yield _collect(ahead.popleft())
        while ahead:
            yield _collect(ahead.popleft())
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _collect(futures: list[Future[list[NDArray[Any]]]]) -> NDArray[Any]:
    return np.stack([image for future in futures for image in future.result()])
