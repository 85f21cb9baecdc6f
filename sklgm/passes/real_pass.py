"""The one pass over the real data: views, features, sums of gradients."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from sklgm.images import ImageSource
from sklgm.matching import RealGradients
from sklgm.passes.encoder import Encoder
from sklgm.passes.rows import ROWS_AT_ONCE
from sklgm.passes.views import ViewStream, describe_augmentation
from sklgm.synthesis.augmentation import Augmentation, centre_views, mirror, mirrors

# Names of what is gathered: features, the places of their images, their shares of the target.
_WAITING = ("waiting_features", "waiting_places", "waiting_shares")


def take(source: ImageSource | np.ndarray, rows: slice | np.ndarray) -> ImageSource | np.ndarray:
    """Return a part of the data."""
    return source.take(rows) if isinstance(source, ImageSource) else source[rows]


def fingerprint(source: ImageSource | np.ndarray) -> str:
    """Return a hash of the data by its content."""
    return joblib.hash(source) if isinstance(source, np.ndarray) else source.fingerprint()


def describe_views(encoder: Encoder, augmentation: Augmentation | None, n_real_views: int) -> str:
    """Return what a `RealPass` computes features on, as text that compares equal."""
    settings = {
        "backbone": encoder.fingerprint,
        "image_size": encoder.backbone.image_size,
        "n_real_views": n_real_views,
        "augmentation": describe_augmentation(augmentation),
    }
    return json.dumps(settings, default=_as_json)


def _as_json(value: Any) -> Any:
    # A grid of parameters holds numpy's numbers; an augmentation of a user's own holds anything.
    return value.item() if isinstance(value, np.generic) else joblib.hash(value)


@dataclass(frozen=True)
class RealPass:
    """How to pass over the real data. It can be pickled, and then goes on elsewhere.

    ``seed`` is that of the random views, of which each image has ``n_real_views``.
    """

    encoder: Any  # an Encoder or a RowEncoder
    device: torch.device
    augmentation: Augmentation | None
    n_real_views: int
    seed: int

    @torch.no_grad()
    def add(
        self,
        gradients: RealGradients,
        source: ImageSource | np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray,
        start: int = 0,
        *,
        on_batch: Callable[[int], None] | None = None,
        kept: Any = None,
    ) -> None:
        """Add data to gradients: those of views of images, and the images to the means; or rows.

        The centre crop makes one half of the target, the random views make the other, or the
        crop makes all of it without any. If the augmentation flips, both the plain and the
        mirrored crop are taken, but with one random view only one of the two, chosen as often as
        the augmentation flips: a pass is half as long then, and many images make a class.

        ``source`` holds n images, exact ones as `Encoder.canvases` takes them, or rows (n, d), with
        labels ``y`` and weights, both (n,). The place of the first image in the whole data set,
        ``start``, decides its random views. ``on_batch`` is called after each batch with its number
        of samples. ``kept``, a `PartialSums`, holds a pass to go on with, and keeps this one; the
        gradients must be empty then.
        """
        seen, waiting = (0, {}) if kept is None else kept.restore(gradients)
        if seen and on_batch is not None:
            on_batch(seen)
        # Features, with the places of their images and their shares of the target.
        rows = []
        if waiting:
            features, places, shares = (waiting[name] for name in _WAITING)
            rows.append((features.to(self.device), places, shares))

        def joined() -> dict[str, Tensor]:
            parts = (torch.cat(parts) for parts in zip(*rows, strict=True))
            return dict(zip(_WAITING, parts, strict=False))

        def flush() -> None:
            features, places, shares = joined().values()
            own = places.numpy()
            weights = sample_weight[own] * shares.numpy()
            gradients.update(features, y[own], sample_weight=weights)
            rows.clear()

        # A net that comes out of a pickle is on the CPU.
        placed = replace(self, encoder=self.encoder.to(self.device))
        stream = None
        for canvases in placed.encoder.canvases(source, seen):
            places = torch.arange(seen, seen + len(canvases))
            if canvases.ndim == 4:
                own = places.numpy()
                gradients.update_mean_images(canvases, y[own], sample_weight=sample_weight[own])
                if stream is None and self.augmentation is not None and self.n_real_views:
                    # Prototypes may have another canvas than the backbone asks for.
                    n_before = (start + seen) * (1 + self.n_real_views)
                    stream = ViewStream(self.augmentation, canvases.shape[-1], self.seed, n_before)
            for pixels, share in placed._views(canvases, stream):
                features = placed.encoder.still_features(pixels).to(self.device)
                shares = torch.full((len(features),), share, dtype=torch.float64)
                rows.append((features, places, shares))
            if sum(len(features) for features, *_ in rows) >= ROWS_AT_ONCE:
                flush()
            seen += len(canvases)
            if kept is not None:
                kept.keep(gradients, seen, joined)
            if on_batch is not None:
                on_batch(len(canvases))
        if rows:
            flush()

    def _views(self, canvases: Tensor, stream: ViewStream | None) -> Iterator[tuple[Tensor, float]]:
        """Yield batches of views, each with its share of the target; of rows themselves."""
        if canvases.ndim == 2:
            yield canvases, 1.0
            return
        net, augmentation = self.encoder.backbone, self.augmentation
        centre = centre_views(canvases, net.image_size, net.centre_share)
        # The first draw of an image is for its centre crop, the others are its random views.
        n_drawn = 1 + self.n_real_views
        views = None if stream is None else stream.take(len(canvases) * n_drawn)
        if augmentation is None or not mirrors(augmentation):
            crops = [centre]
        elif views is None or self.n_real_views > 1:
            crops = [centre, centre.flip(-1)]
        else:
            crops = [mirror(centre, views[::n_drawn])]
        share = 1.0 if views is None else 0.5
        for crop in crops:
            yield crop, share / len(crops)
        if augmentation is not None and views is not None:
            for i in range(1, n_drawn):
                shown = augmentation.apply(canvases, views[i::n_drawn], net.image_size)
                yield shown, share / self.n_real_views
