"""What looks at prototypes beside real images: settings of the probe, features and scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from sklgm.backbones import Backbone
from sklgm.backbones._several import check_backbone, resolve_first
from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.distilled import check_fits_net
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.selectors.nearest import nearest_rows
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.nets import nets_of, own_names
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.targets import check_known, check_targets

_OF_THE_NET = tuple(FrozenBackboneEstimator._parameter_constraints)


def check_probe(probe: Any, backbone: Any) -> FrozenBackboneProbe:
    """Return an unfitted probe of a backbone, with the settings of ``probe`` or the defaults.

    A ValueError says if it is something else, has a distiller, or a parameter is wrong.
    """
    if probe is None:
        return FrozenBackboneProbe(backbone)
    if not isinstance(probe, FrozenBackboneProbe) or probe.distiller is not None:
        raise ValueError(
            f"probe must be None or a FrozenBackboneProbe without a distiller; got {probe!r}. "
            f"Another classifier goes into it as head=, a distiller among the selections."
        )
    probe = clone(probe).set_params(backbone=backbone)
    probe._validate_params()
    resolve_augmentation(probe.augmentation)
    return probe


def net_parameters(estimator: Any) -> dict[str, Any]:
    """Return an estimator's parameters about the net and the images, which others share."""
    # Not get_params: some have them from the estimator they hold.
    return {name: getattr(estimator, name) for name in _OF_THE_NET}


def distiller_parameters(probe: FrozenBackboneProbe) -> dict[str, Any]:
    """Return a probe's parameters that a distiller shares; its standard views are blurred there."""
    augmentation = "blurred" if probe.augmentation == "standard" else probe.augmentation
    return {**net_parameters(probe), "augmentation": augmentation}


def check_prototypes(prototypes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return prototypes and their labels, of a `PrototypeSet` or a fitted estimator.

    Anything else is a NotFittedError, ValueError or TypeError.
    """
    if not isinstance(prototypes, PrototypeSet):
        prototypes = PrototypeSet.from_estimator(prototypes)
    return prototypes.images, prototypes.labels


def check_real(
    labels: np.ndarray, X: Any, y: Any, probe: FrozenBackboneProbe, caller: str
) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray]:
    """Check real images that are to be looked at by a probe, together with prototypes.

    ``labels`` are those of the prototypes, and ``caller`` is a name for the messages.

    A ValueError says if something cannot be used, or ``y`` lacks a class of the prototypes.

    Returns
    -------
    own : ndarray of int of shape (n_prototypes,)
        Class of each prototype.
    source : ImageSource or ndarray of shape (n_samples, n_features)
        The real images.
    indices : ndarray of int of shape (n_samples,)
        Class of each real image.
    classes : ndarray of shape (n_classes,)
        The labels of the classes.
    """
    source = clone(probe)._check_X(X, reset=True)
    classes, indices = check_targets(y, len(source), caller)
    check_known(labels, classes, "classes of prototypes", "y")
    return np.searchsorted(classes, labels), source, indices, classes


def probe_of(prototypes: Any, backbone: Any, probe: Any) -> FrozenBackboneProbe:
    """Return an unfitted probe to look at prototypes with.

    Without a backbone it has that of the estimator, which need not be fitted, the first of
    several, with the estimator's image size and other settings about the net; or the first that
    a set was made on. Nets that a set was made on see its image size. Other settings are those of
    ``probe`` or the defaults. A ValueError says if there is no backbone for images, or
    the probe cannot be used.
    """
    if isinstance(prototypes, PrototypeSet) and not isinstance(backbone, Backbone):
        if prototypes.images.ndim == 2:
            return check_probe(probe, backbone)
        check_probe(probe, backbone)  # before a net is made
        size = None if probe is None else probe.image_size
        if backbone is None:  # of joint prototypes, the first net is taken, as of their distiller
            (backbone,) = own_names(prototypes, 1)
        check_backbone(backbone)
        return check_probe(probe, nets_of(prototypes, [backbone], size)[backbone])
    if backbone is not None:
        return check_probe(probe, backbone)
    if all(hasattr(prototypes, name) for name in _OF_THE_NET):
        net = net_parameters(prototypes)
        if net["backbone"] is not None:
            net["backbone"] = resolve_first(net["backbone"], net["image_size"])
        probe = check_probe(probe, net["backbone"]).set_params(**net)
        if hasattr(prototypes, "backbone_fingerprint_"):
            prototypes._check_same_net(probe._encoder())
        return probe
    raise ValueError(
        f"{type(prototypes).__name__} brings no net to look with. Pass backbone=, a name, or "
        f"Backbone.from_name(name).with_image_size(size) for another size."
    )


def embed_real(probe: FrozenBackboneProbe, X: Any) -> np.ndarray:
    """Return features (n_samples, n_features) of images or rows, float32."""
    probe = clone(probe)
    return probe._embed_source(probe._check_X(X, reset=True), probe._encoder())


def embed_all(
    probe: FrozenBackboneProbe, images: np.ndarray, X: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 features of prototypes' centre crops, and those of real images or rows."""
    check_fits_net(images, probe.backbone)
    return probe._encoder().embed_canvases(images), embed_real(probe, X)


@dataclass(frozen=True, eq=False)
class RealImages:
    """Real images among which prototypes were looked for.

    Attributes
    ----------
    source : ImageSource
        The images.
    labels : ndarray of shape (n_samples,)
        Their classes.
    features : ndarray of shape (n_samples, n_features)
        Their features, float32.
    prototype_features : ndarray of shape (n_prototypes, n_features)
        Those of the prototypes, float32.
    nearest : ndarray of int of shape (n_prototypes,)
        The most similar image of its class for each prototype, none twice.
    """

    source: Any
    labels: np.ndarray
    features: np.ndarray
    prototype_features: np.ndarray
    nearest: np.ndarray


def find_nearest(
    images: np.ndarray, labels: np.ndarray, X: Any, y: Any, probe: FrozenBackboneProbe, caller: str
) -> RealImages:
    """Find the real image that is most similar to each prototype, as :func:`check_real` has them.

    Raises
    ------
    ValueError
        If something cannot be used, or a class has fewer images than prototypes.
    """
    own, source, indices, classes = check_real(labels, X, y, probe, caller)
    scarce = np.bincount(indices) < np.bincount(own, minlength=len(classes))
    if scarce.any():
        raise ValueError(
            f"X has fewer images than prototypes of {classes[scarce].tolist()}. Pass more images."
        )
    points, features = embed_all(probe, images, source)
    nearest = nearest_rows(features, indices, points, own)
    return RealImages(source, classes[indices], features, points, nearest)


def class_scores(probe: FrozenBackboneProbe, features: np.ndarray) -> np.ndarray:
    """Return a fitted probe's scores (n, n_classes) of features.

    They are ``decision_function`` of the head, with two classes half of it for and against, or
    else the logarithm of probabilities.
    """
    head = probe.head_
    if hasattr(head, "decision_function"):
        scores = np.asarray(head.decision_function(features))
        return np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
    if not hasattr(head, "predict_proba"):
        raise ValueError(f"The head {head!r} has neither decision_function nor predict_proba.")
    probabilities = head.predict_proba(features)
    return np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny))
