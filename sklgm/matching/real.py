"""The real data as mergeable statistics: sums of probe gradients over a pool of heads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from torch import Tensor

from sklgm.matching.batches import as_rows, as_weights
from sklgm.matching.classes import ClassWeight, count_classes, label_indices, shorten, weigh_classes
from sklgm.matching.gradients import heads_per_chunk, probe_gradients
from sklgm.matching.gradients_file import as_settings, read_gradients, restore, write_gradients
from sklgm.matching.heads import HeadPool
from sklgm.matching.mean_images import MeanImages
from sklgm.matching.moments import OF_COVARIANCE, FeatureMoments
from sklgm.utils.devices import device_of_doubles
from sklgm.utils.targets import check_column

_CONSTRAINTS = {
    "class_weight": [StrOptions({"balanced"}), Mapping, None],
    "head_pool_size": [Interval(Integral, 1, None, closed="left")],
    "head_scale": [Interval(Real, 0, None, closed="left")],
    "head_seed": [Interval(Integral, 0, None, closed="left")],
    "backbone": [str, None],
    "views": [str, None],
    "store_covariance": ["boolean"],
}
# Two statistics must share these to be merged, and the number of features.
_SETTINGS = ("classes", "class_counts", *_CONSTRAINTS)
# Tensors are on the device of the features, so that adding to them does not wait for it; counts
# and weights are arrays.
SUMS = (
    *("sums", "feature_sum", "feature_square_sum", "image_sum"),
    *("rows_seen", "images_seen", "row_weights", "image_weights"),
)


class RealGradients(FeatureMoments, MeanImages):
    """Sums of the linear probe's gradient over real data, one for each head of a pool.

    Together with a tiny mean image of each class, to start from, the sums are all that
    distillation needs of the real data. They are additive: shards of a data set, in other
    processes or at other places, each make their own and add them up with ``+``, and every shard
    has the same heads because these follow from ``head_seed``.

    Parameters
    ----------
    classes : array-like of shape (n_classes,)
        All class labels, at least 2 and each once, also those a shard does not hold. The attribute
        ``classes`` holds them sorted.
    class_counts : mapping or array-like of shape (n_classes,), optional
        Number of images of each class in the *whole* data set, in the order of ``classes`` as
        given, or a mapping from label to count; where images have weights, the sum of these.
        Needed for ``class_weight="balanced"`` to have an effect: without it the sums are
        unweighted.
    class_weight : {"balanced"}, mapping or None, default="balanced"
        As in scikit-learn. "balanced" weighs class ``c`` by ``n / (n_classes * n_c)``, so that
        every class pulls alike; a mapping gives weights by label, 1 for labels left out.
    head_pool_size : int, default=256
        Number of heads.
    head_scale : float, default=0.01
        Standard deviation of the heads' weights.
    head_seed : int, default=0
        Seed of the heads. Shards must share it.
    backbone, views : str, optional
        Name of the backbone that the features come from, and description of the views that they
        were computed on; kept so that unlike sums are not merged.
    store_covariance : bool, default=False
        Whether to add up what :meth:`class_moments` needs, too, as for soft labels.

    Attributes
    ----------
    sums : Tensor of shape (head_pool_size, n_classes, n_features + 1)
        Summed gradients ``[dW, db]``, float32.
    heads : HeadPool
        The heads they belong to.
    rows_seen, row_weights : ndarray of shape (n_classes,)
        Feature rows seen of each class, int64, those of weight 0 left out; and the sum of their
        weights, float64.
    feature_sum, feature_square_sum : Tensor of shape (n_features,)
        Weighted sums of the features and of their squares, float64, for their mean and standard
        deviation.
    class_feature_sum : Tensor of shape (n_classes, n_features)
        Sums of the features of each class, float64, by the weights of the gradients, which are
        those of rows times those of classes; only with ``store_covariance``.
    feature_product_sum : Tensor of shape (n_features, n_features)
        Sums of products of two features, by the same weights, float64; likewise.
    images_seen, image_weights : ndarray of shape (n_classes,)
        The same of the images added by :meth:`update_mean_images`.
    image_sum : Tensor of shape (n_classes, 3, 8, 8)
        Their weighted sum, float64, shrunk to 8 x 8 pixels.

    Raises
    ------
    ValueError
        If a parameter cannot be used.

    Notes
    -----
    ``sums`` take ``4 * head_pool_size * n_classes * (n_features + 1)`` bytes, 790 MB for 1000
    classes, 768 features and 256 heads, and heads nearly as much. Intermediates stay within tens
    of MiB as long as one head's logits for a batch do. ``store_covariance`` takes
    ``8 * n_features * (n_features + n_classes)`` bytes more, 11 MB for these sizes. Sums are
    not anonymous: of a class of one image they hold that image in 8 x 8 pixels, and its feature.
    """

    def __init__(
        self,
        classes: Sequence[Any] | np.ndarray,
        *,
        class_counts: Mapping[Any, float] | Sequence[float] | np.ndarray | None = None,
        class_weight: ClassWeight = "balanced",
        head_pool_size: int = 256,
        head_scale: float = 0.01,
        head_seed: int = 0,
        backbone: str | None = None,
        views: str | None = None,
        store_covariance: bool = False,
    ) -> None:
        validate_parameter_constraints(_CONSTRAINTS, locals(), caller_name="RealGradients")
        given = np.asarray(classes) if np.ndim(classes) > 1 else check_column(classes, "classes")
        self.classes = np.unique(given)
        if given.ndim != 1 or len(self.classes) < 2 or len(self.classes) != len(given):
            raise ValueError(
                f"classes must hold at least 2 labels, each once; got {shorten(given)}."
            )
        self.class_counts = count_classes(given, self.classes, class_counts)
        self.class_weight = class_weight
        self.head_pool_size = int(head_pool_size)
        self.head_scale = float(head_scale)
        self.head_seed = int(head_seed)
        self.backbone = backbone
        self.views = views
        self.store_covariance = bool(store_covariance)
        self._class_weights = weigh_classes(self.classes, self.class_counts, class_weight)
        self.rows_seen = np.zeros(len(self.classes), dtype=np.int64)
        self.row_weights = np.zeros(len(self.classes))
        self._allocate_images()
        self._allocate(0, "cpu")

    def _allocate(self, n_features: int, device: torch.device | str) -> None:
        shape = (self.head_pool_size, len(self.classes), n_features)
        self.heads = HeadPool(*shape, scale=self.head_scale, seed=self.head_seed)
        self.sums = torch.zeros(*shape[:2], n_features + 1, device=device)
        self._allocate_moments(n_features, device)

    @property
    def n_features(self) -> int:
        """Number of features, 0 before the first ``update``."""
        return self.heads.n_features

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added yet."""
        return self.n_features == 0

    @property
    def is_balanced(self) -> bool:
        """Whether ``class_weight="balanced"`` has an effect."""
        return self.class_weight == "balanced" and self.class_counts is not None

    @property
    def _sums(self) -> tuple[str, ...]:
        return (*SUMS, *(OF_COVARIANCE if self.store_covariance else ()))

    @property
    def settings(self) -> dict[str, Any]:
        """What two statistics must share to be merged."""
        return {name: getattr(self, name) for name in (*_SETTINGS, "n_features")}

    def update(
        self,
        features: Tensor | np.ndarray,
        y: Sequence[Any] | np.ndarray,
        *,
        sample_weight: np.ndarray | None = None,
    ) -> RealGradients:
        """Add the gradients of a batch.

        Parameters
        ----------
        features : Tensor or ndarray of shape (n, n_features)
            Features, floating. The work is done on the tensor's device.
        y : array-like of shape (n,)
            Labels, each one of ``classes``.
        sample_weight : ndarray of shape (n,), optional
            Weight of each row, beside that of its class; 1 when not given.

        Returns
        -------
        RealGradients
            Itself.

        Raises
        ------
        ValueError
            For an unknown label, another number of features, or features or weights that are
            not finite or not one a row. The sums are then as they were.
        """
        labels = label_indices(self.classes, y)
        rows = as_rows(features, labels, self.n_features)
        if len(rows) == 0:
            return self
        weights = as_weights(sample_weight, labels)
        if self.is_empty:
            self._allocate(rows.shape[1], rows.device)
        self._move(rows.device)
        # In a caller's autocast products would have half the precision.
        with torch.autocast(rows.device.type, enabled=False):
            self._add_gradients(rows, labels, self._class_weights[labels] * weights)
            self._add_moments(rows, labels, weights)
        self.rows_seen += self._count(labels[weights != 0])
        self.row_weights += self._count(labels, weights)
        return self

    def _add_gradients(self, rows: Tensor, labels: np.ndarray, weights: np.ndarray) -> None:
        targets = torch.as_tensor(labels, device=rows.device)
        factors = torch.as_tensor(weights, dtype=rows.dtype, device=rows.device)
        step = heads_per_chunk(len(rows), len(self.classes), self.n_features)
        for chunk in gen_batches(self.head_pool_size, step):
            heads = self.heads.take(chunk, rows.device)
            self.sums[chunk] += probe_gradients(rows, targets, heads, factors)

    def to(self, device: torch.device | str) -> RealGradients:
        """Return the same statistics with their sums on a device.

        Parameters
        ----------
        device : torch.device or str
            The device of the sums. Where it has no float64, moments and images go to the CPU.

        Returns
        -------
        RealGradients
            A shallow copy.
        """
        moved = copy.copy(self)
        moved._move(device)
        return moved

    def _move(self, device: torch.device | str) -> None:
        for name in self._sums:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                place = device if name == "sums" else device_of_doubles(device)
                setattr(self, name, value.to(place))

    def __add__(self, other: RealGradients) -> RealGradients:
        """Return the statistics of both data sets together.

        Parameters
        ----------
        other : RealGradients
            Made with the same settings.

        Returns
        -------
        RealGradients
            A new object, on the device of ``self``.

        Raises
        ------
        ValueError
            When the two were made with different settings; the message names what differs.
        """
        if not isinstance(other, RealGradients):
            return NotImplemented
        theirs = other.settings
        different = [
            f"{name} ({shorten(mine)} and {shorten(theirs[name])})"
            for name, mine in self.settings.items()
            if not np.array_equal(mine, theirs[name])
            and not (name == "n_features" and (self.is_empty or other.is_empty))
        ]
        if different:
            raise ValueError(
                f"Cannot merge gradients that differ in {', '.join(different)}. "
                f"Make every shard with the same settings."
            )
        full, rest = (other, self) if self.is_empty else (self, other)
        if rest.is_empty:
            rest = copy.copy(rest)
            rest._allocate(full.n_features, "cpu")
        total = copy.copy(full)
        for name in self._sums:
            mine, added = getattr(full, name), getattr(rest, name)
            is_tensor = isinstance(mine, Tensor)
            setattr(total, name, mine + (added.to(mine.device) if is_tensor else added))
        return total

    def add_up(self, add: Callable[[Tensor], None], n_features: int) -> None:
        """Replace the statistics by their sums over several processes, in each of them.

        Parameters
        ----------
        add : callable
            Replaces a tensor by its sum over the processes, each of which calls it in turn for
            the same tensors.
        n_features : int
            Number of features, for a process that has seen no row.
        """
        if self.is_empty:
            self._allocate(n_features, self.sums.device)
        for name in self._sums:
            # A copy: what came from a cache may be a file mapped into memory.
            value = getattr(self, name)
            total = torch.as_tensor(value).clone()
            add(total)
            setattr(self, name, total if isinstance(value, Tensor) else total.numpy())

    def __radd__(self, other: object) -> RealGradients:
        """Let ``sum(shards)`` start from 0."""
        return self if other == 0 else NotImplemented

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file.

        Parameters
        ----------
        path : str or Path
            File to write; an existing one is replaced.

        Raises
        ------
        OSError
            If it cannot be written. A file that was there is as it was.
        """
        settings = {name: getattr(self, name) for name in _SETTINGS}
        if not self.store_covariance:  # a file as earlier versions wrote it
            del settings["store_covariance"]
        write_gradients(Path(path), settings, self.tensors())

    @classmethod
    def load(cls, path: str | Path) -> RealGradients:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            A file written by :meth:`save`.

        Returns
        -------
        RealGradients
            The statistics, on the CPU.

        Raises
        ------
        ValueError
            When the file is something else, damaged, or of a newer format.
        """
        header, tensors = read_gradients(path)
        try:
            n_features = len(tensors["feature_sum"])
            shape = header["head_pool_size"], len(header["classes"]), n_features + 1
            if tensors["sums"].shape != shape:  # before memory is taken for so many heads
                raise ValueError("its sums do not fit its header.")
            full = cls(**as_settings(header))
            restore(full, tensors)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            reason = f"{error} is missing." if isinstance(error, KeyError) else error
            raise ValueError(f"{path} is damaged: {reason}") from error
        return full

    def tensors(self) -> dict[str, Tensor]:
        """Return all that was added up, on the CPU; not a copy of what is there already.

        Returns
        -------
        dict of str to Tensor
            The tensors by name.
        """
        named = {name: torch.as_tensor(getattr(self, name)) for name in self._sums}
        return {name: tensor.cpu().contiguous() for name, tensor in named.items()}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.classes)} classes, {self.n_features} features, "
            f"{self.head_pool_size} heads, {int(self.rows_seen.sum())} rows seen)"
        )
