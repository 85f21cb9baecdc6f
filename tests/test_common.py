"""scikit-learn's own estimator checks, on every public estimator."""

from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    HerdingImages,
    KCenterImages,
    LGMDistiller,
    NearestImages,
    PrototypeSampler,
    RandomHeads,
    RandomImages,
)

DISTILLER = LGMDistiller(backbone=None, max_iter=20, heads=RandomHeads(4, 8), random_state=0)
ESTIMATORS = [
    BackboneEmbedder(backbone=None),
    ClassCentroids(backbone=None, random_state=0),
    ClassCentroids(backbone=None, prototypes_per_class=2, random_state=0),
    HerdingImages(backbone=None),
    HerdingImages(backbone=None, prototypes_per_class=2),
    KCenterImages(backbone=None),
    KCenterImages(backbone=None, prototypes_per_class=2),
    RandomImages(backbone=None, random_state=0),
    RandomImages(backbone=None, soft_labels=True, random_state=0),
    DISTILLER,
    clone(DISTILLER).set_params(soft_labels=True, init="nearest"),
    NearestImages(DISTILLER),
    NearestImages(clone(DISTILLER).set_params(soft_labels=True)),
    PrototypeSampler(DISTILLER),
    FrozenBackboneProbe(backbone=None, max_epochs=30, learning_rate=0.1, random_state=0),
    FrozenBackboneProbe(
        backbone=None,
        distiller=LGMDistiller(
            backbone=None, max_iter=100, heads=RandomHeads(4, 8, 1.0), random_state=0
        ),
        max_epochs=100,
        learning_rate=0.1,
        random_state=0,
    ),
    FrozenBackboneProbe(
        backbone=None,
        distiller=ClassCentroids(backbone=None, soft_labels=True, random_state=0),
        max_epochs=100,
        learning_rate=0.1,
        random_state=0,
    ),
]


def expected_failures(estimator):
    """Return reasons why weights are not quite as good as copies: all hold for this check alone."""
    reason = None
    if isinstance(estimator, RandomImages):
        reason = "Images drawn by weight are as likely as copies, but not the same."
    elif isinstance(estimator, LGMDistiller):
        reason = "It asks for 1e-7, and the float32 sums of weighted rows are rounded differently."
    elif getattr(estimator, "prototypes_per_class", 1) == 2:
        reason = "In one class a single row has a weight: copies of it are two images, it is not."
    return {} if reason is None else {"check_sample_weight_equivalence_on_dense_data": reason}


# Not strictly: elsewhere rounding may be the same.
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures, xfail_strict=False)
def test_scikit_learn_check(estimator, check):
    check(estimator)
