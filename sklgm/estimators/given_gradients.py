"""Statistics of the real data that a user passes: whether they fit the distiller to match them."""

from typing import Any

import numpy as np

from sklgm.matching import RealGradients


def gradients_in_order(gradients: Any, backbones: list[str] | None) -> list[RealGradients]:
    """Return the statistics that a user passed, one for each backbone, in their order.

    ``backbones`` are the names of the distiller's, when it has a list of them. A ValueError says
    if a list is missing or too much, or the statistics are of other backbones or in another order,
    or differ in classes or number of heads.
    """
    found = [gradients] if backbones is None else gradients
    if not isinstance(found, list | tuple) or not all(isinstance(g, RealGradients) for g in found):
        wanted = "a RealGradients" if backbones is None else "a list of RealGradients"
        raise ValueError(f"gradients must be {wanted}; got {gradients!r}.")
    names = [one.backbone for one in found]
    if backbones is not None and names != backbones:
        raise ValueError(
            f"gradients must be of the backbones {backbones}, in that order; got those of {names}."
        )
    for attribute in ("classes", "head_pool_size"):
        several = [getattr(one, attribute) for one in found]
        if not all(np.array_equal(several[0], other) for other in several):
            raise ValueError(
                f"gradients differ in {attribute}: {several}. Make them of the same data with the "
                f"same parameters."
            )
    return list(found)


def check_gradients(
    gradients: RealGradients, distiller: Any, encoder: Any, soft_labels: bool = False
) -> None:
    """Raise ValueError unless statistics fit the distiller that is to match them.

    Gradients made by hand name no views.
    """
    missing = gradients.classes[gradients.rows_seen == 0].tolist()
    if missing:
        raise ValueError(f"gradients hold no image of the classes {missing[:5]}. Add their shards.")
    asked = {"backbone": encoder.name, "class_weight": distiller.class_weight}
    if encoder.n_features is not None:  # rows may have any number
        asked["n_features"] = encoder.n_features
    if gradients.views is not None:
        asked["views"] = distiller._views(encoder)
    for name, value in asked.items():
        found = getattr(gradients, name)
        if found != value:
            raise ValueError(
                f"gradients were made with {name}={found!r}, this distiller has {value!r}. Give it "
                f"the same parameters, or make them again."
            )
    if distiller.class_weight == "balanced" and not gradients.is_balanced:
        raise ValueError(
            "gradients are not weighted by class, and class_weight='balanced' asks for it. "
            "Make them with class_counts, or set class_weight=None."
        )
    if soft_labels and not gradients.store_covariance:
        raise ValueError(
            "gradients were made with store_covariance=False, and soft_labels=True needs the "
            "covariance. Make them by compute_gradients of a distiller with soft_labels=True, or "
            "with RealGradients(store_covariance=True); or set soft_labels=False."
        )
