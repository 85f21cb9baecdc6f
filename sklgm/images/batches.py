"""Batches of transformed images, prepared in threads while the last one is being used."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from sklgm.images.source import ImageSource

Transform = Callable[[NDArray[np.uint8]], NDArray[Any]]

_BATCHES_AHEAD = 2


def iter_batches(
    source: ImageSource, transform: Transform, *, batch_size: int, n_jobs: int | None = None
) -> Generator[NDArray[Any], None, None]:
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

    def prepare(place: int) -> NDArray[Any]:
        return transform(source[place])

    pool = ThreadPoolExecutor(joblib.effective_n_jobs(n_jobs), thread_name_prefix="sklgm-images")
    ahead: deque[list[Future[NDArray[Any]]]] = deque()
    try:
        for batch in gen_batches(len(source), batch_size):
            ahead.append([pool.submit(prepare, i) for i in range(batch.start, batch.stop)])
            if len(ahead) > _BATCHES_AHEAD:
                yield _stack(ahead.popleft())
        while ahead:
            yield _stack(ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _stack(images: list[Future[NDArray[Any]]]) -> NDArray[Any]:
    return np.stack([image.result() for image in images])
