"""From a name to its record, and from a record to the library that builds it."""

from __future__ import annotations

from types import ModuleType

from sklgm.backbones import _open_clip, _timm
from sklgm.backbones._spec import ALIASES, REGISTRY, BackboneSpec, list_backbones, unknown_name

# Each has describe(identifier, pretrained), build(spec, image_size, pretrained) and
# transform(spec, image_size).
LIBRARIES: dict[str, ModuleType] = {"timm": _timm, "package": _timm, "open_clip": _open_clip}


def find_spec(name: str, pretrained: bool) -> BackboneSpec:
    """Return the record of a name, written from the library's own configuration if need be."""
    canonical = ALIASES.get(name, name)
    if canonical in REGISTRY:
        return REGISTRY[canonical]
    library, colon, identifier = canonical.partition(":")
    if colon and library in ("timm", "open_clip"):
        spec: BackboneSpec = LIBRARIES[library].describe(identifier, pretrained)
        return spec
    ways = (
        f"Known names: {', '.join(list_backbones())}; any net of timm as 'timm:<name>'; any of "
        "open_clip as 'open_clip:<architecture>/<pretrained>'."
    )
    raise unknown_name(name, list_backbones(), ways)
