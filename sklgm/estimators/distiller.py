"""LGMDistiller: a labelled image set in, a few synthetic images out."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils._user_interface import _print_elapsed_time

from sklgm.backbones import Backbone
from sklgm.backbones._several import is_several
from sklgm.checkpoint.memory import folder_in
from sklgm.checkpoint.state import FitState
from sklgm.estimators.base import FrozenBackboneEstimator
from sklgm.estimators.given_gradients import check_gradients, gradients_in_order
from sklgm.estimators.gradients import GradientEstimator, contents
from sklgm.estimators.run import Run, check_finite, check_same
from sklgm.estimators.soft_labels import teach
from sklgm.estimators.start import (
    LEARNING_RATES,
    largest,
    nearest_samples,
    resolve_parametrization,
    start_samples,
)
from sklgm.matching import RealGradients
from sklgm.synthesis import ALONE, LoopState, MatchingSettings, RandomHeads, Ranks, match_gradients
from sklgm.utils.devices import plain_torch

# Parameters that change no result, or that count in another form: a backbone by its fingerprint, a
# device by its kind, and random_state by the seeds drawn from it. Soft labels come afterwards.
_NOT_OF_THE_RESULT = {
    *("backbone", "device", "distributed", "memory"),
    *("n_jobs", "random_state", "soft_labels", "verbose"),
}


class LGMDistiller(CallbackSupportMixin, GradientEstimator):
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
        The first backbone is the one that ``transform`` compares in.
    prototypes_per_class : int, default=1
        Synthetic images of each class.
    soft_labels : bool, default=False
        Whether to make ``prototype_probabilities_``, on which a probe then trains. Their teacher is
        linear discriminant analysis, from sums over all views of the real data; with several
        backbones they are the mean of all their teachers. Up to 100 views of each prototype are
        embedded for it, in the end.
    heads : {"random", "zero"} or RandomHeads, default="random"
        Linear heads on which gradients are compared. "random" is ``RandomHeads()``; "zero" is a
        single head of zeros: sums take 1/256 of the memory, and prototypes match the differences
        of class means alone.
    init : {"mean", "nearest"}, default="mean"
        What prototypes start at: the mean image of their class, in 8 x 8 pixels, or real images
        nearest to class means, which `ClassCentroids` chooses on the first backbone, for each
        prototype among up to 100 random ones of a class. Prototypes that start at real images stay
        close to them; see :doc:`/handing_on`. With ``backbone=None``, "mean" draws rows with the
        mean and standard deviation of each feature.
    parametrization : {"pyramid", "pixels"}, Pyramid or Pixels, default="pyramid"
        How the prototypes are held as tensors that are optimised. An object of your own is taken
        too; see `Pyramid`.
    augmentation : {"standard", "blurred"}, StandardAugmentation or None, default="blurred"
        Random views of all images. "standard" is ``StandardAugmentation()``; "blurred" has
        ``blur=0.5``, and its prototypes serve other nets better; None uses centre crops alone. Or
        an object of your own, see `StandardAugmentation`.
    class_weight : "balanced", dict or None, default="balanced"
        Weight of each class in the real gradient. "balanced" gives all classes the same total
        weight, however many images they have; a dict gives positive weights by label, 1 for labels
        left out; None weighs all images alike.
    image_size : int or None, default=None
        Side in pixels of what the net sees, every net of several; None is the backbone's own.
        Prototypes have the side of the largest backbone's `canvas_size`, and each net sees them
        resized to its own.
    max_iter : int, default=100
        Steps of the optimisation; below 50, fine levels come so soon that images are noisy.
    learning_rate : float or "auto", default="auto"
        Learning rate of Adam at the first step. It falls to 0 by a cosine. "auto" is 0.06, or
        0.01 with ``init="nearest"``.
    n_views : int, default=3
        Random views of each synthetic image in a step, beside its centre crop.
    n_real_views : int, default=1
        Random views of each real image. They make one half of the target, its centre crop the
        other. If the augmentation mirrors, the crop is mirrored at random with 1 view, and taken
        both plain and mirrored otherwise. With 0 the crops are the whole target.
    matching : {"global", "row"}, default="global"
        Compare whole gradients, or each class's row by itself.
    batch_size : int or "auto", default="auto"
        Images that pass the net at once, which sets the peak memory. "auto" chooses by image
        size and device, keeps as many graphs as the free memory allows, and takes half as many
        images after running out of memory.
    device : str or torch.device, default="auto"
        "auto" takes cuda, then mps, then cpu.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision that the net computes in. "auto" is bfloat16 on a GPU that has it and, for nets
        that see images in patches, on a CPU with AMX units. It is float32 elsewhere.
    n_jobs : int or None, default=None
        Threads that decode images, counted as joblib does; those of each worker where joblib
        is to use several processes (see Notes).
    memory : str, path-like, joblib.Memory or None, default=None
        Cache that keeps work, with a fixed ``random_state``: the pass over the real data, for
        good, and the steps of a fit that was interrupted or killed, but for its last minute. The
        same fit goes on from there and ends as if never stopped. See :doc:`/reliability`.
    distributed : bool, default=False
        Whether the processes of the default group of `torch.distributed` share the work. All of
        them must call ``fit`` with the same data and parameters. See :doc:`/scale`.
    random_state : int, RandomState instance or None, default=None
        Makes the result reproducible. The global generators are neither read nor written.
    verbose : int, default=0
        Above 0, print each tenth of the steps, and the time of both phases; for a bar see Notes.

    Attributes
    ----------
    prototypes_ : ndarray of shape (n_prototypes, canvas, canvas, 3)
        Synthetic images, float32 in [0, 1], ordered by class; rows of shape
        (n_prototypes, n_features) with ``backbone=None``.
    prototype_labels_ : ndarray of shape (n_prototypes,)
        Class of each prototype.
    prototype_probabilities_ : ndarray of shape (n_prototypes, n_classes)
        Soft labels, float32, of ``classes_``: one half is the teacher's probabilities, averaged
        over random views, the other its class. Only with ``soft_labels=True``.
    prototype_features_ : ndarray of shape (n_prototypes, n_features)
        Features of the prototypes' centre crops, float32, on the first backbone.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    backbone_fingerprint_ : str, list of str or None
        Fingerprint of the net that it was fitted on, or of each of several in their order.
        Another net is refused later.
    loss_curve_ : ndarray of shape (n_iter,)
        Loss at each step: .2 of the angular distance, ``1 - cos``, of the centre crops and .8 of
        that of the random views, summed over the backbones. Random views of up to four steps
        before count too, fewer in the first fifth of the steps. Without random views,
        with ``augmentation=None`` or ``backbone=None``, it is the distance of the crops or rows.
    n_iter_ : int
        Steps taken.
    level_starts_ : ndarray of int
        Steps, counted from 0, before which the pyramid gained a finer level; empty without one.
    n_features_in_ : int
        Number of columns of X; only with ``backbone=None``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame X, if all are strings; only with ``backbone=None``.

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
        "soft_labels": ["boolean"],
        "heads": [StrOptions({"random", "zero"}), RandomHeads],
        "init": [StrOptions({"mean", "nearest"})],
        "parametrization": [StrOptions({"pyramid", "pixels"}), HasMethods(["start", "check"])],
        "augmentation": [StrOptions({"standard", "blurred"}), HasMethods(["draw", "apply"]), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
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
        soft_labels=False,
        heads="random",
        init="mean",
        parametrization="pyramid",
        augmentation="blurred",
        class_weight="balanced",
        image_size=None,
        max_iter=100,
        learning_rate="auto",
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
        self.soft_labels = soft_labels
        self.heads = heads
        self.init = init
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
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LGMDistiller:
        """Distil images.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            An array of shape (n_samples, height, width, 3) or (n_samples, height, width), uint8
            or floats in [0, 1]; PIL images; paths, which are streamed; or another of
            :doc:`/inputs`.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples in everything that is made of the data; 1 when not given. A
            weight of 2 counts as two copies, but with the same random views; one of 0 leaves a
            sample out.

        Returns
        -------
        LGMDistiller
            Fitted.

        Raises
        ------
        ValueError
            If X, y, weights or the group of ``distributed=True`` cannot be used, or a class has too
            few images for ``init="nearest"``; the message says why. Nothing is fitted then.
        KeyboardInterrupt
            On Ctrl-C. With ``memory`` and a seed, the step under way is finished and kept first.
        """
        samples = self._check_data(X, y, sample_weight)
        encoders = self._encoders()
        run = self._run(encoders, samples.classes, [samples.indices, samples.weights])
        with plain_torch(self._device()), run.begun(len(encoders) + 1, X=X, y=y):
            with self._timed("(1 of 2) Gradients of the real data"):
                # First, since a class may have too few images.
                nearest = nearest_samples(self, encoders, samples, run.seeds.start)
                targets = [self._real_gradients(samples, one, run) for one in encoders]
            self._distil(targets, encoders, run, nearest)
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
            than the backbones, are not weighted as ``class_weight`` says, lack the covariance that
            soft labels need, or are to start at real images, which they do not hold.
        """
        if self.init == "nearest":
            raise ValueError(
                "init='nearest' starts at real images, and gradients hold none. Set init='mean', "
                "or use fit(X, y)."
            )
        encoders = self._encoders()
        names = [encoder.name for encoder in encoders] if is_several(self.backbone) else None
        targets = gradients_in_order(gradients, names)
        for target, encoder in zip(targets, encoders, strict=True):
            check_gradients(target, self, encoder, self.soft_labels)
        run = self._run(encoders, targets[0].classes, targets[0].rows_seen)
        with plain_torch(self._device()), run.begun(1):
            self._distil(targets, encoders, run)
            self._forget_features_in()
            if self.backbone is None:
                self.n_features_in_ = targets[0].n_features
        return self

    def _run(self, encoders: list[Any], classes: np.ndarray, given: Any) -> Run:
        """Return what a fit runs in; raise unless all processes were given the same."""
        if self.backbone is not None:
            size = largest(encoders).backbone.canvas_size
            resolve_parametrization(self.parametrization).check(size)
        ranks = Ranks.of_group() if self.distributed else ALONE
        memory = None if self.random_state is None else self.memory
        settings = self.get_params(deep=False)
        settings = {name: settings[name] for name in settings if name not in _NOT_OF_THE_RESULT}
        nets = [encoder.key for encoder in encoders]
        run = Run(self, memory, ranks, [settings, nets, self._device().type])
        seed = self.random_state if isinstance(self.random_state, Integral) else None
        # All keep a state or none does, and the same sums, since all take part where these are.
        kept = folder_in(memory, "interrupted") is None, bool(self.soft_labels)
        check_same(
            ranks,
            [run.settings, classes, given, seed, *kept],
            "were given different labels, weights, parameters or seeds. Give all of them the whole "
            "data set and the same parameters, or leave distributed=False.",
        )
        run.seeds = self._seeds(ranks)
        return run

    def _timed(self, message: str) -> Any:
        return _print_elapsed_time(type(self).__name__, message if self.verbose else None)

    def _distil(
        self,
        targets: list[RealGradients],
        encoders: list[Any],
        run: Run,
        nearest: np.ndarray | None = None,
    ) -> None:
        """Match the gradients and assign the fitted attributes."""
        # Extremes, since isfinite() of all sums would make a copy of them.
        if not all(end.isfinite() for target in targets for end in target.sums.aminmax()):
            raise ValueError(
                "The gradients of the real data are not finite: they overflow float32. Scale the "
                "features down, or use smaller weights."
            )
        moments = [target.class_moments() for target in targets] if self.soft_labels else None
        device, ranks, classes = self._device(), run.ranks, targets[0].classes
        labels = np.repeat(np.arange(len(classes)), self.prototypes_per_class)
        n, own = len(labels), ranks.share(len(labels))
        synthetic = start_samples(self, targets, encoders, nearest, n, own, run.seeds.start)
        objectives = [
            encoder.objective(target.to(device))
            for target, encoder in zip(targets, encoders, strict=True)
        ]
        kept = FitState(
            run.memory,
            lambda: [run.settings, run.seeds, *contents(targets)],
            ranks,
            [objective.batch_size for objective in objectives],
        )
        generator = torch.Generator().manual_seed(run.seeds.steps)
        state = LoopState(synthetic, n, len(objectives), generator, ranks)
        if kept.loop is not None:
            state.restore(kept.loop)
        on_device = torch.as_tensor(labels, device=device)
        steps = match_gradients(state, on_device, objectives, self._matching_settings())

        def attributes(losses: torch.Tensor) -> dict[str, Any]:
            with torch.no_grad():
                samples = ranks.gather(synthetic.decode(), n).cpu()
            if self.backbone is not None:
                samples = samples.permute(0, 2, 3, 1).contiguous()
            starts = [start for start in synthetic.level_starts if start < len(losses)]
            fitted = {
                **self._prototype_attributes(samples.numpy(), labels, classes, encoders[0]),
                "loss_curve_": losses.cpu().numpy(),
                "n_iter_": len(losses),
                "level_starts_": np.array(starts, dtype=np.int64),
            }
            if is_several(self.backbone):
                fitted["backbone_fingerprint_"] = [encoder.fingerprint for encoder in encoders]
            return fitted

        with self._timed("(2 of 2) Synthesis"):
            # Callbacks may ask for the attributes at any step.
            losses = run.follow(steps, kept, attributes)
            fitted = attributes(losses)
            check_finite(fitted, kept)
            if moments is not None:
                soft = teach(moments, encoders, fitted["prototypes_"], labels, self._augmentation())
                fitted["prototype_probabilities_"] = soft
        kept.remove()
        self._assign(fitted)

    def _matching_settings(self) -> MatchingSettings:
        augmentation, rate = self._augmentation(), self.learning_rate
        return MatchingSettings(
            max_iter=self.max_iter,
            learning_rate=LEARNING_RATES[self.init] if rate == "auto" else rate,
            n_heads=self._heads().n_heads,
            n_views=0 if augmentation is None else int(self.n_views),
            matching=self.matching,
            augmentation=augmentation,
        )
