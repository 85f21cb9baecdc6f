"""LGMDistiller: a labelled image set in, a few synthetic images out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import _fit_context, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._user_interface import _print_elapsed_time
from sklearn.utils.validation import check_is_fitted

from sklgm.backbones import Backbone
from sklgm.backbones._several import find_backbone, is_several, resolve_backbones, resolve_first
from sklgm.checkpoint.memory import folder_of_states
from sklgm.checkpoint.state import FitState
from sklgm.estimators.base import FrozenBackboneEstimator, PrototypeTransformer
from sklgm.estimators.run import Run
from sklgm.images import ImageSource
from sklgm.matching import RealGradients
from sklgm.passes.encoder import Encoder
from sklgm.passes.real_pass import RealPass, check_gradients, describe_views, gradients_in_order
from sklgm.passes.shards import add_in_shards, take
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.similarities import PrototypeSimilarities
from sklgm.synthesis import (
    ALONE,
    Augmentation,
    BatchSize,
    FeatureRows,
    MatchingSettings,
    Objective,
    Pixels,
    Pyramid,
    RandomHeads,
    Ranks,
    Synthetic,
    match_gradients,
)
from sklgm.synthesis.heads import ZERO_HEADS
from sklgm.utils.devices import plain_torch
from sklgm.utils.numbers import is_whole
from sklgm.utils.random import own_random_state
from sklgm.utils.targets import check_targets

# Parameters that change no result, or whose fingerprints, kind or seeds count in their place.
_NOT_OF_THE_RESULT = frozenset(
    {"backbone", "device", "distributed", "memory", "n_jobs", "random_state", "verbose"}
)


class _Seeds(NamedTuple):
    """One seed for each purpose, so that changing one part leaves the others' draws alone."""

    heads: int
    real_views: int
    start: int
    steps: int


class LGMDistiller(CallbackSupportMixin, PrototypeTransformer):
    """Distil a labelled image set into a few synthetic images by Linear Gradient Matching.

    The prototypes are optimised until the gradient they induce on random linear probes, on
    top of a frozen pretrained backbone, points the same way as the gradient of the real data
    [1]_. The real data passes the backbone once; after that only its summed gradients are used.

    Parameters
    ----------
    backbone : str, Backbone, list of these, or None, default="clip"
        Frozen net: a name (see :func:`sklgm.list_backbones`), a `Backbone`, or None when rows
        of X are features already. Prototypes are then rows too, and all parameters about
        images have no effect.

        With a list, one set of prototypes is made for all its backbones: their losses add up.
        Prototypes have the size the largest asks for, and each net sees them resized to its
        own. The first backbone is the one that ``transform`` compares in.
    prototypes_per_class : int, default=1
        Synthetic images of each class.
    heads : {"random", "zero"} or RandomHeads, default="random"
        Linear heads on which gradients are compared. "random" is ``RandomHeads()``, whose own
        parameters can be set where ``heads`` is such an object: ``heads__scale``. "zero" is a
        single head of zeros: sums take 1/256 of the memory, and prototypes match the differences
        of class means alone.
    parametrization : {"pyramid", "pixels"}, Pyramid or Pixels, default="pyramid"
        What is optimised; or an object of your own, see `Pyramid`.
    augmentation : {"standard", "blurred"}, StandardAugmentation or None, default="blurred"
        Random views of real and synthetic images. "standard" is ``StandardAugmentation()``;
        "blurred" is ``StandardAugmentation(blur=0.5)``, whose prototypes serve other nets better;
        None uses centre crops alone. Or an object of your own, see `StandardAugmentation`.
    class_weight : "balanced", dict or None, default="balanced"
        Weight of each class in the real gradient. "balanced" lets every class pull alike,
        however many images it has.
    image_size : int or None, default=None
        Side in pixels of what the net sees, every net of several; None is the backbone's own.
        Prototypes have the side of the largest backbone's `canvas_size`.
    max_iter : int, default=100
        Steps of the optimisation.
    learning_rate : float, default=0.06
        Of Adam at the first step; it falls to 0 by a cosine.
    n_views : int, default=3
        Random views of each synthetic image in a step, beside its centre crop.
    n_real_views : int, default=1
        Random views of each real image. They make one half of the target; its centre crop
        makes the other: mirrored as often as they are, or with more views than one both plain
        and mirrored.
    matching : {"global", "row"}, default="global"
        Compare whole gradients, or each class's row by itself.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once, which sets the peak memory. "auto" chooses by image
        size and device, keeps as many graphs as the free memory allows, and takes half as many
        images after running out of memory.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the net. "auto" is bfloat16 on a GPU that has it and float32 elsewhere.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does; those of each worker where joblib
        is to use several processes (see Notes).
    memory : str, path-like, joblib.Memory or None, default=None
        Cache that keeps work, with a fixed ``random_state``. The pass over the real data is kept
        for good, so that a search over the other parameters pays for it once. Of a fit that was
        interrupted or killed later on, all steps but those of its last minute are kept: the same
        fit of the same data goes on from there, and ends as one that was never stopped. See
        :doc:`/reliability`.
    distributed : bool, default=False
        Whether to share the work among the processes of the default process group of
        `torch.distributed`, all of which must call ``fit`` with the same data and parameters.
        False never looks at a group. See :doc:`/scale`.
    random_state : int, RandomState instance or None, default=None
        Makes the result reproducible. The global generators are neither read nor written.
    verbose : int, default=0
        Above 0, print how long each phase took. For a progress bar see Notes.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        Synthetic images, float32 in [0, 1], ordered by class; rows of shape
        (n_prototypes, n_features) with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Their classes.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of the prototypes' centre crops, float32, on the first backbone.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    backbone_fingerprint_ : str, list of str or None
        Which net it was fitted on, or which several in their order; another one is refused later.
    loss_curve_ : ndarray of shape (n_iter,)
        Loss at each step: .2 of the angular distance, ``1 - cos``, of the centre crops and .8 of
        that of the random views, summed over the backbones. Random views of up to four steps
        before count too, fewer in the first fifth of the steps.
    n_iter_ : int
        Steps taken.
    level_starts_ : ndarray of int
        Steps, counted from 0, before which the pyramid gained a finer level; empty without one.
    n_features_in_ : int
        With ``backbone=None``.

    See Also
    --------
    FrozenBackboneProbe : Trains on prototypes and predicts on images.
    RandomImages : The baseline to compare with.

    Notes
    -----
    ``set_callbacks(ProgressBar())`` of :mod:`sklearn.callback` shows progress; in a notebook it
    needs the package ipywidgets. A callback whose ``on_fit_task_end`` returns True at a step ends
    the optimisation there.

    Under ``joblib.parallel_config(backend="loky", n_jobs=2)``, or another backend of processes,
    the pass over the real data is shared out among workers, with the same result.

    What a pickle holds:

    ==================  ============================================
    parameters          yes; a named backbone as its name
    fitted attributes   yes
    backbone's weights  no; loaded again at the first use
    ==================  ============================================

    References
    ----------
    .. [1] G. Cazenavette, A. Torralba, V. Sitzmann, "Dataset Distillation for Pre-Trained
       Self-Supervised Vision Models", 2025.

    Examples
    --------
    >>> from sklgm import LGMDistiller
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> distiller = LGMDistiller(backbone=None, random_state=0).fit(X, y)
    >>> distiller.prototypes_.shape
    (3, 4)
    """

    _parameter_constraints: dict[str, Any] = {
        **FrozenBackboneEstimator._parameter_constraints,
        "backbone": [str, Backbone, list, tuple, None],
        "prototypes_per_class": [Interval(Integral, 1, None, closed="left")],
        "heads": [StrOptions({"random", "zero"}), RandomHeads],
        "parametrization": [StrOptions({"pyramid", "pixels"}), HasMethods(["start", "check"])],
        "augmentation": [StrOptions({"standard", "blurred"}), HasMethods(["draw", "apply"]), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "n_real_views": [Interval(Integral, 0, None, closed="left")],
        "matching": [StrOptions({"global", "row"})],
        "distributed": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone="clip",
        *,
        prototypes_per_class=1,
        heads="random",
        parametrization="pyramid",
        augmentation="blurred",
        class_weight="balanced",
        image_size=None,
        max_iter=100,
        learning_rate=0.06,
        n_views=3,
        n_real_views=1,
        matching="global",
        batch_size="auto",
        device="auto",
        precision="auto",
        n_jobs=None,
        memory=None,
        distributed=False,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.prototypes_per_class = prototypes_per_class
        self.heads = heads
        self.parametrization = parametrization
        self.augmentation = augmentation
        self.class_weight = class_weight
        self.image_size = image_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.n_views = n_views
        self.n_real_views = n_real_views
        self.matching = matching
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.distributed = distributed
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> LGMDistiller:
        """Distil images.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; or paths, which are streamed.
        y : array-like of shape (n_samples,)
            Class labels.

        Returns
        -------
        LGMDistiller
            Fitted.

        Raises
        ------
        ValueError
            If X or y cannot be used, or with ``distributed=True`` there is no group that can be
            used; the message says why. Nothing is fitted then.
        KeyboardInterrupt
            On Ctrl-C. With ``memory`` and a seed, the step under way is finished and kept first.
        """
        source = self._check_X(X, reset=True)
        classes, indices = check_targets(y, len(source), type(self).__name__)
        encoders = self._encoders()
        if self.backbone is not None:
            self._parametrization().check(max(_canvas_sizes(encoders)))
        run = self._run(encoders, classes, indices)
        seeds = self._seeds(run.ranks)
        with plain_torch(self._device()), run.begun(len(encoders) + 1, X=X, y=y):
            with self._timed("(1 of 2) Gradients of the real data"):
                targets = [
                    self._real_gradients(source, classes, indices, encoder, seeds, run)
                    for encoder in encoders
                ]
            self._distil(targets, encoders, seeds, run)
        return self

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_gradients(self, gradients: Any) -> LGMDistiller:
        """Distil from statistics of the real data alone.

        Parameters
        ----------
        gradients : RealGradients or list of RealGradients
            From :meth:`compute_gradients`, perhaps a sum over shards. Its pool of heads is used.
            With a list of backbones, one for each of them in their order.

        Returns
        -------
        LGMDistiller
            Fitted.

        Raises
        ------
        ValueError
            If the gradients are empty, lack a class, are of another backbone or in another order
            than the backbones, or are not weighted as ``class_weight`` says.
        """
        encoders = self._encoders()
        names = None
        if is_several(self.backbone):
            names = [encoder.backbone.name for encoder in encoders if encoder is not None]
        several = gradients_in_order(gradients, names)
        for one, encoder in zip(several, encoders, strict=True):
            check_gradients(
                one,
                backbone=None if encoder is None else encoder.backbone.name,
                n_features=None if encoder is None else encoder.backbone.n_features,
                views=None if encoder is None else self._views(encoder),
                class_weight=self.class_weight,
            )
        run = self._run(encoders, several[0].classes, several[0].rows_seen)
        seeds = self._seeds(run.ranks)
        with plain_torch(self._device()), run.begun(1):
            self._distil(several, encoders, seeds, run)
            self._forget_features_in()
            if self.backbone is None:
                self.n_features_in_ = several[0].n_features
        return self

    def compute_gradients(
        self, X: Any, y: Any, *, classes: Any = None, class_counts: Any = None, offset: int = 0
    ) -> Any:
        """Compute the statistics of a data set, or of one shard of it.

        Sums over shards made with the same parameters and the same integer ``random_state``
        can be added with ``+`` and distilled by :meth:`fit_gradients`; of several backbones, one
        by one: ``[sum(parts) for parts in zip(*shards)]``.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), optional
            All classes, when the shard may lack some.
        class_counts : mapping or array-like of shape (n_classes,), optional
            Images of each class in the whole data set, for ``class_weight="balanced"``. Those
            of ``y`` when neither ``classes`` nor ``class_counts`` is given.
        offset : int, default=0
            Position of the shard's first image in the whole data set, from which follow the
            random views of each image: with it shards add up to the sums of the whole, without
            it to others that are as good.

        Returns
        -------
        RealGradients or list of RealGradients
            Sums over this shard; with a list of backbones, one for each of them in their order.

        Raises
        ------
        ValueError
            If X or y cannot be used.
        """
        self._validate_params()
        if not is_whole(offset) or offset < 0:
            raise ValueError(f"offset must be a whole number of at least 0; got {offset!r}.")
        # On a clone, since a shard's columns are not this estimator's to remember.
        source = clone(self)._check_X(X, reset=True)
        if classes is None and not isinstance(class_counts, Mapping | None):
            raise ValueError("class_counts is no mapping from label to count; pass classes too.")
        if classes is None and class_counts is None:
            found, indices = check_targets(y, len(source), type(self).__name__)
            class_counts = np.bincount(indices)
            labels = found[indices]
        else:
            found = np.asarray(list(class_counts) if classes is None else classes)
            labels = column_or_1d(y)
            check_consistent_length(source, labels)
        seeds = self._seeds()
        several = []
        with plain_torch(self._device()):
            for encoder in self._encoders():
                gradients = self._empty_gradients(found, class_counts, encoder, seeds.heads)
                pass_of = (encoder, seeds.real_views, lambda: None, offset)
                several.append(self._add(gradients, source, labels, *pass_of))
        return several if is_several(self.backbone) else several[0]

    def fit_transform(
        self, X: Any, y: Any = None, *, backbone: str | Backbone | None = None
    ) -> PrototypeSimilarities:
        """Distil images and compute their similarity to the prototypes.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        backbone : str or Backbone, optional
            As in ``transform``.

        Returns
        -------
        PrototypeSimilarities of shape (n_samples, n_prototypes)
            As ``transform`` returns them.

        Raises
        ------
        ValueError
            As ``fit`` and ``transform`` do.
        """
        if backbone is not None:
            find_backbone(backbone, self.backbone, self.image_size)
        return self.fit(X, y).transform(X, backbone=backbone)

    def transform(self, X: Any, *, backbone: str | Backbone | None = None) -> PrototypeSimilarities:
        """Compute the cosine similarity of images to the prototypes in the frozen embedding.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        backbone : str or Backbone, optional
            The one to compare in, by name or object, of those the prototypes were made for;
            the first when not given. Inside a pipeline it arrives by metadata routing:
            ``set_transform_request(backbone=True)``.

        Returns
        -------
        PrototypeSimilarities of shape (n_samples, n_prototypes)
            Cosines in [-1, 1], float32. It also holds references to ``X`` and to the prototypes,
            which `FrozenBackboneProbe` makes use of.

        Raises
        ------
        ValueError
            If ``X`` holds no images that can be read, or the prototypes were not made for the
            backbone.
        """
        if backbone is None:
            return super().transform(X)
        check_is_fitted(self)
        position = find_backbone(backbone, self.backbone, self.image_size)
        source = self._check_X(X, reset=False)
        encoder = self._resolve(self._backbones()[position])
        self._check_same_net(encoder, position)
        features = self.prototype_features_
        if position > 0:
            features = encoder.embed_canvases(self.prototypes_)
        return self._similarities(X, source, encoder, features)

    def _backbones(self) -> list[Backbone]:
        return resolve_backbones(self.backbone, self.image_size)

    def _encoder(self) -> Encoder | None:
        """Return the first backbone's, and ask for no other."""
        if self.backbone is None:
            return None
        return self._resolve(resolve_first(self.backbone, self.image_size))

    def _encoders(self) -> list[Encoder | None]:
        """Return one encoder for each backbone, or None for the identity on rows."""
        if self.backbone is None:
            return [None]
        return [self._resolve(backbone) for backbone in self._backbones()]

    def _seeds(self, ranks: Ranks = ALONE) -> _Seeds:
        seeds = own_random_state(self.random_state).randint(2**31 - 1, size=4).tolist()
        return _Seeds(*(seeds if isinstance(self.random_state, Integral) else ranks.tell(seeds)))

    def _run(self, encoders: list[Encoder | None], classes: np.ndarray, data: np.ndarray) -> Run:
        """Return what a fit runs in; raise unless all processes were given the same."""
        ranks = Ranks.of_group() if self.distributed else ALONE
        memory = None if self.random_state is None else self.memory
        nets = [None if encoder is None else encoder.key for encoder in encoders]
        run = Run(self, memory, ranks, [self._settings(), nets, self._device().type])
        seed = self.random_state if isinstance(self.random_state, Integral) else None
        run.check_same([classes, data, seed, folder_of_states(memory) is None])
        return run

    def _settings(self) -> dict[str, Any]:
        """Return the parameters that a result depends on, beside the nets and the seeds."""
        return {
            # A number of numpy is the number.
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
            if name not in _NOT_OF_THE_RESULT
        }

    def _timed(self, message: str) -> Any:
        return _print_elapsed_time(type(self).__name__, message if self.verbose else None)

    def _empty_gradients(
        self, classes: np.ndarray, class_counts: Any, encoder: Encoder | None, head_seed: int
    ) -> RealGradients:
        heads = self._heads()
        return RealGradients(
            classes,
            class_counts=class_counts,
            class_weight=self.class_weight,
            head_pool_size=heads.pool_size,
            head_scale=heads.scale,
            head_seed=head_seed,
            backbone=None if encoder is None else encoder.backbone.name,
            views=None if encoder is None else self._views(encoder),
        )

    def _views(self, encoder: Encoder) -> str:
        return describe_views(encoder, self._augmentation(), self.n_real_views)

    def _augmentation(self) -> Augmentation | None:
        return resolve_augmentation(self.augmentation)

    def _add(
        self,
        gradients: RealGradients,
        source: ImageSource | np.ndarray,
        y: np.ndarray,
        encoder: Encoder | None,
        seed: int,
        on_batch: Callable[[], None],
        start: int = 0,
    ) -> RealGradients:
        augmentation = None if encoder is None else self._augmentation()
        real_pass = RealPass(encoder, self._device(), augmentation, self.n_real_views, seed)
        return add_in_shards(real_pass, gradients, source, y, on_batch, start)

    def _real_gradients(
        self,
        source: ImageSource | np.ndarray,
        classes: np.ndarray,
        indices: np.ndarray,
        encoder: Encoder | None,
        seeds: _Seeds,
        run: Run,
    ) -> RealGradients:
        """Return the statistics of the data for one backbone."""
        gradients = self._empty_gradients(classes, np.bincount(indices), encoder, seeds.heads)
        # Each process sees its share of the data, and sums are added up.
        own = run.ranks.share(len(source))
        part = take(source, own)

        def key() -> Any:
            data: Any = part
            if encoder is not None and not isinstance(part, np.ndarray):
                data = (part.fingerprint(), encoder.key)
            return "real-gradients", data, indices, own, gradients.settings, seeds.real_views

        def compute(on_batch: Callable[[], None]) -> RealGradients:
            y = classes[indices[own]]
            return self._add(gradients, part, y, encoder, seeds.real_views, on_batch, own.start)

        result = run.once(key, compute)
        if run.ranks.size > 1:
            n_features = encoder.backbone.n_features if encoder else np.asarray(source).shape[1]
            result = result.to(self._device())
            result.add_up(run.ranks.add, n_features)
        return result

    def _distil(
        self,
        targets: list[RealGradients],
        encoders: list[Encoder | None],
        seeds: _Seeds,
        run: Run,
    ) -> None:
        """Match the gradients and assign the fitted attributes."""
        if not all(bool(target.sums.isfinite().all()) for target in targets):
            raise ValueError(
                "The gradients of the real data are not finite: they overflow float32. Scale the "
                "features down, or use smaller class weights."
            )
        device, ranks = self._device(), run.ranks
        classes = targets[0].classes
        labels = np.repeat(np.arange(len(classes)), self.prototypes_per_class)
        synthetic = self._start(targets, encoders, seeds.start, ranks.share(len(labels)))
        objectives = [
            _objective(target.to(device), encoder)
            for target, encoder in zip(targets, encoders, strict=True)
        ]
        kept = FitState(
            run.memory,
            lambda: [run.settings, seeds, *_as_arrays(targets)],
            ranks,
            [objective.batch_size for objective in objectives],
        )
        steps = match_gradients(
            synthetic,
            torch.as_tensor(labels, device=device),
            objectives,
            self._matching_settings(),
            torch.Generator().manual_seed(seeds.steps),
            ranks=ranks,
            resume=kept.loop,
        )

        def attributes(losses: torch.Tensor) -> dict[str, Any]:
            with torch.no_grad():
                samples = ranks.gather(synthetic.decode(), len(labels)).cpu()
            starts = [start for start in synthetic.level_starts if start < len(losses)]
            return {
                **self._attributes_of(samples, labels, classes, encoders),
                "loss_curve_": losses.cpu().numpy(),
                "n_iter_": len(losses),
                "level_starts_": np.array(starts, dtype=np.int64),
            }

        with self._timed("(2 of 2) Synthesis"):
            fitted = attributes(run.follow(steps, self.max_iter, kept, attributes))
        kept.remove()
        _check_finite(fitted)
        for name, value in fitted.items():
            setattr(self, name, value)

    def _attributes_of(
        self,
        samples: torch.Tensor,
        labels: np.ndarray,
        classes: np.ndarray,
        encoders: list[Encoder | None],
    ) -> dict[str, Any]:
        if self.backbone is not None:
            samples = samples.permute(0, 2, 3, 1)
        prototypes = samples.contiguous().numpy()
        attributes = self._prototype_attributes(prototypes, labels, classes, encoders[0])
        if is_several(self.backbone):
            attributes["backbone_fingerprint_"] = list(map(self._fingerprint, encoders))
        return attributes

    def _matching_settings(self) -> MatchingSettings:
        augmentation = None if self.backbone is None else self._augmentation()
        return MatchingSettings(
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            n_heads=self._heads().n_heads,
            n_views=0 if augmentation is None else int(self.n_views),
            matching=self.matching,
            augmentation=augmentation,
        )

    def _start(
        self,
        targets: list[RealGradients],
        encoders: list[Encoder | None],
        seed: int,
        own: slice,
    ) -> Synthetic:
        n = len(targets[0].classes) * self.prototypes_per_class
        generator, device = torch.Generator().manual_seed(seed), self._device()
        if self.backbone is None:
            moments = targets[0].feature_moments()
            mean, std = (torch.from_numpy(moment).to(device) for moment in moments)
            return FeatureRows(n, mean, std, generator, own)
        sizes = _canvas_sizes(encoders)
        size = max(sizes)
        # Of the backbone that asks for this size, so that their order does not matter.
        around, means = None, targets[sizes.index(size)].mean_images()
        if means is not None:
            around = torch.from_numpy(means).repeat_interleave(self.prototypes_per_class, dim=0)
        return self._parametrization().start(n, size, self.max_iter, generator, device, around, own)

    def _heads(self) -> RandomHeads:
        if isinstance(self.heads, str):
            return {"random": RandomHeads(), "zero": ZERO_HEADS}[self.heads]
        self.heads._validate_params()
        return self.heads

    def _parametrization(self) -> Any:
        if isinstance(self.parametrization, str):
            return {"pyramid": Pyramid, "pixels": Pixels}[self.parametrization]()
        return self.parametrization


def _as_arrays(targets: list[RealGradients]) -> list[dict[str, Any]]:
    """Return settings and contents of statistics: tensors are pickled in more ways than one."""
    arrays = [{name: t.numpy() for name, t in target.tensors().items()} for target in targets]
    return [*(target.settings for target in targets), *arrays]


def _check_finite(fitted: dict[str, Any]) -> None:
    """Raise ValueError if fitted attributes are not finite, and say since when."""
    finite = np.isfinite(fitted["loss_curve_"])
    if not finite.all():
        fault = f"The loss is not finite at step {finite.argmin()}"
    elif all(np.isfinite(fitted[name]).all() for name in ("prototypes_", "prototype_features_")):
        return
    else:
        fault = f"The prototypes or their features are not finite after step {len(finite) - 1}"
    raise ValueError(
        f"{fault}. Lower learning_rate or the scale of heads, or use precision='float32'."
    )


def _canvas_sizes(encoders: list[Encoder | None]) -> list[int]:
    """Return the side each backbone asks for; prototypes have the largest."""
    return [encoder.backbone.canvas_size for encoder in encoders if encoder is not None]


def _objective(gradients: RealGradients, encoder: Encoder | None) -> Objective:
    if encoder is None:
        return Objective(gradients, lambda rows: rows, None, BatchSize(np.iinfo(np.int64).max), 1)
    net = encoder.backbone
    return Objective(
        gradients, encoder.features, net.image_size, encoder.batch_size, net.centre_share
    )
