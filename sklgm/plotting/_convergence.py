"""How the loss of a distillation fell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklgm.plotting._style import PALETTE, Display, pyplot


@dataclass(kw_only=True, eq=False, repr=False)
class ConvergenceDisplay(Display):
    """Angular distance over the steps: a smooth line over what was measured.

    Several are compared by drawing them on the same axes. It is recommended to use
    :meth:`from_estimator` to make a display.

    Parameters
    ----------
    loss : array-like of shape (n_iter,)
        Loss at each step.
    level_starts : array-like of int, default=()
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

    Examples
    --------
    Two distillations on the same axes:

    >>> import numpy as np
    >>> from sklgm.plotting import ConvergenceDisplay
    >>> steps = np.arange(100)
    >>> slow = ConvergenceDisplay(loss=np.exp(-steps / 60), label="slow").plot()
    >>> fast = ConvergenceDisplay(loss=np.exp(-steps / 30), label="fast").plot(slow.ax_)
    """

    loss: Any
    level_starts: Any = ()
    label: str | None = None

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
        AttributeError
            If `estimator` has no loss curve, as selectors have none.
        """
        check_is_fitted(estimator)
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
        loss, starts = np.asarray(self.loss, dtype=float), np.asarray(self.level_starts, dtype=int)
        steps = np.arange(1, len(loss) + 1)
        window = min(len(loss), window or max(1, len(loss) // 20))
        smooth = np.convolve(loss, np.ones(window), "same")
        smooth /= np.convolve(np.ones(len(loss)), np.ones(window), "same")

        ax = self._set_axes(ax, (6.4, 4))
        if not ax.lines:
            # Lines are drawn in other ways when the colours are used up.
            plt = pyplot()
            ax.set_prop_cycle(plt.cycler(ls=["-", "--", ":"]) * plt.cycler(color=PALETTE))
            ax.set(xlabel="step", ylabel="angular distance")
            if loss.min() > 0:
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter("")
        (self.line_,) = ax.plot(steps, smooth, lw=2, label=self.label)
        looks = {"color": self.line_.get_color(), "ls": "-"}
        (self.raw_,) = ax.plot(steps, loss, alpha=0.25, lw=1, **looks)
        self.marks_ = None
        if len(starts):
            named = "finer level" in ax.get_legend_handles_labels()[1]
            looks |= {"ls": "", "marker": "|", "ms": 11, "mew": 1.5}
            (self.marks_,) = ax.plot(
                steps[starts], smooth[starts], label=None if named else "finer level", **looks
            )
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
        return self
