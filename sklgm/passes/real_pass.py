"""The one pass over the real data: views, features, sums of gradients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import Tensor

from sklgm.images import ImageSource
from sklgm.matching import RealGradients
from sklgm.passes.encoder import Encoder
from sklgm.passes.views import ViewStream, describe_augmentation
from sklgm.synthesis.augmentation import Augmentation, centre_views, mirror, mirrors

# Feature rows gathered before they meet the heads, for the sake of large products.
_ROWS_AT_ONCE = 4096
# Names of what is gathered: features, the places of their images, their shares of the target.
_WAITING = ("waiting_features", "waiting_places", "waiting_shares")


class KeptSums(Protocol):
    """Where a pass is kept while it is under way; see `sklgm.checkpoint.partial_sums`."""

    def restore(self, gradients: RealGradients) -> tuple[int, dict[str, Tensor]]:
        """Set gradients to what was kept; return how many samples, and those not in the sums."""

    def keep(
        self, gradients: RealGradients, n_done: int, waiting: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Keep gradients, if it is time."""


def take(source: ImageSource | np.ndarray, rows: slice | np.ndarray) -> ImageSource | np.ndarray:
    """Return a part of the data."""
    return source.take(rows) if isinstance(source, ImageSource) else source[rows]


def describe_views(encoder: Encoder, augmentation: Augmentation | None, n_real_views: int) -> str:
    """Return what a `RealPass` computes features on, as text that compares equal."""
    settings = {
        "backbone": encoder.backbone.fingerprint(),
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

    Attributes
    ----------
    encoder : Encoder or RowEncoder
        It turns images into features.
    device : torch.device
        The device to compute on.
    augmentation : Augmentation or None
        It makes the random views.
    n_real_views : int
        Number of random views of each image.
    seed : int
        Seed of the random views.
    """

    encoder: Any
    device: torch.device
    augmentation: Augmentation | None
    n_real_views: int
    seed: int

    def add(
        self,
        gradients: RealGradients,
        source: ImageSource | np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray,
        on_batch: Callable[[int], None],
        start: int = 0,
        kept: KeptSums | None = None,
    ) -> None:
        """Add data to gradients.

        Parameters
        ----------
        gradients : RealGradients
            The sums that the data is added to.
        source : ImageSource, or ndarray of shape (n, d)
            n images, or rows of features.
        y : ndarray of shape (n,)
            Labels.
        sample_weight : ndarray of shape (n,)
            Weights.
        on_batch : callable
            Called after each batch with its number of samples.
        start : int, default=0
            Place of the first image in the whole data set.
        kept : KeptSums, optional
            Where the pass is kept, and goes on from; the gradients must be empty then.
        """
        n_done, waiting = (0, {}) if kept is None else kept.restore(gradients)
        if n_done:
            on_batch(n_done)

        def after_batch(n: int, rest: Callable[[], dict[str, Tensor]]) -> None:
            nonlocal n_done
            n_done += n
            if kept is not None:
                kept.keep(gradients, n_done, rest)
            on_batch(n)

        if isinstance(source, np.ndarray):
            for part in gen_batches(len(source) - n_done, _ROWS_AT_ONCE):
                rows = slice(n_done, n_done + part.stop - part.start)
                features = torch.from_numpy(np.array(source[rows], dtype=np.float32))
                weights = sample_weight[rows]
                gradients.update(features.to(self.device), y[rows], sample_weight=weights)
                after_batch(len(features), dict)
        else:
            # A net that comes out of a pickle is on the CPU.
            placed = replace(self, encoder=self.encoder.to(self.device))
            canvases = placed.encoder.canvases(source, n_done)
            data = y, sample_weight
            placed.add_canvases(gradients, canvases, *data, after_batch, start, n_done, waiting)

    @torch.no_grad()
    def add_canvases(
        self,
        gradients: RealGradients,
        batches: Iterable[Tensor],
        y: np.ndarray,
        sample_weight: np.ndarray,
        after_batch: Callable[[int, Callable[[], dict[str, Tensor]]], None],
        start: int = 0,
        seen: int = 0,
        waiting: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Embed views of square images and add their gradients, and the images to the means.

        The centre crop makes one half of the target, the random views make the other, or the
        crop makes all of it without any. If the augmentation flips, both the plain and the
        mirrored crop are taken, but with one random view only one of the two, chosen as often as
        the augmentation flips: a pass is half as long then, and many images make a class.

        Parameters
        ----------
        gradients : RealGradients
            The sums that the data is added to.
        batches : iterable of Tensor of shape (b, 3, canvas, canvas)
            The images that were not seen yet, pixels in [0, 1], on the encoder's device.
        y : ndarray of shape (n,)
            Labels of all.
        sample_weight : ndarray of shape (n,)
            Weights of all.
        after_batch : callable
            Called after each batch with its number of images, and with a function that returns
            what is not in the sums yet.
        start : int, default=0
            Place of the first image in the whole data set, which decides its random views.
        seen : int, default=0
            Number of images that were seen before.
        waiting : mapping of str to Tensor, optional
            What of these was not in the sums yet.
        """
        stream = None
        # Features, with the place of their images and their share of the target.
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

        for canvases in batches:
            if stream is None and self.augmentation is not None and self.n_real_views:
                # Prototypes may have another canvas than the backbone asks for.
                n_before = (start + seen) * (1 + self.n_real_views)
                stream = ViewStream(self.augmentation, canvases.shape[-1], self.seed, n_before)
            places = torch.arange(seen, seen + len(canvases))
            seen += len(canvases)
            own = places.numpy()
            gradients.update_mean_images(canvases, y[own], sample_weight=sample_weight[own])
            for pixels, share in self._views(canvases, stream):
                features = self.encoder.still_features(pixels)
                rows.append(
                    (features, places, torch.full((len(features),), share, dtype=torch.float64))
                )
            if sum(len(features) for features, *_ in rows) >= _ROWS_AT_ONCE:
                flush()
            after_batch(len(canvases), joined)
        if rows:
            flush()

    def _views(self, canvases: Tensor, stream: ViewStream | None) -> Iterator[tuple[Tensor, float]]:
        """Yield batches of views, each with its share of the target."""
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
