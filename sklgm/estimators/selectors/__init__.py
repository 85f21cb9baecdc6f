"""Baselines that choose real images as prototypes, under the distiller's interface."""

from sklgm.estimators.selectors.centroids import ClassCentroids
from sklgm.estimators.selectors.herding import HerdingImages
from sklgm.estimators.selectors.k_center import KCenterImages
from sklgm.estimators.selectors.nearest import NearestImages
from sklgm.estimators.selectors.random import RandomImages

__all__ = ["ClassCentroids", "HerdingImages", "KCenterImages", "NearestImages", "RandomImages"]
