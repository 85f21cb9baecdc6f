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
Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
Batches = Generator[NDArray[Any], None, None]

_BATCHES_AHEAD = 2
# Parts of a batch that each thread takes, so that none waits long for another one.
_PARTS_A_THREAD = 4


def iter_batches(
    source: ImageSource,
    transform: Transform,
    *,
    batch_size: int,
    n_jobs: int | None = None,
    empty: Empty = np.empty,
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
    empty : callable, default=numpy.empty
        Makes the array of a batch from its shape and dtype, in one of the threads: in memory of
        a special kind, for instance.

    Yields
    ------
    ndarray of shape (batch_size, ...)
        The transformed images of one batch.
    """
    n_threads = joblib.effective_n_jobs(n_jobs)
    stopped = threading.Event()
    part_size = -(-batch_size // (n_threads * _PARTS_A_THREAD))

    def prepare(batch: _Batch, part: range) -> None:
        for i in part:
            if stopped.is_set():
                break
            batch.put(i, transform(source[i]))

    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sklgm-images")
    ahead: deque[_Batch] = deque()
    try:
        for start in range(0, len(source), batch_size):
            places = range(start, min(start + batch_size, len(source)))
            batch = _Batch(places, empty)
            parts = (places[i : i + part_size] for i in range(0, len(places), part_size))
            batch.futures = [pool.submit(prepare, batch, part) for part in parts]
            ahead.append(batch)
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft().take()
        while ahead:
            yield ahead.popleft().take()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


class _Batch:
    """Images that several threads put into one array, made when the first of them is there."""

    def __init__(self, places: range, empty: Empty) -> None:
        self._places = places
        self._empty = empty
        self._lock = threading.Lock()
        self._array: NDArray[Any] | None = None
        self.futures: list[Future[None]] = []

    def put(self, place: int, image: NDArray[Any]) -> None:
        with self._lock:
            if self._array is None:
                self._array = self._empty((len(self._places), *image.shape), image.dtype)
        self._array[place - self._places.start] = image

    def take(self) -> NDArray[Any]:
        """Wait for the threads, and return the array, which the batch does not keep."""
        for future in self.futures:
            future.result()
        array, self._array = self._array, None
        assert array is not None
        return array
