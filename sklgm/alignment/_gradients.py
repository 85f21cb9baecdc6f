"""Whether prototypes pull a probe the way real images do, on any backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklgm.alignment._bootstrap import check_bootstrap, percentile_interval
from sklgm.alignment._matrix import AlignmentMatrix
from sklgm.backbones import Backbone
from sklgm.backbones._several import is_several, name_backbones
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.probing import check_prototypes, check_square, probe_of
from sklgm.matching import RealGradients, angular_distance
from sklgm.passes.encoder import Encoder
from sklgm.passes.real_pass import RealPass, check_gradients
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.numbers import is_whole
from sklgm.utils.random import own_random_state

# Random views of each prototype, at most, when their number is left open.
_MOST_VIEWS = 32


@dataclass(frozen=True, eq=False)
class GradientAlignment:
    """What :func:`gradient_alignment` returns.

    Parameters
    ----------
    score : float
        Mean cosine over the heads, in [-1, 1].
    low, high : float
        Its bootstrap interval.
    by_head : ndarray of shape (n_heads,)
        Cosine of each head, float64.
    """

    score: float
    low: float
    high: float
    by_head: np.ndarray

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(score={self.score:.4f}, low={self.low:.4f}, "
            f"high={self.high:.4f}, {len(self.by_head)} heads)"
        )


def gradient_alignment(
    prototypes: Any,
    X: Any = None,
    y: Any = None,
    backbone: str | Backbone | None = None,
    *,
    gradients: RealGradients | None = None,
    distiller: LGMDistiller | None = None,
    n_views: int | str = "auto",
    confidence_level: float = 0.95,
    n_resamples: int = 2000,
    random_state: Any = None,
) -> GradientAlignment:
    """Compare the gradients of prototypes and of real images on a backbone.

    The score is 1 less the angular distance that `LGMDistiller` minimises: the cosine between
    the two gradients of a random linear probe, averaged over many of them. On a backbone that
    prototypes were not made for it tells how far they mean the same to it.

    Parameters
    ----------
    prototypes : PrototypeSet or fitted estimator
        An estimator has ``prototypes_`` and ``prototype_labels_``: a distiller or a selector.
    X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
        Real images, as every estimator takes them.
    y : array-like of shape (n_samples,)
        Their labels, of the same classes as the prototypes'.
    backbone : str, Backbone or None, default=None
        Where to compare. None is the net that the estimator has, the first of several. A set of
        images tells none; one of rows needs none, and neither do the rows of X.
    gradients : RealGradients or None, default=None
        Of the real images on this backbone, from :meth:`LGMDistiller.compute_gradients
        <sklgm.LGMDistiller.compute_gradients>`, instead of X and y. Their heads are used.
    distiller : LGMDistiller or None, default=None
        Settings: views, heads, class weights, image size, device. Its backbone and
        ``random_state`` are not used. None takes those of the estimator ``prototypes``, as far
        as it has them, and the defaults otherwise.
    n_views : int or "auto", default="auto"
        Random views of each prototype. "auto" takes as many of all prototypes together as of
        all real images, 32 each at most.
    confidence_level : float, default=0.95
        Of the interval, in (0, 1).
    n_resamples : int, default=2000
        Bootstrap resamples of the heads.
    random_state : int, RandomState instance or None, default=None
        Makes heads, views and interval reproducible. Heads are not those of a distillation
        with the same number, unless ``gradients`` bring them.

    Returns
    -------
    GradientAlignment
        The score with its interval, and the cosine of each head.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If an estimator is not fitted.
    ValueError
        If prototypes, data, labels or a setting cannot be used, or the gradients are of another
        backbone or other views.

    See Also
    --------
    gradient_alignment_matrix : Several sets of prototypes on several backbones.
    sklgm.evaluation.cross_model_transfer : Accuracy instead of gradients.

    Notes
    -----
    Both sides are seen as the distiller sees real images: the centre crop, plain or mirrored or
    both, makes one half of a gradient and random views the other. Distillation itself compares
    random views of prototypes alone, so that ``1 - loss_curve_[-1]`` is close to the score at home,
    not equal. Prototypes are cut from their own canvas and seen at the backbone's size. With
    ``class_weight="balanced"`` each class has the same weight on both sides; with other weights,
    which are the real images', every prototype weighs the same. With ``matching="row"`` the
    cosine of a head is the mean of those of its rows.

    The interval is the percentile bootstrap over heads. It tells how well the mean over heads
    is known, and nothing about another distillation or other images.

    Examples
    --------
    >>> from sklgm import RandomImages
    >>> from sklgm.alignment import gradient_alignment
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> prototypes = RandomImages(backbone=None, random_state=0).fit(X, y)
    >>> gradient_alignment(prototypes, X, y, random_state=0)
    GradientAlignment(score=..., low=..., high=..., 256 heads)
    """
    check_bootstrap(n_resamples, confidence_level)
    images, labels = _arrays(prototypes)
    settings, interval_seed = _seeded(_settings(prototypes, distiller), random_state)
    if backbone is None:
        backbone = probe_of(prototypes, None, None).backbone
    settings = _on(settings, backbone)
    real = _real_gradients(settings, X, y, gradients)
    own = _prototype_gradients(settings, images, labels, real, n_views)
    by_head = _cosines(real, own, settings.matching)
    return _summarise(by_head, n_resamples, confidence_level, interval_seed)


def gradient_alignment_matrix(
    prototypes: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    backbones: Sequence[str | Backbone] | Mapping[str, str | Backbone],
    distiller: LGMDistiller | None = None,
    n_views: int | str = "auto",
    confidence_level: float = 0.95,
    n_resamples: int = 2000,
    random_state: Any = None,
) -> AlignmentMatrix:
    """Compare the gradients of several sets of prototypes with real ones on several backbones.

    Real images pass each backbone once.

    Parameters
    ----------
    prototypes : dict of str to PrototypeSet or fitted estimator
        Rows. Those made for a backbone are best called as it is in ``backbones``.
    X : array-like of images
        Real images, as every estimator takes them.
    y : array-like of shape (n_samples,)
        Their labels, of the same classes as the prototypes'.
    backbones : list of str or Backbone, or dict of str to str or Backbone
        Columns: where to compare, perhaps under names of your own.
    distiller : LGMDistiller or None, default=None
        Settings for all cells. None takes those of the first estimator among ``prototypes``, as
        far as it has them, and the defaults otherwise.
    n_views : int or "auto", default="auto"
        As the next three, as in :func:`gradient_alignment`; each cell is what it returns.
    confidence_level : float, default=0.95
        Of the intervals.
    n_resamples : int, default=2000
        Bootstrap resamples of the heads.
    random_state : int, RandomState instance or None, default=None
        Of views, heads and resamples.

    Returns
    -------
    AlignmentMatrix
        With scores and the bounds of their intervals.

    Raises
    ------
    sklearn.exceptions.NotFittedError, ValueError
        As :func:`gradient_alignment` does.

    See Also
    --------
    relate_alignment_to_transfer : Beside the accuracy of probes.
    """
    check_bootstrap(n_resamples, confidence_level)
    if not isinstance(prototypes, Mapping) or not prototypes:
        raise ValueError(
            f"prototypes must be a dict from names to PrototypeSets or fitted estimators, with at "
            f"least one; got {prototypes!r}."
        )
    nets = name_backbones(backbones)
    arrays = {name: _arrays(one) for name, one in prototypes.items()}
    estimators = [one for one in prototypes.values() if not isinstance(one, PrototypeSet)]
    first = estimators[0] if estimators else None
    seeded, interval_seed = _seeded(_settings(first, distiller), random_state)
    cells = np.empty((len(arrays), len(nets), 3))
    for j, net in enumerate(nets.values()):
        settings = _on(seeded, net)
        real = _real_gradients(settings, X, y, None)
        for i, (images, labels) in enumerate(arrays.values()):
            own = _prototype_gradients(settings, images, labels, real, n_views)
            by_head = _cosines(real, own, settings.matching)
            found = _summarise(by_head, n_resamples, confidence_level, interval_seed)
            cells[i, j] = found.score, found.low, found.high
    scores, low, high = np.moveaxis(cells, -1, 0)
    names = tuple(map(str, arrays)), tuple(nets)
    return AlignmentMatrix("gradient alignment", *names, scores, low=low, high=high)


def _arrays(prototypes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return prototypes, float32, and their labels."""
    images, labels = check_prototypes(prototypes)
    check_square(images)
    return images, labels


def _settings(prototypes: Any, distiller: Any) -> LGMDistiller:
    """Return an unfitted distiller with the settings to use."""
    if distiller is not None:
        if not isinstance(distiller, LGMDistiller):
            raise ValueError(
                f"distiller must be an LGMDistiller or None; got {distiller!r}. It holds settings "
                f"such as LGMDistiller(image_size=56)."
            )
        return clone(distiller)
    estimator = getattr(prototypes, "distiller", prototypes)  # as of NearestImages
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    settings = LGMDistiller()
    if hasattr(estimator, "get_params"):
        known = settings.get_params(deep=False).keys()
        given = estimator.get_params(deep=False)
        settings.set_params(**{name: given[name] for name in known & given.keys()})
    return clone(settings)


def _seeded(settings: LGMDistiller, random_state: Any) -> tuple[LGMDistiller, int]:
    """Set the seed of heads and views, and return that of the intervals too."""
    # Drawn, so that a distillation with the same number had other heads.
    seed, interval_seed = own_random_state(random_state).randint(2**31 - 1, size=2).tolist()
    return settings.set_params(random_state=seed), interval_seed


def _on(settings: LGMDistiller, backbone: Any) -> LGMDistiller:
    """Return settings for a backbone."""
    if is_several(backbone):
        raise ValueError(
            f"backbone must be one name or Backbone, or None; got {backbone!r}. For several use "
            f"gradient_alignment_matrix."
        )
    settings = clone(settings).set_params(backbone=backbone)
    settings._validate_params()
    return settings


def _real_gradients(settings: LGMDistiller, X: Any, y: Any, gradients: Any) -> RealGradients:
    """Return gradients of the real images, computed or given."""
    if gradients is None:
        if X is None or y is None:
            raise ValueError("Pass real images and their labels, X and y, or gradients of them.")
        return settings.compute_gradients(X, y)
    if X is not None or y is not None:
        raise ValueError("gradients take the place of X and y. Pass the ones or the others.")
    if not isinstance(gradients, RealGradients):
        raise ValueError(
            f"gradients must be the RealGradients of one backbone; got {gradients!r}. Pass what "
            f"LGMDistiller.compute_gradients returns, of a list the one of this backbone."
        )
    encoder = settings._encoder()
    check_gradients(
        gradients,
        backbone=None if encoder is None else encoder.backbone.name,
        n_features=None if encoder is None else encoder.backbone.n_features,
        views=None if encoder is None else settings._views(encoder),
        class_weight=settings.class_weight,
    )
    return gradients


def _prototype_gradients(
    settings: LGMDistiller,
    images: np.ndarray,
    labels: np.ndarray,
    real: RealGradients,
    n_views: Any,
) -> RealGradients:
    """Return gradients of prototypes for the heads of the real ones, of views like theirs."""
    encoder = settings._encoder()
    _check_kind(images, encoder, real)
    indices = _class_indices(labels, real)
    balanced = settings.class_weight == "balanced"
    gradients = RealGradients(
        real.classes,
        class_counts=np.bincount(indices) if balanced else None,
        class_weight="balanced" if balanced else None,
        head_pool_size=real.head_pool_size,
        head_scale=real.head_scale,
        head_seed=real.head_seed,
    )
    labels = real.classes[indices]

    def ignore() -> None:
        pass

    real_pass = RealPass(
        encoder,
        settings._device(),
        None if encoder is None else settings._augmentation(),
        0 if encoder is None else _n_views(n_views, settings.n_real_views, real, len(images)),
        # That of the real views: a set compared with itself is seen in the same views.
        settings._seeds().real_views,
    )
    if encoder is None:
        real_pass.add(gradients, images, labels, ignore)
    else:
        real_pass.add_canvases(gradients, encoder.split(images), labels, ignore)
    return gradients


def _check_kind(images: np.ndarray, encoder: Encoder | None, real: RealGradients) -> None:
    if (images.ndim == 2) != (encoder is None):
        kind, advice = (
            ("images", "Name a backbone") if encoder is None else ("rows", "Set backbone=None")
        )
        raise ValueError(f"Prototypes are {kind}, which the backbone does not take. {advice}.")
    if encoder is None and images.shape[1] != real.n_features:
        raise ValueError(
            f"Prototypes have {images.shape[1]} features, real rows {real.n_features}. Pass rows "
            f"of the features that the prototypes were made of."
        )


def _class_indices(labels: np.ndarray, real: RealGradients) -> np.ndarray:
    """Return the place of each label among the classes."""
    # Not numpy's set functions, for which 1 and "1" are the same.
    places = {label: i for i, label in enumerate(real.classes.tolist())}
    found = labels.tolist()
    lacking, unknown = places.keys() - set(found), set(found) - places.keys()
    if lacking or unknown:
        raise ValueError(
            f"Prototypes and real images are not of the same classes. Without a prototype: "
            f"{sorted(lacking, key=str)[:5]}; prototypes only: {sorted(unknown, key=str)[:5]}. "
            f"Leave those out on both sides, or make the labels of one type."
        )
    return np.array([places[label] for label in found])


def _n_views(n_views: Any, n_real_views: int, real: RealGradients, n_prototypes: int) -> int:
    """Return the number of random views of a prototype, none where real images have none."""
    whole = is_whole(n_views) and n_views >= 1
    if not whole and not (isinstance(n_views, str) and n_views == "auto"):
        raise ValueError(
            f'n_views must be a whole number of at least 1, or "auto"; got {n_views!r}.'
        )
    if n_real_views == 0 or whole:
        return 0 if n_real_views == 0 else int(n_views)
    n_images = int(real.images_seen.sum())
    most = max(_MOST_VIEWS, n_real_views)
    # Gradients made by hand may not know how many images they are of.
    alike = n_images * n_real_views // n_prototypes if n_images else most
    return int(np.clip(alike, n_real_views, most))


def _cosines(real: RealGradients, own: RealGradients, matching: Any) -> np.ndarray:
    """Return the cosine of each head, in float64, one head at a time."""
    pairs = zip(real.sums.cpu(), own.sums.cpu(), strict=True)
    distances = [angular_distance(a[None].double(), b[None].double(), matching) for a, b in pairs]
    return 1 - torch.stack(distances).numpy()


def _summarise(
    by_head: np.ndarray, n_resamples: int, confidence_level: float, seed: int
) -> GradientAlignment:
    """Return the mean over heads with its interval."""
    if len(by_head) < 2:
        raise ValueError("There is one head, and no interval of its mean. Raise its pool_size.")
    low, high = percentile_interval(
        [by_head],
        np.mean,
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        random_state=np.random.RandomState(seed),
    )
    return GradientAlignment(float(by_head.mean()), low, high, by_head)
