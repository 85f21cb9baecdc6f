"""Where prototypes lie among real images, in two dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils import _safe_indexing, resample
from sklearn.utils.validation import check_consistent_length

from sklgm.plotting._style import LOOKS, Display, draw_legend, resolve_class_names, shorten
from sklgm.prototypes.prototype_set import check_has_prototypes
from sklgm.utils.random import own_random_state
from sklgm.utils.targets import check_column


@dataclass(kw_only=True, eq=False, repr=False)
class EmbeddingDisplay(Display):
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

    See Also
    --------
    PrototypesDisplay : The prototypes as pictures.

    Notes
    -----
    The principal components are those of the real images' features alone, as a probe sees them, so
    that prototypes may well lie outside the cloud.

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

    embedding: Any
    labels: Any
    prototype_embedding: Any
    prototype_labels: Any
    explained_variance_ratio: Any = None
    class_names: Any = None

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, class_names=None, max_samples=2000, random_state=None, ax=None
    ):
        """Embed real images and draw them with the prototypes of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted distiller or selector of sklgm.
        X : array-like of images, list of images or paths, or array-like of shape (n, n_features)
            Real images, of any kind the estimator accepts, or feature rows with ``backbone=None``.
        y : array-like of shape (n_samples,)
            Their labels.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        max_samples : int or None, default=2000
            Embed and draw at most so many real images, at least two, chosen at random with the
            proportions of `y`. None takes all.
        random_state : int, RandomState instance or None, default=None
            Decides which images are drawn; None decides anew each time.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `estimator` is not one of sklgm that makes prototypes, or `X` and `y` differ in
            length.
        """
        check_has_prototypes(estimator)
        y = check_column(y, "y")
        check_consistent_length(X, y)
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
        )

    @classmethod
    def from_features(
        cls, features, labels, prototype_features, prototype_labels, *, class_names=None, ax=None
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
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw dots and stars.

        Up to 24 classes have a colour and marker of their own and a legend beside the axes. With
        more, colour runs through the classes in sorted order and a colour bar names a few.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            The axes to draw on; None makes a figure.

        Returns
        -------
        EmbeddingDisplay
            The display itself.
        """
        dots, stars = np.asarray(self.embedding), np.asarray(self.prototype_embedding)
        labels = np.concatenate([self.labels, self.prototype_labels])
        classes, indices = np.unique(labels, return_inverse=True)
        of_dot, of_star = np.split(indices, [len(self.labels)])
        names = resolve_class_names(classes, self.class_names)
        # Sizes keep many points apart and few visible.
        dot_looks = {"s": np.clip(12000 / max(1, len(dots)), 8, 36), "alpha": 0.75, "zorder": 2}
        dot_looks |= {"edgecolors": "white", "linewidths": 0.3}
        star_looks = {"s": np.clip(8000 / max(1, len(stars)), 70, 260), "zorder": 3}
        star_looks |= {"edgecolors": "black", "linewidths": 0.8}

        ax = self._set_axes(ax, (7.2, 5))
        self.dots_, self.stars_ = [], []
        if len(classes) <= len(LOOKS):
            for index, (color, dot, star) in enumerate(LOOKS[: len(classes)]):
                points = dots[of_dot == index].T
                self.dots_.append(ax.scatter(*points, color=color, marker=dot, **dot_looks))
                points = stars[of_star == index].T
                self.stars_.append(ax.scatter(*points, color=color, marker=star, **star_looks))
            self._draw_legend(names)
        else:
            colors = {"cmap": "viridis", "vmin": 0, "vmax": len(names) - 1}
            self.dots_.append(ax.scatter(*dots.T, c=of_dot, **colors, **dot_looks))
            self.stars_.append(ax.scatter(*stars.T, c=of_star, marker="*", **colors, **star_looks))
            self._draw_color_bar(names)
        for axis, name in ((0, "x"), (1, "y")):
            label = f"principal component {axis + 1}"
            if self.explained_variance_ratio is not None:
                label += f" ({self.explained_variance_ratio[axis]:.0%} of variance)"
            ax.set(**{f"{name}label": label, f"{name}ticks": []})
        ax.set_aspect("equal", adjustable="datalim")
        ax.margins(0.06)
        return self

    def _draw_legend(self, names):
        from matplotlib.legend_handler import HandlerTuple

        draw_legend(
            self.ax_,
            list(zip(self.dots_, self.stars_, strict=True)),
            names,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.4)},
            handlelength=2.6,
            labelspacing=0.4,
            markerscale=0.65,
            title="dots: real images\nstars: prototypes",
            title_fontsize=8,
            alignment="left",
        )

    def _draw_color_bar(self, names):
        shown = np.linspace(0, len(names) - 1, 6).round().astype(int)
        bar = self.figure_.colorbar(self.stars_[0], ax=self.ax_, ticks=shown, pad=0.02)
        bar.set_label(f"{len(names)} classes in order; stars are prototypes")
        ticks = [shorten(names[index]) for index in shown]
        bar.ax.set_yticklabels(ticks, fontsize=8, parse_math=False)
        bar.outline.set_visible(False)


def choose_rows(y, max_samples, random_state):
    """Pick rows at random, in the proportions of the labels and in their order."""
    state = own_random_state(random_state)
    rows = np.arange(len(y))
    return np.sort(
        resample(rows, replace=False, n_samples=max_samples, stratify=y, random_state=state)
    )
