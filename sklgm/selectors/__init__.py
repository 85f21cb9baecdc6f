"""Baselines that choose real images as prototypes, under the distiller's interface."""

from sklgm.selectors._centroids import ClassCentroids
from sklgm.selectors._herding import HerdingImages
from sklgm.selectors._nearest import NearestImages
from sklgm.selectors._random import RandomImages

__all__ = ["ClassCentroids", "HerdingImages", "NearestImages", "RandomImages"]
