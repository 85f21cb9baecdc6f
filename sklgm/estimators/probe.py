"""FrozenBackboneProbe: a linear classifier on frozen features, trained on images or prototypes."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from sklgm.estimators.bank import embed_views
from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.distilled import check_fits_net, fit_distiller, warn_of_net, warn_of_sizes
from sklgm.estimators.head import fit_linear_head, fit_other_head
from sklgm.images import ImageSource
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.prototypes.similarities import has_references
from sklgm.utils.devices import plain_torch
from sklgm.utils.notebook import ShowsPrototypes
from sklgm.utils.random import own_random_state
from sklgm.utils.targets import (
    check_column,
    check_same_classes,
    check_spelling,
    check_targets,
    number_labels,
)


def _head_has(method: str) -> Any:
    """Return whether the head, or the default one, has a method."""

    def check(probe: FrozenBackboneProbe) -> bool:
        head = getattr(probe, "head_", probe.head)
        return head is None or hasattr(head, method)

    return check


class FrozenBackboneProbe(
    ShowsPrototypes, CallbackSupportMixin, ClassifierMixin, FrozenBackboneEstimator
):
    """Classify images by a linear head on the features of a frozen backbone.

    It trains on the images it is given or, with ``distiller``, on the prototypes made of them
    and on nothing else, by their soft labels if they have some; it always predicts on images.
    So ``cross_val_score`` and ``GridSearchCV`` of a probe with a distiller evaluate the
    distillation.

    Parameters
    ----------
    backbone : str, Backbone or None, default="clip"
        Frozen net: a name (see :func:`sklgm.list_backbones`), a `Backbone`, or None when rows
        of X are features already.
    distiller : estimator or None, default=None
        `LGMDistiller`, a selector such as `ClassCentroids`, or another with ``prototypes_``,
        ``prototype_labels_`` and perhaps soft labels, ``prototype_probabilities_``, whose columns
        are the classes in sorted order. A clone is fitted. None trains on all images.
    head : classifier or None, default=None
        Any scikit-learn classifier; a clone is fitted on the features of all views and the labels
        of y; it takes no soft labels. None is softmax regression trained by Adam, in batches of
        100.
    augmentation : {"standard", "blurred"}, StandardAugmentation or None, default="standard"
        Random views of the training images. "standard" is ``StandardAugmentation()``, flips and
        crops; "blurred" is ``StandardAugmentation(blur=0.5)``; None uses centre crops alone. Or
        an object of your own, see `StandardAugmentation`.
    n_views : int or "auto", default="auto"
        Views of each training image, embedded once. "auto" spends about 2000 views: 100 for
        each of 20 images or fewer, 4 for each of 500 or more.
    max_epochs : int, default=1000
        Passes of the default head over the training images.
    learning_rate : float, default=0.001
        Learning rate of the default head's Adam at the first epoch. It falls to 0 by a cosine.
    image_size : int or None, default=None
        Side in pixels of what the net sees; None is the backbone's own.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once. "auto" chooses by image size and device, and takes half as
        many images after running out of memory.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision that the net computes in. "auto" is bfloat16 on a GPU that has it and, for nets
        that see images in patches, on a CPU with AMX units. It is float32 elsewhere.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does.
    memory : str, path-like, joblib.Memory or None, default=None
        Cache of features of real images. Features of random views are cached only with a fixed
        ``random_state``.
    random_state : int, RandomState instance or None, default=None
        Makes the result reproducible. The global generators are neither read nor written.
    verbose : int, default=0
        Above 0, it is passed on to a distiller that has a parameter ``verbose``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    head_ : classifier
        The fitted head. That of ``head=None`` has ``coef_`` of shape (n_classes, n_features) and
        ``intercept_`` of shape (n_classes,), with two classes one row of each.
    distiller_ : estimator
        The fitted distiller, when one was given.
    backbone_fingerprint_ : str or None
        Fingerprint of the net that it was fitted on. Another net is refused later.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None``.

    Notes
    -----
    As the last step of a pipeline after a distiller, the probe receives the similarities that
    the distiller's ``transform`` returns. It finds the prototypes and the images in them, trains
    on the former and predicts on the latter; ``y`` must then have the classes of the prototypes
    and is not used any further. Where a step or ``set_output`` in between turns them into a
    plain table, the references are lost; ``FrozenBackboneProbe(distiller=...)`` needs none, and
    it saves the pass for the similarities where the distiller has another backbone than the probe.

    Images are brought to the backbone's `canvas_size`, in 8 bits. Floats in [0, 1] that have that
    size already are trained on as they are, so that prototypes made for this backbone alone are
    the same pixels given as X as with ``distiller``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklgm import FrozenBackboneProbe, LGMDistiller
    >>> X, y = load_iris(return_X_y=True)
    >>> distiller = LGMDistiller(backbone=None, random_state=0)
    >>> probe = FrozenBackboneProbe(backbone=None, distiller=distiller, random_state=0)
    >>> bool(cross_val_score(probe, X, y, cv=3).mean() > 0.7)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **FrozenBackboneEstimator._parameter_constraints,
        "distiller": [HasMethods(["fit"]), None],
        "head": [HasMethods(["fit", "predict"]), None],
        "augmentation": [StrOptions({"standard", "blurred"}), HasMethods(["draw", "apply"]), None],
        "n_views": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone="clip",
        *,
        distiller=None,
        head=None,
        augmentation="standard",
        n_views="auto",
        max_epochs=1000,
        learning_rate=1e-3,
        image_size=None,
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.distiller = distiller
        self.head = head
        self.augmentation = augmentation
        self.n_views = n_views
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, **params: Any) -> FrozenBackboneProbe:
        """Train the head.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; paths, which are streamed; or another of
            :doc:`/inputs`. Or the similarities a distiller returned, or a `PrototypeSet`.
        y : array-like of shape (n_samples,)
            Class labels. A `PrototypeSet` has its own, and none are needed.
        **params : dict
            Metadata such as ``sample_weight``, one value an image, for the ``fit`` of the distiller
            or the head, whichever requests it by ``set_fit_request(sample_weight=True)``. Only
            with ``sklearn.set_config(enable_metadata_routing=True)``. To a head it goes for all
            views of an image, or of a prototype of a `PrototypeSet`; other prototypes have none.

        Returns
        -------
        FrozenBackboneProbe
            Fitted.

        Raises
        ------
        ValueError
            If X, y or metadata cannot be used; the message says why. Nothing is fitted then.

        Warns
        -----
        UserWarning
            If prototypes have soft labels and ``head`` takes none: it is trained on their classes.
            If prototypes were made on this net at another image size, or from images that were
            prepared otherwise.
        """
        _raise_for_params(params, self, "fit")
        routed = process_routing(self, "fit", **params)
        metadata = dict(routed["head"]["fit"])
        state = own_random_state(self.random_state)
        view_seed, head_seed = state.randint(2**31 - 1, size=2).tolist()
        context = self._init_callback_context(max_subtasks=1 if self.distiller is None else 2)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        given = self._given_prototypes(X)
        if metadata and (self.distiller is not None or (given is not None and given is not X)):
            raise ValueError(
                f"{', '.join(metadata)} cannot be used: the head is trained on prototypes, not on "
                f"the images. Leave it out, or let the distiller request it instead of the head: "
                f"FrozenBackboneProbe(distiller=LGMDistiller().set_fit_request(sample_weight=True))."
            )
        # Before the distiller's long work: a backbone or a setting of the probe may be wrong.
        encoder = self._encoder()
        augmentation = resolve_augmentation(self.augmentation)
        distiller, told = None, False
        if given is not None:
            self._check_given(given, X, y)
        else:
            source = self._check_X(X, reset=True)
        if self.distiller is not None:
            told = warn_of_sizes(self, self.distiller, encoder)
            data = source if self.backbone is None else X
            distiller, given = self._fit_distiller(data, y, context, routed["distiller"]["fit"])
        if given is None:
            classes, labels = check_targets(y, len(source), type(self).__name__)
        else:
            source = given.images
            if not told:
                warn_of_net(given, X, self.backbone, encoder)
            classes, labels = number_labels(given.labels, type(self).__name__)
        soft_labels = None if given is None else given.probabilities
        if "sample_weight" in metadata:
            metadata["sample_weight"] = _check_sample_weight(metadata["sample_weight"], labels)
        task = context.subcontext(task_name="head").call_on_fit_task_begin(estimator=self)
        with plain_torch(self._device()):
            memory = None if self.random_state is None else self.memory
            bank = embed_views(source, encoder, augmentation, self.n_views, view_seed, memory)
        if self.head is None:
            targets = labels if soft_labels is None else soft_labels
            head = fit_linear_head(self, bank, targets, classes, head_seed)
        else:
            head = fit_other_head(self.head, bank, classes[labels], soft_labels, metadata)
        task.call_on_fit_task_end(estimator=self)
        self.backbone_fingerprint_ = encoder.fingerprint
        self.classes_ = classes
        self.head_ = head
        self.__dict__.pop("distiller_", None)
        if distiller is not None:
            self.distiller_ = distiller
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Say which metadata goes to the head and the distiller.

        Returns
        -------
        MetadataRouter
            See scikit-learn's user guide on metadata routing.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(head=self.head, distiller=self.distiller, method_mapping=mapping)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each image.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        check_is_fitted(self)
        return self.head_.predict(self._features(X))

    @available_if(_head_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return self.head_.predict_proba(self._features(X))

    @available_if(_head_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the score of each class: the head's logits, for the default head.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) with two classes
            With two classes, a positive score is in favour of ``classes_[1]``.
        """
        check_is_fitted(self)
        return self.head_.decision_function(self._features(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels, of the kinds that ``fit`` takes.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weight of each image; 1 when None.

        Returns
        -------
        float
            The weighted share of images that are classified correctly.

        Raises
        ------
        ValueError
            If X or y cannot be used, or a label differs from a class in its Unicode form alone.
        """
        check_is_fitted(self)
        y = check_column(y, "y")
        check_spelling(y, self.classes_)
        return super().score(X, y, sample_weight)

    def _uses_references(self, X: Any) -> bool:
        """Return whether X brings prototypes of the kind this probe trains on."""
        if not has_references(X):
            return False
        if self.distiller is not None:
            raise ValueError(
                "X is of a distiller, and this probe has a distiller too. Leave one of them out."
            )
        return (X.prototypes.ndim == 2) == (self.backbone is None)

    def _given_prototypes(self, X: Any) -> PrototypeSet | None:
        """Return the prototypes that X is or brings, if this probe is to train on them."""
        if self._uses_references(X):
            soft = X.prototype_probabilities
            return PrototypeSet(X.prototypes, X.prototype_labels, probabilities=soft)
        if not isinstance(X, PrototypeSet):
            return None
        if self.distiller is not None:
            raise ValueError(
                "X is prototypes, and this probe has a distiller. Leave it out to train on them."
            )
        check_fits_net(X.images, self.backbone)
        return X

    def _check_given(self, given: PrototypeSet, X: Any, y: Any) -> None:
        """Raise unless labels given with prototypes fit them; note the columns of rows."""
        self._check_X(X.images, reset=True)
        if X is not given:
            labels, _ = check_targets(y, len(X), type(self).__name__)
            check_same_classes(labels, given.labels, "y", "the prototypes of X")
        elif y is not None and not np.array_equal(check_column(y, "y"), given.labels):
            raise ValueError("y differs from the labels of the prototypes in X. Leave it out.")

    def _check_X(self, X: Any, *, reset: bool) -> ImageSource | np.ndarray:
        has_columns = self.backbone is not None and getattr(X, "ndim", None) == 2
        if has_columns and np.asarray(X).dtype.kind in "biuf":
            raise ValueError(
                f"Got a 2-D table of shape {tuple(X.shape)}, but backbone={self.backbone!r} needs "
                f"images. For rows of features use backbone=None. If these are similarities from "
                f"a distiller, slicing, arithmetic or set_output has cut them off from their "
                f"images: put the distiller directly before the probe, or use distiller=."
            )
        return super()._check_X(X, reset=reset)

    def _fit_distiller(
        self, X: Any, y: Any, context: Any, metadata: Any
    ) -> tuple[Any, PrototypeSet]:
        """Return a fitted clone of the distiller, and its prototypes if they can be used."""
        distiller = clone(self.distiller)
        if self.verbose and "verbose" in distiller.get_params(deep=False):
            distiller.set_params(verbose=self.verbose)
        fit_distiller(self, distiller, X, y, context, **metadata)
        prototypes = PrototypeSet.from_estimator(distiller)
        check_fits_net(prototypes.images, self.backbone)
        return distiller, prototypes

    def _features(self, X: Any) -> np.ndarray:
        encoder = self._encoder()
        self._check_same_net(encoder)
        if self._uses_references(X):
            if X.feature_key == encoder.key:
                return X.features
            X = X.images
        return self._embed_source(self._check_X(X, reset=False), encoder)
