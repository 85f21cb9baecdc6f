"""The maths of gradient matching: functions of tensors that know no image, net or estimator."""

from sklgm.matching.gradients import angular_distance, matching_loss, probe_gradients
from sklgm.matching.heads import HeadPool
from sklgm.matching.real import RealGradients

__all__ = ["HeadPool", "RealGradients", "angular_distance", "matching_loss", "probe_gradients"]
