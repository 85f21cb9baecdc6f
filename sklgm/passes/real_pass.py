"""The one pass over the real data: views, features, sums of gradients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

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


def gradients_in_order(gradients: Any, backbones: list[str] | None) -> list[RealGradients]:
    """Return the statistics that were given, one for each backbone.

    Parameters
    ----------
    gradients : object
        The ``gradients`` that a user passed.
    backbones : list of str or None
        Names of the distiller's backbones, when it has a list of them.

    Returns
    -------
    list of RealGradients
        In the order of the backbones; of length 1 without a list of them.

    Raises
    ------
    ValueError
        If a list is missing or too much, or the statistics are of other backbones or in another
        order, or differ in classes or number of heads.
    """
    found = [gradients] if backbones is None else gradients
    if not isinstance(found, list | tuple) or not all(isinstance(g, RealGradients) for g in found):
        wanted = "a RealGradients" if backbones is None else "a list of RealGradients"
        raise ValueError(f"gradients must be {wanted}; got {gradients!r}.")
    names = [one.backbone for one in found]
    if backbones is not None and names != backbones:
        raise ValueError(
            f"gradients must be of the backbones {backbones}, in that order; got those of {names}."
        )
    for attribute in ("classes", "head_pool_size"):
        several = [getattr(one, attribute) for one in found]
        if not all(np.array_equal(several[0], other) for other in several):
            raise ValueError(
                f"gradients differ in {attribute}: {several}. Make them of the same data with the "
                f"same parameters."
            )
    return list(found)


def check_gradients(
    gradients: RealGradients,
    encoder: Any,
    views: str | None,
    class_weight: Any,
    soft_labels: bool = False,
) -> None:
    """Raise ValueError unless statistics fit the distiller that is to match them.

    Parameters
    ----------
    gradients : RealGradients
        The statistics that a user passed.
    encoder : Encoder or RowEncoder
        The distiller's.
    views : str or None
        The distiller's, as the statistics name them. Gradients made by hand name no views.
    class_weight : "balanced", dict or None
        The distiller's.
    soft_labels : bool
        Whether the covariance of the features is needed.
    """
    missing = gradients.classes[gradients.rows_seen == 0].tolist()
    if missing:
        raise ValueError(f"gradients hold no image of the classes {missing[:5]}. Add their shards.")
    asked = {"backbone": encoder.name, "class_weight": class_weight}
    if encoder.n_features is not None:  # rows may have any number
        asked["n_features"] = encoder.n_features
    if gradients.views is not None:
        asked["views"] = views
    for name, value in asked.items():
        found = getattr(gradients, name)
        if found != value:
            raise ValueError(
                f"gradients were made with {name}={found!r}, this distiller has {value!r}. Give it "
                f"the same parameters, or make them again."
            )
    if class_weight == "balanced" and not gradients.is_balanced:
        raise ValueError(
            "gradients are not weighted by class, and class_weight='balanced' asks for it. "
            "Make them with class_counts, or set class_weight=None."
        )
    if soft_labels and not gradients.store_covariance:
        raise ValueError(
            "gradients were made with store_covariance=False, and soft_labels=True needs the "
            "covariance. Make them by compute_gradients of a distiller with soft_labels=True, or "
            "with RealGradients(store_covariance=True); or set soft_labels=False."
        )


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
        on_sums: Callable[[], None] | None = None,
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
        on_sums : callable, optional
            Called whenever all that was passed is in the sums. To begin there anew gives the same
            sums, bit for bit.
        """
        if isinstance(source, np.ndarray):
            for part in gen_batches(len(source), _ROWS_AT_ONCE):
                features = torch.from_numpy(np.array(source[part], dtype=np.float32))
                weights = sample_weight[part]
                gradients.update(features.to(self.device), y[part], sample_weight=weights)
                on_batch(len(features))
                if on_sums is not None:
                    on_sums()
        else:
            # A net that comes out of a pickle is on the CPU.
            encoder = self.encoder.to(self.device)
            canvases = encoder.canvases(source)
            placed = replace(self, encoder=encoder)
            placed.add_canvases(gradients, canvases, y, sample_weight, on_batch, start, on_sums)

    @torch.no_grad()
    def add_canvases(
        self,
        gradients: RealGradients,
        batches: Iterable[Tensor],
        y: np.ndarray,
        sample_weight: np.ndarray,
        on_batch: Callable[[int], None],
        start: int = 0,
        on_sums: Callable[[], None] | None = None,
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
            n images altogether, pixels in [0, 1], on the encoder's device.
        y : ndarray of shape (n,)
            Labels.
        sample_weight : ndarray of shape (n,)
            Weights.
        on_batch : callable
            Called after each batch with its number of samples.
        start : int, default=0
            Place of the first image in the whole data set, which decides its random views.
        on_sums : callable, optional
            As in :meth:`add`.
        """
        stream = None
        waiting: list[tuple[Tensor, np.ndarray, np.ndarray]] = []

        def flush() -> None:
            features, labels, weights = zip(*waiting, strict=True)
            gradients.update(
                torch.cat(features), np.concatenate(labels), sample_weight=np.concatenate(weights)
            )
            waiting.clear()
            if on_sums is not None:
                on_sums()

        seen = 0
        for canvases in batches:
            if stream is None and self.augmentation is not None and self.n_real_views:
                # Prototypes may have another canvas than the backbone asks for.
                n_before = start * (1 + self.n_real_views)
                stream = ViewStream(self.augmentation, canvases.shape[-1], self.seed, n_before)
            rows = slice(seen, seen + len(canvases))
            batch, weights = y[rows], sample_weight[rows]
            seen = rows.stop
            gradients.update_mean_images(canvases, batch, sample_weight=weights)
            for pixels, share in self._views(canvases, stream):
                features = self.encoder.still_features(pixels)
                waiting.append((features, batch, weights * share))
            if sum(len(labels) for _, labels, _ in waiting) >= _ROWS_AT_ONCE:
                flush()
            on_batch(len(canvases))
        if waiting:
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
