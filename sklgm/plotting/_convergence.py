"""How the loss of a distillation fell."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklgm.plotting._style import class_styles, fit_text, pyplot

# By which a display finds the curves of others on the same axes.
_MARK = "sklgm-convergence"
_MOST_COLOURS = 8


class ConvergenceDisplay:
    """Angular distance over the steps: a smooth line over what was measured.

    Several are compared by drawing them on the same axes. It is recommended to use
    :meth:`from_estimator` to make a display.

    Parameters
    ----------
    loss : array-like of shape (n_iter,)
        Loss at each step.
    level_starts : array-like of int, default=None
        Steps before which a finer level was added to the pyramid.
    label : str, default=None
        Name of the curve, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    line_ : matplotlib Line2D
        The smooth line.
    raw_ : matplotlib Line2D
        The loss of each step, faint.
    marks_ : matplotlib Line2D or None
        Marks at the steps at which levels were added.

    Raises
    ------
    ValueError
        If the loss is no finite curve, or levels start outside of it.

    Examples
    --------
    Two distillations on the same axes:

    >>> import numpy as np
    >>> from sklgm.plotting import ConvergenceDisplay
    >>> steps = np.arange(100)
    >>> slow = ConvergenceDisplay(loss=np.exp(-steps / 60), label="slow").plot()
    >>> fast = ConvergenceDisplay(loss=np.exp(-steps / 30), label="fast").plot(slow.ax_)
    """

    def __init__(self, *, loss, level_starts=None, label=None):
        self.loss = loss
        self.level_starts = level_starts
        self.label = label

    @classmethod
    def from_estimator(cls, estimator, *, label=None, ax=None, window=None):
        """Draw the loss curve of a fitted distiller.

        Parameters
        ----------
        estimator : LGMDistiller
            Fitted. Its pyramid's levels are marked.
        label : str, default=None
            Name of the curve, for the legend.
        ax : matplotlib Axes, default=None
            The axes to draw on; see :meth:`plot`.
        window : int, default=None
            Steps to average over; see :meth:`plot`.

        Returns
        -------
        ConvergenceDisplay
            The display, drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        TypeError
            If `estimator` has no loss curve, as selectors have none.
        """
        fits = hasattr(estimator, "fit")
        if fits:
            check_is_fitted(estimator)
        if not fits or not hasattr(estimator, "loss_curve_"):
            advice = " Pass its distiller_." if hasattr(estimator, "distiller_") else ""
            raise TypeError(
                f"ConvergenceDisplay.from_estimator takes a fitted LGMDistiller; got "
                f"{type(estimator).__name__}.{advice}"
            )
        display = cls(loss=estimator.loss_curve_, level_starts=estimator.level_starts_, label=label)
        return display.plot(ax, window=window)

    def plot(self, ax=None, *, window=None):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, perhaps those of another display, whose curves keep their colours. None
            makes a figure.
        window : int, default=None
            Steps that a point of the smooth line is the mean of, fewer at the ends. None takes a
            twentieth of all.

        Returns
        -------
        ConvergenceDisplay
            The display itself.
        """
        plt = pyplot()

        loss, starts = self._validate()
        if window is None:
            window = max(1, len(loss) // 20)
        if not isinstance(window, (int, np.integer)) or window < 1:
            raise ValueError(f"window must be a positive integer; got {window!r}.")
        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
        drawn = sum(line.get_gid() == _MARK for line in ax.lines)
        color, *_ = class_styles(_MOST_COLOURS)[drawn % _MOST_COLOURS]
        steps, smooth = np.arange(1, len(loss) + 1), _moving_mean(loss, window)
        self.ax_, self.figure_ = ax, ax.figure
        (self.raw_,) = ax.plot(steps, loss, color=color, alpha=0.25, lw=1)
        # In another way of drawing when the colours are used up.
        style = ("-", "--", ":")[drawn // _MOST_COLOURS % 3]
        (self.line_,) = ax.plot(steps, smooth, style, color=color, lw=2, gid=_MARK)
        self.marks_ = None
        if len(starts):
            (self.marks_,) = ax.plot(
                *(steps[starts], smooth[starts]),
                **{"ls": "", "marker": "|", "ms": 11, "mew": 1.5, "color": color},
            )
        if drawn == 0:
            ax.set_xlabel("step")
            ax.set_ylabel("angular distance")
            ax.spines[["top", "right"]].set_visible(False)
            if loss.min() > 0:
                self._to_logarithm()
        self._name(ax)
        return self

    def _to_logarithm(self):
        from matplotlib.ticker import FuncFormatter, LogLocator

        axis = self.ax_.yaxis
        self.ax_.set_yscale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter("")

    def _name(self, ax):
        """Write the legend anew, for all curves of the axes."""
        from matplotlib.lines import Line2D

        if self.label is not None:
            self.line_.set_label(fit_text(str(self.label), 40))
        # Lines without a name of their own are called like this by matplotlib.
        handles = [
            line
            for line in ax.lines
            if line.get_gid() == _MARK and not line.get_label().startswith("_child")
        ]
        names = [line.get_label() for line in handles]
        if any(line.get_marker() == "|" for line in ax.lines):
            handles.append(Line2D([], [], ls="", marker="|", ms=11, mew=1.5, color="0.4"))
            names.append("finer level")
        if handles:
            box = ax.legend(handles, [" "] * len(names), frameon=False)
            # Set afterwards: a legend would leave out names that start with an underscore.
            for text, name in zip(box.get_texts(), names, strict=True):
                text.set(text=name, parse_math=False)

    def _validate(self):
        loss = np.asarray(self.loss, dtype=float)
        if loss.ndim != 1 or not len(loss) or not np.isfinite(loss).all():
            raise ValueError(
                f"loss must be finite numbers of shape (n_iter,), one a step; got shape "
                f"{loss.shape}."
            )
        starts = np.asarray([] if self.level_starts is None else self.level_starts, dtype=int)
        if starts.ndim != 1 or not ((starts >= 0) & (starts < len(loss))).all():
            raise ValueError(
                f"level_starts must be steps from 0 to {len(loss) - 1}; got {starts.tolist()}."
            )
        return loss, starts


def _moving_mean(loss, window):
    """Return means over windows around each step, cut at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(loss)])
    middle = np.arange(len(loss))
    first = np.maximum(middle - (window - 1) // 2, 0)
    last = np.minimum(middle + window // 2 + 1, len(loss))
    return (sums[last] - sums[first]) / (last - first)
