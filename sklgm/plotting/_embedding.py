"""Where prototypes lie among real images, in two dimensions."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import _safe_indexing, resample
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklgm.plotting._style import (
    MOST_NAMED_CLASSES,
    class_styles,
    fit_text,
    pyplot,
    resolve_class_names,
)
from sklgm.utils.numbers import is_whole
from sklgm.utils.targets import check_column


class EmbeddingDisplay:
    """Real images as dots and prototypes as stars, in the plane that real images span best.

    It is recommended to use :meth:`from_estimator` to make a display.

    Parameters
    ----------
    embedding : array-like of shape (n_samples, 2)
        Projected real images.
    labels : array-like of shape (n_samples,)
        Their class labels.
    prototype_embedding : array-like of shape (n_prototypes, 2)
        Projected prototypes.
    prototype_labels : array-like of shape (n_prototypes,)
        Their class labels.
    explained_variance_ratio : array-like of shape (2,), default=None
        Share of the real images' variance along each axis, for the axis labels.
    class_names : dict or sequence of str, default=None
        Names to show instead of the labels: by label, or one per class in sorted order.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    dots_ : list of matplotlib PathCollection
        Real images: one collection per class, or a single one if there are too many classes to
        name.
    stars_ : list of matplotlib PathCollection
        Prototypes, likewise.

    Raises
    ------
    ValueError
        If points and labels do not fit each other.

    See Also
    --------
    PrototypesDisplay : The prototypes as pictures.

    Notes
    -----
    The principal components are those of the real images' features, as they are: the space in which
    a probe separates classes and in which gradients are matched. Prototypes have no part in the
    components and are projected onto them, so they may well lie outside the cloud of real images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm.plotting import EmbeddingDisplay
    >>> points = np.random.default_rng(0).normal(size=(20, 2))
    >>> display = EmbeddingDisplay(
    ...     embedding=points,
    ...     labels=["cat", "dog"] * 10,
    ...     prototype_embedding=points[:2],
    ...     prototype_labels=["cat", "dog"],
    ... )
    >>> display.plot()
    <...>
    """

    def __init__(
        self,
        *,
        embedding,
        labels,
        prototype_embedding,
        prototype_labels,
        explained_variance_ratio=None,
        class_names=None,
    ):
        self.embedding = embedding
        self.labels = labels
        self.prototype_embedding = prototype_embedding
        self.prototype_labels = prototype_labels
        self.explained_variance_ratio = explained_variance_ratio
        self.class_names = class_names

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        class_names=None,
        max_samples=2000,
        random_state=None,
        ax=None,
        legend=True,
    ):
        """Embed real images and draw them with the prototypes of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted distiller or selector of sklgm.
        X : array-like of images, list of images or paths, or array-like of shape (n, n_features)
            Real images, of any kind the estimator accepts, or feature rows with ``backbone=None``.
        y : array-like of shape (n_samples,)
            Their labels, all among ``estimator.classes_``.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        max_samples : int or None, default=2000
            Embed and draw at most so many real images, drawn at random with the proportions of
            `y`. None takes all.
        random_state : int, RandomState instance or None, default=None
            Decides which images are drawn; None decides anew each time.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.
        legend : bool, default=True
            Whether to name the classes; see :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        TypeError
            If `estimator` is not one of sklgm that makes prototypes.
        ValueError
            If `X` and `y` differ in length, `y` holds labels that `estimator` does not know, or
            `max_samples` is below 2.
        """
        _check_estimator(estimator)
        _check_most(max_samples)
        y = check_column(y, "y")
        check_consistent_length(X, y)
        unknown = np.setdiff1d(y, estimator.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds labels the estimator was not fitted on: {unknown[:5].tolist()}."
            )
        if max_samples is not None and len(y) > max_samples:
            chosen = choose_rows(y, max_samples, random_state)
            X, y = _safe_indexing(X, chosen), y[chosen]

        return cls.from_features(
            estimator._embed(X),
            y,
            estimator.prototype_features_,
            estimator.prototype_labels_,
            class_names=class_names,
            ax=ax,
            legend=legend,
        )

    @classmethod
    def from_features(
        cls,
        features,
        labels,
        prototype_features,
        prototype_labels,
        *,
        class_names=None,
        ax=None,
        legend=True,
    ):
        """Draw what is embedded already.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features)
            Features of real images; at least two rows and two columns.
        labels : array-like of shape (n_samples,)
            Labels of the real images.
        prototype_features : ndarray of shape (n_prototypes, n_features)
            Features of prototypes, in the same space.
        prototype_labels : array-like of shape (n_prototypes,)
            Labels of the prototypes.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.
        legend : bool, default=True
            Whether to name the classes; see :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.
        """
        pca = PCA(n_components=2, svd_solver="full").fit(features)
        display = cls(
            embedding=pca.transform(features),
            labels=labels,
            prototype_embedding=pca.transform(prototype_features),
            prototype_labels=prototype_labels,
            explained_variance_ratio=pca.explained_variance_ratio_,
            class_names=class_names,
        )
        return display.plot(ax, legend=legend)

    def plot(self, ax=None, *, legend=True):
        """Draw dots and stars.

        Up to 24 classes have a colour and marker of their own and a legend beside the axes. With
        more, colour runs through the classes in sorted order and a colour bar names a few.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.
        legend : bool, default=True
            Whether to draw the legend or colour bar.

        Returns
        -------
        EmbeddingDisplay
            The display itself.
        """
        plt = pyplot()

        dots, labels = _validate(self.embedding, self.labels, "embedding", "labels")
        stars, star_labels = _validate(
            self.prototype_embedding,
            self.prototype_labels,
            "prototype_embedding",
            "prototype_labels",
        )
        classes = np.unique(np.concatenate([labels, star_labels]))
        names = [fit_text(name, 24) for name in resolve_class_names(classes, self.class_names)]

        if ax is None:
            _, ax = plt.subplots(figsize=(7.2, 5), layout="constrained")
        self.ax_ = ax
        self.figure_ = ax.figure
        self.dots_, self.stars_ = [], []
        draw = self._draw_named if len(classes) <= MOST_NAMED_CLASSES else self._draw_ordered
        draw(
            (dots, np.searchsorted(classes, labels)),
            (stars, np.searchsorted(classes, star_labels)),
            names,
            legend,
        )
        for set_label, axis in ((ax.set_xlabel, 0), (ax.set_ylabel, 1)):
            set_label(self._axis_label(axis))
        ax.set(xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.06)
        ax.spines[["top", "right"]].set_visible(False)
        return self

    def _draw_named(self, dots, stars, names, legend):
        styles = class_styles(len(names))
        dot_looks, star_looks = _looks(dots, stars)
        (points, of_class), (star_points, of_star) = dots, stars
        for index, (color, dot, star) in enumerate(styles):
            self.dots_.append(
                self.ax_.scatter(*points[of_class == index].T, color=color, marker=dot, **dot_looks)
            )
            self.stars_.append(
                self.ax_.scatter(
                    *star_points[of_star == index].T, color=color, marker=star, **star_looks
                )
            )
        if legend:
            self._draw_legend(styles, names)

    def _draw_legend(self, styles, names):
        from matplotlib.legend_handler import HandlerTuple
        from matplotlib.lines import Line2D

        def handle(marker, size, edge, color):
            return Line2D(
                [], [], marker=marker, markersize=size, mec=edge, mew=0.6, color=color, ls=""
            )

        few = len(names) <= 16
        box = self.ax_.legend(
            [
                handle("o", 6, "none", "0.6"),
                handle("*", 10, "black", "0.6"),
                *(
                    (handle(dot, 6, "none", color), handle(star, 10, "black", color))
                    for color, dot, star in styles
                ),
            ],
            ["real image", "prototype", *(" " for _ in names)],
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.4)},
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
            fontsize=9 if few else 8,
            labelspacing=0.5 if few else 0.3,
            handlelength=2.6,
            handletextpad=0.5,
        )
        # Set afterwards: a legend would leave out names that start with an underscore.
        for text, name in zip(box.get_texts()[2:], names, strict=True):
            text.set(text=name, parse_math=False)

    def _draw_ordered(self, dots, stars, names, legend):
        dot_looks, star_looks = _looks(dots, stars)
        color = {"cmap": "viridis", "vmin": 0, "vmax": len(names) - 1}
        (points, of_class), (star_points, of_star) = dots, stars
        self.dots_ = [self.ax_.scatter(*points.T, c=of_class, **color, **dot_looks)]
        self.stars_ = [
            self.ax_.scatter(*star_points.T, c=of_star, marker="*", **color, **star_looks)
        ]
        if legend:
            shown = np.linspace(0, len(names) - 1, 6).round().astype(int)
            bar = self.figure_.colorbar(self.stars_[0], ax=self.ax_, ticks=shown, pad=0.02)
            bar.set_label(f"{len(names)} classes in order; stars are prototypes")
            bar.ax.set_yticklabels([names[index] for index in shown], fontsize=8, parse_math=False)
            bar.outline.set_visible(False)

    def _axis_label(self, axis):
        label = f"principal component {axis + 1}"
        if self.explained_variance_ratio is None:
            return label
        return f"{label} ({self.explained_variance_ratio[axis]:.0%} of variance)"


def _check_estimator(estimator):
    """Raise unless the estimator embeds images and has prototypes."""
    embeds = hasattr(estimator, "_embed")
    if embeds:
        check_is_fitted(estimator)
    if not embeds or not hasattr(estimator, "prototypes_"):
        advice = " Pass its distiller_." if hasattr(estimator, "distiller_") else ""
        raise TypeError(
            "EmbeddingDisplay.from_estimator takes a fitted estimator of sklgm with prototypes: "
            f"LGMDistiller, RandomImages or ClassCentroids; got {type(estimator).__name__}."
            f"{advice} For anything else, pass projected points to EmbeddingDisplay itself."
        )


def _check_most(max_samples):
    if max_samples is not None and (not is_whole(max_samples) or max_samples < 2):
        raise ValueError(
            f"max_samples must be an integer of at least 2, or None; got {max_samples!r}."
        )


def choose_rows(y, max_samples, random_state):
    """Pick rows at random, in the proportions of the labels and in their order."""
    if random_state is None:
        # scikit-learn would draw from numpy's global generator.
        random_state = int(np.random.SeedSequence().generate_state(1)[0])
    rows = np.arange(len(y))
    chosen = resample(
        rows, replace=False, n_samples=max_samples, stratify=y, random_state=random_state
    )
    return np.sort(chosen)


def _looks(dots, stars):
    """Sizes that keep many points apart and few visible."""
    dot_size = np.clip(12000 / max(1, len(dots[0])), 8, 36)
    star_size = np.clip(8000 / max(1, len(stars[0])), 70, 260)
    return (
        {"s": dot_size, "alpha": 0.75, "edgecolors": "white", "linewidths": 0.3, "zorder": 2},
        {"s": star_size, "edgecolors": "black", "linewidths": 0.8, "zorder": 3},
    )


def _validate(points, labels, points_name, labels_name):
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{points_name} must have shape (n, 2); got shape {points.shape}.")
    if labels.shape != points.shape[:1]:
        raise ValueError(
            f"{points_name} has {len(points)} points, but {labels_name} has shape {labels.shape}."
        )
    return points, labels
