"""What an estimator with one net or several does beside ``fit``: statistics and similarities."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_consistent_length, check_scalar
from sklearn.utils.validation import check_is_fitted

from sklgm.backbones import Backbone
from sklgm.backbones._checks import check_differentiable
from sklgm.backbones._several import find_backbone, is_several, resolve_backbones
from sklgm.checkpoint.partial_sums import PartialSums
from sklgm.datasets.labelled import LabelledStream, as_X_y
from sklgm.estimators.base import LabelledSamples, PrototypeTransformer
from sklgm.estimators.run import Run, Seeds, check_same
from sklgm.matching import RealGradients
from sklgm.matching.classes import weigh_samples
from sklgm.matching.real import SUMS
from sklgm.passes.real_pass import RealPass, describe_views, fingerprint, take
from sklgm.passes.shards import add_in_shards, leave_out_zeros
from sklgm.passes.stream import add_stream
from sklgm.passes.views import resolve_augmentation
from sklgm.prototypes.similarities import PrototypeSimilarities
from sklgm.synthesis import ALONE, Augmentation, RandomHeads, Ranks
from sklgm.synthesis.heads import ZERO_HEADS
from sklgm.utils.devices import devices_in_turn, plain_torch
from sklgm.utils.random import own_random_state
from sklgm.utils.targets import check_column


class GradientEstimator(PrototypeTransformer):
    """Base of the distiller: what it needs to know of the real data, and how images compare."""

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        backbone: str | Backbone | None = None,
    ) -> PrototypeSimilarities:
        """Distil images and compute their similarity to the prototypes.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            As in ``fit``.
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
        return self.fit(X, y, sample_weight).transform(X, backbone=backbone)

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
            Cosines in [-1, 1], float32, as a subclass of ndarray. It also holds references to ``X``
            and to the prototypes, which `FrozenBackboneProbe` makes use of.

        Raises
        ------
        ValueError
            If ``X`` holds no images that can be read, or the prototypes were not made for the
            backbone.
        """
        if backbone is None:
            return super().transform(X)
        check_is_fitted(self)
        position, net = find_backbone(backbone, self.backbone, self.image_size)
        return self._similarities(X, partial(self._resolve, net), position)

    def compute_gradients(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        classes: Any = None,
        class_counts: Any = None,
        offset: int = 0,
    ) -> Any:
        """Compute the statistics of a data set, or of one shard of it.

        Sums over shards made with the same parameters and the same integer ``random_state``
        can be added with ``+`` and distilled by :meth:`fit_gradients`; of several backbones, one
        by one: ``[sum(parts) for parts in zip(*shards)]``.

        Parameters
        ----------
        X : array-like of images, or of shape (n_samples, n_features) with ``backbone=None``
            As in ``fit``. Without y, a data set of images and labels, as
            :func:`sklgm.datasets.as_X_y` takes it. A stream is passed over once, and without
            ``class_counts`` once more before that, to count its labels. With
            ``distributed=True`` each process gives a stream of its own, and counts and sums are
            those of all; other data is passed over by this process alone.
        y : array-like of shape (n_samples,), optional
            Class labels.
        sample_weight : array-like of shape (n_samples,), optional
            Weights, as in ``fit``; an error for a stream.
        classes : array-like of shape (n_classes,), optional
            All classes, when the shard may lack some.
        class_counts : mapping or array-like of shape (n_classes,), optional
            Images of each class in the whole data set, or the sum of their weights, for
            ``class_weight="balanced"``. Those of ``y`` when neither ``classes`` nor
            ``class_counts`` is given. With ``classes`` alone, nothing but a stream is counted, and
            sums over other data are not balanced.
        offset : int, default=0
            Position of the shard's first image in the whole data set, from which follow the
            random views of each image: with it shards add up to the sums of the whole, without
            it to others that are as good. Images of weight 0 do not count.

        Returns
        -------
        RealGradients or list of RealGradients
            Sums over this shard; with a list of backbones, one for each of them in their order.

        Raises
        ------
        ValueError
            If X, y or weights cannot be used.
        """
        self._validate_params()
        check_scalar(offset, "offset", Integral, min_val=0)
        if y is None and self.backbone is not None:
            X, y = as_X_y(X)
        if isinstance(X, LabelledStream):
            if sample_weight is not None:
                raise ValueError("A stream takes no sample_weight. Weigh its classes.")
            return self._gradients_of_stream(X, classes, class_counts, offset)
        data, classes, class_counts = self._check_shard(X, y, sample_weight, classes, class_counts)
        seeds, devices = self._seeds(), devices_in_turn(self.device)
        several = []
        with plain_torch(self._device()):
            for encoder in self._encoders():
                empty = self._empty_gradients(classes, class_counts, encoder, seeds)
                real_pass = self._real_pass(encoder, seeds)
                several.append(add_in_shards(real_pass, empty, *data, offset, devices))
        return several if is_several(self.backbone) else several[0]

    def _gradients_of_stream(
        self, stream: LabelledStream, classes: Any, class_counts: Any, offset: int
    ) -> Any:
        ranks = Ranks.of_group() if self.distributed else ALONE
        if class_counts is None and (classes is None or self.class_weight == "balanced"):
            class_counts = sum(map(Counter, ranks.collect(stream.count_classes())), Counter())
        found = check_column(list(class_counts) if classes is None else classes, "classes")
        seeds, encoders = self._seeds(ranks), self._encoders()
        made = [self._empty_gradients(found, class_counts, one, seeds) for one in encoders]
        check_same(
            ranks,
            [one.settings for one in made],
            "have different classes, parameters or seeds. Give all of them the same.",
        )
        with plain_torch(self._device()):
            add_stream([self._real_pass(one, seeds) for one in encoders], made, stream, offset)
            if ranks.size > 1:
                made = [one.to(self._device()) for one in made]  # a stream may be empty
                for one, encoder in zip(made, encoders, strict=True):
                    one.add_up(ranks.add, encoder.n_features)
        return made if is_several(self.backbone) else made[0]

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> LabelledSamples:
        source, classes, indices, weights = super()._check_data(X, y, sample_weight)
        source, indices, weights = leave_out_zeros(source, indices, weights)
        return LabelledSamples(source, classes, indices, weights)

    def _check_shard(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, class_counts: Any
    ) -> tuple[tuple[Any, Any, Any], Any, Any]:
        """Return a shard's source, labels and weights; all classes; and how many each has."""
        if classes is None and not isinstance(class_counts, Mapping | None):
            raise ValueError("class_counts is no mapping from label to count; pass classes too.")
        # On a clone, since a shard's columns are not this estimator's to remember.
        checker = clone(self)
        if classes is None and class_counts is None:
            source, found, indices, weights = checker._check_data(X, y, sample_weight)
            return (source, found[indices], weights), found, np.bincount(indices, weights)
        source = checker._check_X(X, reset=True)
        found = check_column(list(class_counts) if classes is None else classes, "classes")
        labels = check_column(y, "y")
        check_consistent_length(source, labels)
        weights = weigh_samples(sample_weight, labels)
        return leave_out_zeros(source, labels, weights), found, class_counts

    def _encoders(self) -> list[Any]:
        """Return one encoder for each backbone."""
        if self.backbone is None:
            return [self._encoder()]
        nets = resolve_backbones(self.backbone, self.image_size)
        for net in nets:  # before a long pass over the data
            check_differentiable(net.name, net._passes_gradients)
        return [self._resolve(net) for net in nets]

    def _seeds(self, ranks: Ranks = ALONE) -> Seeds:
        seeds = own_random_state(self.random_state).randint(2**31 - 1, size=4).tolist()
        return Seeds(*(seeds if isinstance(self.random_state, Integral) else ranks.tell(seeds)))

    def _heads(self) -> RandomHeads:
        if isinstance(self.heads, str):
            return {"random": RandomHeads(), "zero": ZERO_HEADS}[self.heads]
        self.heads._validate_params()
        return self.heads

    def _augmentation(self) -> Augmentation | None:
        return None if self.backbone is None else resolve_augmentation(self.augmentation)

    def _views(self, encoder: Any) -> str | None:
        """Return what features are computed on, as text; None for rows."""
        if self.backbone is None:
            return None
        return describe_views(encoder, self._augmentation(), self.n_real_views)

    def _empty_gradients(
        self, classes: np.ndarray, class_counts: Any, encoder: Any, seeds: Seeds
    ) -> RealGradients:
        heads = self._heads()
        return RealGradients(
            classes,
            class_counts=class_counts,
            class_weight=self.class_weight,
            head_pool_size=heads.pool_size,
            head_scale=heads.scale,
            head_seed=seeds.heads,
            backbone=encoder.name,
            views=self._views(encoder),
            store_covariance=self.soft_labels,
        )

    def _real_pass(self, encoder: Any, seeds: Seeds) -> RealPass:
        return RealPass(
            encoder, self._device(), self._augmentation(), self.n_real_views, seeds.real_views
        )

    def _real_gradients(self, samples: LabelledSamples, encoder: Any, run: Run) -> RealGradients:
        """Return the statistics of the data for one backbone, kept ones if there are."""
        source, classes, indices, weights = samples
        seeds = run.seeds
        empty = self._empty_gradients(classes, np.bincount(indices, weights), encoder, seeds)
        # Each process sees its share of the data, and sums are added up.
        own = run.ranks.share(len(source))
        data = take(source, own), classes[indices[own]], weights[own]

        @cache  # the data may be large
        def key() -> tuple[Any, ...]:
            of_all = indices, weights, own, empty.settings, seeds.real_views
            return "real-gradients", fingerprint(data[0]), encoder.key, *of_all

        kept = PartialSums(run.memory, key)

        def compute(on_batch: Callable[[int], None]) -> RealGradients:
            real_pass = self._real_pass(encoder, seeds)
            # The other processes of a job have the other devices.
            devices = devices_in_turn(self.device) if run.ranks.size == 1 else [self._device()]
            return add_in_shards(
                real_pass, empty, *data, own.start, devices, on_batch=on_batch, kept=kept
            )

        gradients = run.once(key, compute)
        kept.remove()
        if run.ranks.size > 1:
            gradients = gradients.to(self._device())
            gradients.add_up(run.ranks.add, encoder.n_features or source.shape[1])
        return gradients


def contents(targets: list[RealGradients]) -> list[Any]:
    """Return settings and contents of statistics, but for what soft labels alone are made of.

    Contents are arrays: tensors are pickled in more ways than one.
    """
    settings = [{**target.settings, "store_covariance": None} for target in targets]
    tensors = [target.tensors() for target in targets]
    return [*settings, *({name: kept[name].numpy() for name in SUMS} for kept in tensors)]
