"""Frozen pretrained nets, each with its own preprocessing, by name or around a user's module."""

from sklgm.backbones._backbone import Backbone
from sklgm.backbones._cache import clear_backbone_cache
from sklgm.backbones._list import list_backbones
from sklgm.backbones._several import get_backbone
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import WeightsNotFoundError

__all__ = [
    "Backbone",
    "BackboneSpec",
    "WeightsNotFoundError",
    "clear_backbone_cache",
    "get_backbone",
    "list_backbones",
]
