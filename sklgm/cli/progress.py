"""What ``sklgm distill`` says of a fit: what it takes, how far it is, and the time that is left."""

import time
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from sklgm.backbones._checks import PREPARATION
from sklgm.cli.output import console, give
from sklgm.estimators.start import CANDIDATES
from sklgm.synthesis.augmentation import mirrors
from sklgm.utils.tables import duration

# Seconds between two lines of a phase, and before its first one, which would be rough any earlier.
_SECONDS, _FIRST_SECONDS = 60.0, 5.0


class FitProgress:
    """A callback that follows a fit: with bars in a terminal, elsewhere by a line a minute.

    scikit-learn's own bar needs a terminal, and tells no time left of the pass, whose number of
    batches is not known, nor of steps that take longer than half a minute.

    This is the first of ``n_processes`` of a job, and ``--resume`` would keep its work in a folder.
    """

    def __init__(self, work: Path, n_processes: int) -> None:
        self.work = work
        self.n_processes = n_processes
        self._total = self._done = 0
        self._start = self._due = 0.0
        self._warm: tuple[int, float] | None = None
        self._has_bars = console.is_terminal and not console.is_dumb_terminal

    def setup(self, estimator: Any, context: Any) -> None:
        """Show bars from now on."""
        self._bars = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=2,
        )
        if self._has_bars:
            self._bars.start()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Leave the bars as they are."""
        if self._has_bars:
            self._bars.stop()

    def on_fit_task_begin(self, estimator: Any, context: Any, *, y: Any) -> None:
        """Say what the fit takes, and begin a phase."""
        if context.task_name == "fit":
            self._n_own = len(y) // self.n_processes
            for line in self._plan(estimator, len(y), len(set(y))):
                give(False, None, escape(line))
        elif context.task_name == "real-gradients":
            n_nets = context.parent.max_subtasks - 1
            net = f", net {context.task_id + 1} of {n_nets}" if n_nets > 1 else ""
            of_process = " of the first process" if self.n_processes > 1 else ""
            self._begin(f"real images{of_process}{net}: ", self._n_own)
        elif context.task_name == "synthesis":
            n_kept = estimator.max_iter - context.max_subtasks
            self._begin("step ", estimator.max_iter, n_kept)

    def on_fit_task_end(self, estimator: Any, context: Any, *, metadata: Any) -> None:
        """Count a batch or a step, or end a phase."""
        if context.task_name == "batch":
            self._advance(metadata["n_samples"])
        elif context.task_name == "step":
            self._advance(1)
        elif context.task_name == "real-gradients" and self._done < self._total:
            self._done = self._total
            self._end(f", found in {estimator.memory}")
        elif context.task_name in ("real-gradients", "synthesis"):
            self._end(f" in {duration(time.monotonic() - self._start)}")

    def _plan(self, distiller: Any, n_images: int, n_classes: int) -> list[str]:
        """Return lines that say what a fit takes, where its work is kept, and how to go on."""
        memory, disk = map(_size, needed_bytes(distiller, n_classes, self.n_processes))
        each = f" in each of {self.n_processes} processes" if self.n_processes > 1 else ""
        n_prototypes = n_classes * distiller.prototypes_per_class
        n_views = 1 + distiller._matching_settings().n_views
        n_real = n_views_of_real(distiller)
        views = f"{n_real} views" if n_real > 1 else "1 view"
        lines = [
            f"{n_images:,} images of {n_classes:,} classes pass the net in {views} each. Then "
            f"{n_prototypes:,} prototypes take {distiller.max_iter:,} steps, each with "
            f"{n_views} views of every one.",
            f"Prototypes, heads and gradients take about {memory} of memory{each}, beside the net "
            f"and a batch.",
        ]
        for net in (encoder.backbone for encoder in distiller._encoders()):
            seen = ", ".join(f"{key} {_brief(getattr(net.spec, key))}" for key in PREPARATION)
            lines.append(f"{net.name} sees {net.image_size} pixels a side: {seen}.")
        if distiller.init == "nearest":
            n_each = CANDIDATES * distiller.prototypes_per_class
            lines.append(f"The images to start at are chosen first, of up to {n_each} a class.")
        if distiller.memory is None:
            lines.append(
                f"Ctrl-C loses the work. --resume keeps it in {self.work}, about {disk}, and the "
                f"same command goes on from there."
            )
        else:
            lines.append(
                f"The work is kept in {distiller.memory}, about {disk}, every minute. To go on "
                f"after Ctrl-C, give the same command again."
            )
        return lines

    def _begin(self, phase: str, total: int, done: int = 0) -> None:
        self._phase, self._total, self._done = phase, total, done
        self._start, self._warm = time.monotonic(), None
        self._bar = self._bars.add_task(self._line(""), total=total, completed=done)

    def _advance(self, n: int) -> None:
        """Count what is done, and say what time is left if it is time to do so."""
        self._done += n
        now = time.monotonic()
        if self._warm is None:  # the first one takes longer, and is not what is left
            self._warm, self._due = (self._done, now), now + _FIRST_SECONDS
            line = self._line("")
        else:
            n_warm, start = self._warm
            left = (now - start) / (self._done - n_warm) * (self._total - self._done)
            steps = "" if self._phase == "step " else ", then the steps"
            line = self._line(f", {duration(left)} left{steps}")
        if self._has_bars:
            self._bars.update(self._bar, description=line, completed=self._done)
        elif now >= self._due and self._done < self._total:
            self._due = now + _SECONDS
            give(False, None, line)

    def _end(self, ending: str) -> None:
        """Leave a line in place of the bar of a phase.

        Two bars would need a cursor that goes up a line, which the output of a notebook has not.
        """
        self._bars.remove_task(self._bar)
        give(False, None, self._line(ending))

    def _line(self, ending: str) -> str:
        return escape(f"{self._phase}{self._done:,} of {self._total:,}{ending}")


def n_views_of_real(distiller: Any) -> int:
    """Return how many views of each real image pass the net: centre crops and random ones."""
    augmentation, n_random = distiller._augmentation(), int(distiller.n_real_views)
    if augmentation is None:
        return 1
    # With one random view, either the plain crop or the mirrored one is taken.
    return n_random + (2 if n_random != 1 and mirrors(augmentation) else 1)


def needed_bytes(distiller: Any, n_classes: int, n_processes: int = 1) -> tuple[float, float]:
    """Return the bytes of memory that grow with the classes, and those of the work on the disk.

    The formulas are those of ``docs/cost.rst`` and ``docs/reliability.rst``, over several nets
    added up. The memory is that of each process, the disk that of all of them.
    """
    encoders = distiller._encoders()
    n_views = distiller._matching_settings().n_views
    heads = distiller._heads()
    n_rows = heads.pool_size * n_classes
    n_prototypes = n_classes * distiller.prototypes_per_class
    n_pixels = n_prototypes * max(one.backbone.canvas_size for one in encoders) ** 2
    n_features, n_nets = sum(one.n_features for one in encoders), len(encoders)
    memory = (
        12 * 12 * n_pixels / n_processes
        + 4 * (n_rows + heads.n_heads * n_classes) * (2 * n_features + n_nets)
        + 4 * (10 * n_views + 2) * n_prototypes * n_features
    )
    disk = (
        4 * n_rows * (n_features + n_nets) * n_processes
        + 48 * n_pixels
        + 16 * n_prototypes * n_views * n_features
    )
    return memory, disk


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**20:.1f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"


def _brief(value: Any) -> str:
    """Return a value, or three of them where they differ, with three digits of a number."""
    values = value if isinstance(value, tuple) else [value]
    texts = [one if isinstance(one, str) else f"{one:.3g}" for one in values]
    return "/".join(texts if len(set(texts)) > 1 else texts[:1])
