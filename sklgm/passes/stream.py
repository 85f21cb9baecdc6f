"""The pass over images that come one after the other, and cannot be asked for again."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import joblib
import numpy as np

from sklgm.datasets.labelled import LabelledStream
from sklgm.images import check_images, resize_crop
from sklgm.images.decoding import WHITE
from sklgm.images.items import item_to_rgb
from sklgm.matching import RealGradients
from sklgm.passes.real_pass import RealPass
from sklgm.utils.targets import check_column

_IMAGES_AT_ONCE = 1024


def add_stream(
    real_passes: Sequence[RealPass],
    gradients: Sequence[RealGradients],
    stream: LabelledStream,
    start: int,
) -> None:
    """Add a stream to the gradients of one or several backbones, in one pass.

    Of the images, 1024 are held at a time, resized to the canvas of each backbone. ``start`` is
    the place of the first one in the whole data set.
    """
    sizes = [real_pass.encoder.backbone.canvas_size for real_pass in real_passes]

    def prepare(place: int, pair: tuple[Any, Any]) -> tuple[list[np.ndarray], Any]:
        image, label = pair
        try:
            rgb = item_to_rgb(image, WHITE)
        except Exception as error:  # Pillow's plugins raise nearly anything on a broken file
            raise ValueError(f"Image {place} of the stream cannot be read: {error}") from error
        return [resize_crop(rgb, size) for size in sizes], label

    numbered = enumerate(stream, start)
    with joblib.Parallel(real_passes[0].encoder.n_jobs, require="sharedmem") as threads:
        while chunk := threads(
            joblib.delayed(prepare)(*one) for one in islice(numbered, _IMAGES_AT_ONCE)
        ):
            canvases, labels = zip(*chunk, strict=True)
            y, weights = check_column(labels, "y"), np.ones(len(labels))
            by_net = zip(real_passes, gradients, zip(*canvases, strict=True), strict=True)
            for real_pass, total, images in by_net:
                source = check_images(list(images))
                real_pass.add(total, source, y, weights, start)
            start += len(chunk)
