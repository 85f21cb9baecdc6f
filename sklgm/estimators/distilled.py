"""A distiller that is fitted inside another estimator, and whether prototypes suit its net."""

import re
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from sklgm.prototypes.nets import difference, recorded_net, recorded_size, size_made_at
from sklgm.prototypes.prototype_set import PrototypeSet


def fit_distiller(
    owner: BaseEstimator, distiller: Any, X: Any, y: Any, context: Any, **metadata: Any
) -> None:
    """Fit a distiller as a task of its owner's fit, whose callbacks follow it by ``context``."""
    task = context.subcontext(task_name="distil")
    # In a frozen one nothing is fitted, and the callbacks it was fitted with are no obstacle.
    frozen = isinstance(distiller, FrozenEstimator)
    with nullcontext() if frozen else task.propagate_callback_context(distiller):
        task.call_on_fit_task_begin(estimator=owner)
        try:
            distiller.fit(X, y, **metadata)
        except Exception as error:
            # Its net may be one that the user did not name: it has a default of its own.
            backbone = getattr(distiller, "backbone", None)
            error.add_note(
                f"This was raised by {type(distiller).__name__}(backbone={backbone!r}), the "
                f"distiller of {type(owner).__name__}. It has settings of its own."
            )
            raise
        task.call_on_fit_task_end(estimator=owner)


def warn_of_sizes(probe: Any, distiller: Any, encoder: Any) -> bool:
    """Warn, before a fit, of a distiller for the probe's net that makes images of another size.

    Return whether there is one.
    """
    distiller = getattr(distiller, "estimator", distiller)  # of a frozen one
    same = isinstance(probe.backbone, str) and getattr(distiller, "backbone", "") == probe.backbone
    if not same or not hasattr(distiller, "image_size"):
        return False
    net = encoder.backbone
    made = distiller.image_size or net.spec.image_size
    if made != net.image_size:
        warnings.warn(
            f"The distiller makes prototypes for a net that sees {made} pixels, and this probe "
            f"sees {net.image_size}. Give both the same image_size.",
            stacklevel=5,  # past fit and two wrappers of scikit-learn around it
        )
    return bool(made != net.image_size)


def check_fits_net(prototypes: np.ndarray, backbone: Any) -> None:
    """Raise ValueError unless prototypes are rows without a backbone, and square with one."""
    rows = prototypes.ndim == 2
    if rows != (backbone is None):
        raise ValueError(
            f"Prototypes are {'rows' if rows else 'images'}, but the backbone to look at them "
            f"with is {backbone!r}. Rows need backbone=None, and images a backbone."
        )
    if not rows and prototypes.shape[1] != prototypes.shape[2]:
        raise ValueError(
            f"Prototypes must be square for a net; got {prototypes.shape}. Crop or resize them."
        )


def warn_of_net(given: PrototypeSet, X: Any, backbone: Any, encoder: Any) -> None:
    """Warn, in the ``fit`` of a probe, where its net is not as that of the prototypes was.

    How images were prepared for that net is told where ``X``, what was passed to ``fit``, is the
    set itself: nobody else tells it then. ``backbone`` is the net as the user gave it.
    """
    if backbone is None:
        return
    net, side = encoder.backbone, given.images.shape[1]
    texts = []
    if given is X:
        texts.append(difference(recorded_net(given.provenance, net, backbone), net, backbone))
        made = size_made_at(given, net, backbone)
    else:  # in a pipeline, where X knows what the distiller's net saw
        key, *_ = getattr(X, "feature_key", None) or ("",)
        found = re.match(rf"{re.escape(net.name)}-(\d+)px-", key)
        made = int(found[1]) if found else None
    if made not in (None, net.image_size):
        texts.append(
            f"The prototypes were made with image_size={made}, and this probe sees "
            f"{net.image_size} pixels. Give both the same image_size."
        )
    elif made is None and 2 * side < net.canvas_size:
        known = recorded_size(given.provenance, {}, side)
        size = known or f"about {round(side * net.image_size / net.canvas_size)}"
        texts.append(
            f"Prototypes of {side} x {side} pixels are enlarged for a net that sees "
            f"{net.image_size}. If they were made at a smaller image_size, use the same one here, "
            f"{size}."
        )
    for text in filter(None, texts):
        warnings.warn(text, stacklevel=5)  # past fit and two wrappers of scikit-learn around it
