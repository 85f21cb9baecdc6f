"""Batches of transformed images, prepared in threads while the last one is being used."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from sklgm.images.checking import check_images
from sklgm.images.decoding import RGBImage
from sklgm.images.source import DamagedImageError, ImageSource

Transform = Callable[[RGBImage], NDArray[Any]]

_BATCHES_AHEAD = 2
# How many damaged images a message names beside the first.
_NAMED = 5
_ADVICE = (
    "sklgm.images.find_damaged(X) lists all of them. Of a folder `sklgm check FOLDER` does, and "
    'sklgm.datasets.load_folder(FOLDER, on_error="skip") leaves them out, in the command '
    "--skip-damaged."
)


def iter_batches(
    source: ImageSource, transform: Transform, *, batch_size: int, n_jobs: int | None = None
) -> Generator[NDArray[Any], None, None]:
    """Decode and transform images in threads, and yield them in batches, in order.

    At most two batches are prepared ahead of the one in use. The threads are stopped at an error
    in one of them, and when the generator is closed early.

    Parameters
    ----------
    source : ImageSource
        The images.
    transform : callable
        Makes of an image, a uint8 array of shape (H, W, 3) or a PIL image of mode RGB, an array of
        one fixed shape and dtype. It must not change the image.
    batch_size : int
        Images in a batch; the last one may hold fewer.
    n_jobs : int or None, default=None
        Number of threads, counted as joblib does: None is one, -1 is one for each core.

    Yields
    ------
    ndarray of shape (batch_size, ...)
        The transformed images of one batch.

    Raises
    ------
    ValueError
        If images cannot be read: the first by name, with the reason, and those that come after it.
    """
    n_read = 0
    try:
        for batch in _prepare_ahead(source, transform, batch_size, n_jobs):
            n_read += len(batch)
            yield batch
    except DamagedImageError as error:
        raise with_others(error, source.take(slice(n_read, None)), n_jobs) from error


def find_damaged(X: Any, *, n_jobs: int | None = None) -> dict[int, str]:
    """Find the images that cannot be read, each of which is decoded once and forgotten.

    Parameters
    ----------
    X : array-like, sequence or ImageSource
        Images, of any kind that :func:`check_images` takes.
    n_jobs : int or None, default=None
        Number of threads, counted as joblib does: None is one, -1 is one for each core.

    Returns
    -------
    dict of int to str
        The places in X of the images that cannot be read, in order, each with the reason.

    Raises
    ------
    ValueError
        If X is none that :func:`check_images` takes, or names a file that does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sklgm.images import find_damaged
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (8, 8)).save(folder / "cat.png")
    >>> (folder / "dog.png").touch()
    >>> find_damaged([folder / "cat.png", folder / "dog.png"])
    {1: 'it is an empty file; fetch it again'}
    """
    source = check_images(X)

    def look_at(place: int) -> str | None:
        try:
            source.read(place)
        except DamagedImageError as error:
            return error.reason
        return None

    looks = map(joblib.delayed(look_at), range(len(source)))
    reasons = enumerate(joblib.Parallel(n_jobs, require="sharedmem")(looks))
    return {place: reason for place, reason in reasons if reason is not None}


def with_others(
    first: DamagedImageError, source: ImageSource, n_jobs: int | None = None
) -> DamagedImageError:
    """Return one error for all damaged images of a source, or ``first`` where there are none."""
    damaged = find_damaged(source, n_jobs=n_jobs)
    if not damaged:
        return first
    (place, reason), *others = damaged.items()
    lines = [f". {len(others)} more cannot be read:" if others else "."]
    lines += [f"- {source.name(i)}: {why}" for i, why in others[:_NAMED]]
    if len(others) > _NAMED:
        lines.append(f"- and {len(others) - _NAMED} more")
    return DamagedImageError(source.name(place), reason, "\n".join([*lines, _ADVICE]))


def _prepare_ahead(
    source: ImageSource, transform: Transform, batch_size: int, n_jobs: int | None
) -> Generator[NDArray[Any], None, None]:
    """Yield batches in order, and stop the threads at the end, whatever it is."""

    def prepare(place: int) -> NDArray[Any]:
        return transform(source.read(place))

    pool = ThreadPoolExecutor(joblib.effective_n_jobs(n_jobs), thread_name_prefix="sklgm-images")
    ahead: deque[Future[NDArray[Any]]] = deque()
    try:
        for batch in gen_batches(len(source), batch_size):
            # Threads take what is submitted in order, so the images are under way by then. No name
            # holds them: they would stay beside the batch that is made of them.
            ahead.append(pool.submit(_stack, pool.map(prepare, range(len(source))[batch])))
            if len(ahead) > _BATCHES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _stack(images: Iterator[NDArray[Any]]) -> NDArray[Any]:
    return np.stack(list(images))
