"""Estimators that show their prototypes in a notebook."""

from typing import Any

from sklearn.utils import estimator_html_repr

from sklgm.utils.pictures import picture_strip


class ShowsPrototypes:
    """Mixin of estimators that are fitted to prototypes or have a distiller that is."""

    def _html_repr(self) -> str:
        """Return scikit-learn's diagram, and below it the prototypes, if there are any."""
        diagram = estimator_html_repr(self)
        holder: Any = getattr(self, "distiller_", self)
        images = getattr(holder, "prototypes_", None)
        if images is None or images.ndim == 2:
            return diagram
        return diagram + picture_strip(images, holder.prototype_labels_)
