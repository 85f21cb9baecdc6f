"""Whether prototypes pull a probe the way real images do, on any backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import validate_parameter_constraints

from sklgm.alignment._bootstrap import percentile_interval
from sklgm.alignment._matrix import AlignmentMatrix
from sklgm.backbones import Backbone
from sklgm.backbones._several import name_backbones
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.given_gradients import check_gradients
from sklgm.estimators.probing import check_prototypes, probe_of
from sklgm.matching import RealGradients, angular_distance
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.random import own_random_state
from sklgm.utils.targets import check_same_classes

# Random views of each prototype, at most.
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
    by_head: np.ndarray = field(repr=False)


def gradient_alignment(
    prototypes: Any,
    X: Any = None,
    y: Any = None,
    backbone: str | Backbone | None = None,
    *,
    gradients: RealGradients | None = None,
    distiller: LGMDistiller | None = None,
    random_state: Any = None,
) -> GradientAlignment:
    """Compare the gradients of prototypes and of real images on a backbone.

    The score is 1 less the angular distance that `LGMDistiller` minimises: the cosine between
    the two gradients of a random linear probe, averaged over many of them. On a backbone that the
    prototypes were not made for, it tells how far their gradient still points along the real
    gradient.

    Parameters
    ----------
    prototypes : PrototypeSet or fitted estimator
        An estimator has ``prototypes_`` and ``prototype_labels_``: a distiller or a selector.
    X : array-like of images, or of shape (n_samples, n_features), default=None
        Real images, as every estimator takes them; rows of features with ``backbone=None``.
    y : array-like of shape (n_samples,), default=None
        Their labels, of the same classes as the prototypes'.
    backbone : str, Backbone or None, default=None
        Where to compare. None is the net that the prototypes were made on, the first of several; a
        net of your own has to be named for a `PrototypeSet`, and rows of features need none.
    gradients : RealGradients or None, default=None
        Of the real images on this backbone, from :meth:`LGMDistiller.compute_gradients
        <sklgm.LGMDistiller.compute_gradients>`, instead of X and y. Their heads are used.
    distiller : LGMDistiller or None, default=None
        Settings: views, heads, class weights, image size, device. Its backbone and
        ``random_state`` are not used. None takes those of the estimator ``prototypes``, as far
        as it has them, and the defaults otherwise.
    random_state : int, RandomState instance or None, default=None
        Makes heads, views and interval reproducible. Heads are not those of a distillation
        with the same ``random_state``, unless ``gradients`` bring them.

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
        backbone or other views. There must be two heads or more: for prototypes made with
        ``heads="zero"``, pass ``distiller=``.

    See Also
    --------
    gradient_alignment_matrix : Several sets of prototypes on several backbones.
    sklgm.evaluation.cross_model_transfer : Accuracy instead of gradients.

    Notes
    -----
    Both sides are seen as the distiller sees real images: the centre crop, plain or mirrored or
    both, makes one half of a gradient and random views the other. Distillation compares the two
    one by one, so that ``1 - loss_curve_[-1]`` is close to the score at home, not equal. As many
    random views are taken of all prototypes together as of all real images, but at most 32 of
    each, cut from the prototypes' own canvas. With ``class_weight="balanced"`` each class has the
    same weight on both sides; with other weights, which are the real images', every prototype
    weighs the same. With ``matching="row"`` the cosine of a head is the mean of those of its rows.

    The interval is the 95 % percentile bootstrap over heads, of 2000 resamples. It tells nothing
    about another distillation or other images.

    Examples
    --------
    >>> from sklgm import RandomImages
    >>> from sklgm.alignment import gradient_alignment
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> prototypes = RandomImages(backbone=None, random_state=0).fit(X, y)
    >>> gradient_alignment(prototypes, X, y, random_state=0)
    GradientAlignment(score=..., low=..., high=...)
    """
    constraints = {
        "backbone": [str, Backbone, None],
        "gradients": [RealGradients, None],
        "distiller": [LGMDistiller, None],
    }
    validate_parameter_constraints(constraints, locals(), caller_name="gradient_alignment")
    images, labels = check_prototypes(prototypes)
    settings, interval_seed = _settings(prototypes, distiller, random_state)
    if backbone is None or isinstance(prototypes, PrototypeSet):
        backbone = probe_of(prototypes, backbone, None).backbone
    settings.set_params(backbone=backbone)
    if gradients is None:
        gradients = settings.compute_gradients(X, y)
    elif X is not None or y is not None:
        raise ValueError("gradients take the place of X and y. Pass either gradients, or X and y.")
    else:
        encoder = settings._encoder()
        check_gradients(gradients, settings, encoder)
    return _compare(settings, images, labels, gradients, interval_seed)


def gradient_alignment_matrix(
    prototypes: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    backbones: Sequence[str | Backbone] | Mapping[str, str | Backbone],
    distiller: LGMDistiller | None = None,
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
    random_state : int, RandomState instance or None, default=None
        Makes heads, views and intervals reproducible. Each cell is what
        :func:`gradient_alignment` returns with these settings.

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
    constraints = {"prototypes": [Mapping], "distiller": [LGMDistiller, None]}
    validate_parameter_constraints(constraints, locals(), caller_name="gradient_alignment_matrix")
    nets = name_backbones(backbones)
    arrays = [check_prototypes(one) for one in prototypes.values()]
    estimators = (one for one in prototypes.values() if not isinstance(one, PrototypeSet))
    settings, interval_seed = _settings(next(estimators, None), distiller, random_state)
    cells = np.empty((3, len(arrays), len(nets)))
    for j, net in enumerate(nets.values()):
        settings.set_params(backbone=net)
        real = settings.compute_gradients(X, y)
        for i, (images, labels) in enumerate(arrays):
            found = _compare(settings, images, labels, real, interval_seed)
            cells[:, i, j] = found.score, found.low, found.high
    scores, low, high = cells
    rows = tuple(map(str, prototypes))
    return AlignmentMatrix("gradient alignment", rows, tuple(nets), scores, low=low, high=high)


def _settings(prototypes: Any, distiller: Any, random_state: Any) -> tuple[LGMDistiller, int]:
    """Return an unfitted distiller with the settings to use, and a seed for the intervals."""
    if distiller is None:
        estimator = getattr(prototypes, "distiller", prototypes)  # as of NearestImages
        distiller = LGMDistiller()
        names = [name for name in distiller.get_params(deep=False) if hasattr(estimator, name)]
        distiller.set_params(**{name: getattr(estimator, name) for name in names})
    # A distillation with the same random_state has other heads.
    seed, interval_seed = own_random_state(random_state).randint(2**31 - 1, size=2).tolist()
    return clone(distiller).set_params(random_state=seed), interval_seed


def _compare(
    settings: LGMDistiller,
    images: np.ndarray,
    labels: np.ndarray,
    real: RealGradients,
    interval_seed: int,
) -> GradientAlignment:
    """Return the alignment of prototypes on the backbone that is set."""
    own = _prototype_gradients(settings, images, labels, real)
    # One head at a time, since all of them in float64 may be large.
    pairs = zip(real.sums.cpu(), own.sums.cpu(), strict=True)
    distances = [
        angular_distance(a[None].double(), b[None].double(), settings.matching) for a, b in pairs
    ]
    if len(distances) < 2:
        raise ValueError("There is one head, and no interval of its mean. Raise its pool_size.")
    by_head = 1 - torch.stack(distances).numpy()
    low, high = percentile_interval(
        [by_head], lambda values: values.mean(axis=-1), np.random.RandomState(interval_seed)
    )
    return GradientAlignment(float(by_head.mean()), low, high, by_head)


def _prototype_gradients(
    settings: LGMDistiller, images: np.ndarray, labels: np.ndarray, real: RealGradients
) -> RealGradients:
    """Return gradients of prototypes for the heads of the real ones, of views like theirs."""
    encoder = settings._encoder()
    side = images.shape[1]
    rows = settings.backbone is None
    expected = (real.n_features,) if rows else (side, side, 3)
    if images.shape[1:] != expected:
        raise ValueError(
            f"Prototypes have the shape {images.shape[1:]}, but backbone={settings.backbone!r} "
            f"needs {expected}. Pass prototypes and a backbone that go together."
        )
    check_same_classes(labels, real.classes, "prototypes", "y")
    gradients = RealGradients(
        real.classes,
        class_counts=np.unique(labels, return_counts=True)[1],
        class_weight="balanced" if settings.class_weight == "balanced" else None,
        head_pool_size=real.head_pool_size,
        head_scale=real.head_scale,
        head_seed=real.head_seed,
    )
    # There are as many random views of all prototypes as of all real images.
    n_real = int(real.images_seen.sum()) * settings.n_real_views
    n_views = min(max(n_real // len(images), settings.n_real_views), _MOST_VIEWS)
    # The same seed as for real views, so that a set is compared with itself in the same views.
    real_pass = replace(settings._real_pass(encoder, settings._seeds()), n_real_views=n_views)
    real_pass.add(gradients, images, labels, np.ones(len(labels)))
    return gradients
