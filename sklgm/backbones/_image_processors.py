"""Image processors of transformers: what they do, in the terms of a record."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from sklgm.backbones._spec import BackboneSpec


def read_processor(place: str) -> Any:
    """Return an image processor that works on PIL images, as the models' authors did."""
    from transformers import AutoImageProcessor
    from transformers import __version__ as version

    pil: dict[str, Any] = {"use_fast": False} if version.startswith("4.") else {"backend": "pil"}
    return AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **pil)


def preparation(processor: Any) -> dict[str, Any]:
    """Return what a record says of how an image processor prepares images.

    One that does something else than resize, crop and normalise is a ValueError.
    """
    settings = processor.to_dict()
    size, crop = settings.get("size") or {}, settings.get("crop_size")
    edge, share = size.get("shortest_edge"), settings.get("crop_pct")
    canvas = edge or size.get("height") or 224
    side = crop["height"] if settings.get("do_center_crop") else canvas
    is_squashed = edge is None
    if edge and share:  # the way of ConvNeXt
        is_squashed = edge >= 384
        canvas = edge if is_squashed else int(edge / share)
    share = side / canvas
    while math.floor(side / share) < canvas:  # by a rounding
        share = math.nextafter(share, 0)
    found = {
        "image_size": side,
        "mean": tuple(settings.get("image_mean") or (0.0,) * 3),
        "std": tuple(settings.get("image_std") or (1.0,) * 3),
        "interpolation": Image.Resampling(settings.get("resample", 2)).name.lower(),
        "crop_pct": share,
        "resize": "squash" if is_squashed else "shortest",
    }
    _check_preparation(processor, found)
    return found


def _check_preparation(processor: Any, found: dict[str, Any]) -> None:
    """Raise ValueError unless a smooth picture is prepared as the processor does it."""
    down, right = np.mgrid[0:1:200j, 0:1:280j]
    picture = np.stack([down, right, 1 - down], axis=-1)
    image = Image.fromarray((255 * picture).astype(np.uint8))
    spec = BackboneSpec("", "transformers", "", "", **found)
    wanted = processor(images=image, return_tensors="pt")["pixel_values"][0].movedim(0, -1)
    for step in transform(spec, spec.image_size):
        image = step(image)
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    ours = (torch.from_numpy(np.array(image)) / 255 - mean) / std
    # Some levels of brightness by another rounding or filter; another crop is far more.
    if ours.shape != wanted.shape or (ours - wanted).abs().max() > 4 / 255 / std.min():
        raise ValueError(
            f"{type(processor).__name__} does something else than to resize, crop and normalise "
            f"square images, and sklgm has no such preparation. Wrap the model yourself: "
            f"Backbone.from_module(net, image_size=..., mean=..., std=...)."
        )


def transform(spec: BackboneSpec, image_size: int) -> list[Any]:
    """Return a resize and a centre crop of PIL images, of a processor or for a user's module."""
    from torchvision import transforms

    canvas = spec.canvas_size(image_size)
    size = (canvas, canvas) if spec.resize == "squash" else canvas

    def crop(image: Image.Image) -> Image.Image:
        # Half a pixel is rounded down, other than by torchvision's own crop.
        left, top = ((side - image_size) // 2 for side in image.size)
        return image.crop((left, top, left + image_size, top + image_size))

    mode = transforms.InterpolationMode(spec.interpolation)
    centre = transforms.CenterCrop(image_size) if spec.resize == "canvas" else crop
    return [transforms.Resize(size, interpolation=mode), centre]
