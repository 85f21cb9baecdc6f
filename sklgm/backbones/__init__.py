"""Frozen pretrained nets, each with its own preprocessing, by name or around a user's module."""

from sklgm.backbones._backbone import Backbone, get_backbone
from sklgm.backbones._list import BACKBONE_COLUMNS, backbone_rows, list_backbones
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import WeightsNotFoundError

__all__ = [
    "BACKBONE_COLUMNS",
    "Backbone",
    "BackboneSpec",
    "WeightsNotFoundError",
    "backbone_rows",
    "get_backbone",
    "list_backbones",
]
