"""scikit-learn's own estimator checks, on every public estimator, without expected failures."""

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
    HerdingImages(backbone=None, prototypes_per_class=2),
    KCenterImages(backbone=None, prototypes_per_class=2),
    RandomImages(backbone=None, random_state=0),
    DISTILLER,
    NearestImages(DISTILLER),
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
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    check(estimator)
