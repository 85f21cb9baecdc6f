"""MoCo-v3: timm's vision transformers with a fixed position embedding.

The layout of the weights is that of the published training code and of the linear probes it
publishes; the hub repository is read as other published code reads it, as timm's own names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sklgm.backbones import _timm
from sklgm.backbones._checkpoints import loading, read_checkpoint
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import find_weights

transform = _timm.transform


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its projection head, on the CPU."""
    options: dict[str, Any] = {"num_classes": 0, "img_size": image_size}
    if pretrained:
        path = find_weights(spec)
        with loading(path, spec.architecture):
            state = to_timm(read_checkpoint(path))
        return _timm.load(spec.architecture, state, path, options)
    net = _timm.create(spec.architecture, **options)
    with torch.no_grad():
        net.pos_embed.copy_(position_embedding(net.patch_embed.grid_size[0], net.embed_dim))
    return net


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the encoder's tensors as timm does.

    A training checkpoint holds two encoders, of which the base encoder is the one that the
    authors probe; the momentum encoder serves where a file has no other. What a file of timm's
    names holds is left as it is. The position embedding is fixed, so a file may lack it.

    Parameters
    ----------
    state : dict of str to Tensor
        The tensors, as `read_checkpoint` returns them.

    Returns
    -------
    dict of str to Tensor
        A new dict of the same tensors.
    """
    for prefix in ("base_encoder.", "momentum_encoder."):
        encoder = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if encoder:
            break
    else:
        encoder = dict(state)
    if "pos_embed" not in encoder and "cls_token" in encoder:
        # For 224 pixels, as trained; timm interpolates it for other sizes.
        encoder["pos_embed"] = position_embedding(14, encoder["cls_token"].shape[-1])
    return encoder


def position_embedding(side: int, n_features: int) -> Tensor:
    """Compute the fixed position embedding: zeros for the class token, then sines and cosines.

    Parameters
    ----------
    side : int
        Patches along a side of the image.
    n_features : int
        Length of a token, a multiple of 4.

    Returns
    -------
    Tensor of shape (1, 1 + side * side, n_features)
        Row by row; of a patch's token a quarter each is the sine and the cosine of its row, and
        the sine and the cosine of its column.
    """
    from timm.layers import build_sincos2d_pos_embed

    # timm has the sines of row and column first.
    waves = build_sincos2d_pos_embed([side, side], n_features, temperature=10000.0)
    patches = waves.view(side * side, 2, 2, n_features // 4).transpose(1, 2).flatten(1)
    return torch.cat([torch.zeros(1, n_features), patches])[None]
