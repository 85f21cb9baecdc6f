"""Six hundred small fits in one process: memory, open files and threads after each of them.

The fits go round twelve kinds of use, from arrays to a search in threads, one that fails and one
that is interrupted. Nearly each brings a net of its own, so that one kept after its estimator
would show. The first quarter fills what is filled once (the allocator, caches of libraries); what
counts is the slope over the rest. Ends after ten minutes, if not all are done by then.

Run: ``python benchmarks/soak.py``, on Linux.
"""

import argparse
import gc
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from _results import memory, save
from PIL import Image
from sklearn.model_selection import GridSearchCV

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    RandomHeads,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.followers import Follower
from tests.tiny_backbones import tiny_backbone

SECONDS = 600
X = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
Y = np.repeat(["cat", "dog", "owl"], 20)
SMALL = {"max_iter": 15, "heads": RandomHeads(4, 16), "random_state": 0}


class Interrupter(Follower):
    """A callback that presses Ctrl-C at the fifth step."""

    def on_fit_task_end(self, estimator, context):
        """Press it."""
        if self.n_steps == 5:
            signal.raise_signal(signal.SIGINT)


def net():
    """Make a net that no other fit has seen."""
    return tiny_backbone(image_size=56, n_features=64)


def uses(folder: Path) -> dict[str, Callable[[], object]]:
    """Return the kinds of use, by name."""
    paths = [folder / f"{i}.png" for i in range(len(X))]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)

    def saved() -> None:
        distiller = LGMDistiller(net(), **SMALL).fit(X, Y)
        PrototypeSet.from_estimator(distiller).save(folder / "prototypes", overwrite=True)
        PrototypeSet.load(folder / "prototypes")
        joblib.dump(distiller, folder / "distiller.joblib")
        joblib.load(folder / "distiller.joblib").transform(X[:5])

    def search() -> None:
        probe = FrozenBackboneProbe(
            net(), distiller=LGMDistiller(net(), **SMALL), n_views=2, max_epochs=20
        )
        grid = {"distiller__learning_rate": [0.02, 0.06]}
        with joblib.parallel_config("threading", n_jobs=2):
            GridSearchCV(probe, grid, cv=2).fit(X, Y)

    def merged() -> None:
        distiller = LGMDistiller(net(), **SMALL)
        counts = dict.fromkeys(["cat", "dog", "owl"], 20)
        halves = [
            distiller.compute_gradients(X[i::2], Y[i::2], class_counts=counts) for i in (0, 1)
        ]
        distiller.fit_gradients(halves[0] + halves[1])

    def failing() -> None:
        (folder / "bad.png").write_text("no image")
        try:
            distiller = LGMDistiller(net(), memory=folder / "failing", n_jobs=2, **SMALL)
            distiller.fit([*paths[:-1], folder / "bad.png"], Y)
        except ValueError:
            return
        raise AssertionError("an unreadable image was taken")

    def interrupted() -> None:
        distiller = LGMDistiller(net(), memory=folder / "interrupted", **SMALL)
        distiller.set_callbacks(Interrupter())
        try:
            distiller.fit(X, Y)
        except KeyboardInterrupt:
            distiller.set_callbacks().fit(X, Y)
            return
        raise AssertionError("Ctrl-C was lost")

    return {
        "arrays": lambda: LGMDistiller(net(), **SMALL).fit_transform(X, Y),
        "files": lambda: LGMDistiller(net(), n_jobs=2, **SMALL).fit(paths, Y),
        "rows": lambda: LGMDistiller(None, **SMALL).fit(X[:, :8, 0, 0] / 255.0, Y),
        "two nets": lambda: LGMDistiller(["efficientnet_lite0", net()], image_size=56, **SMALL).fit(
            X, Y
        ),
        "cached pass": lambda: LGMDistiller(net(), memory=folder / "cache", **SMALL).fit(X, Y),
        "probe": lambda: FrozenBackboneProbe(
            net(), distiller=ClassCentroids(net()), n_views=2, max_epochs=20
        ).fit(X, Y),
        "embedder": lambda: BackboneEmbedder(net(), n_jobs=2).fit_transform(paths),
        "saved": saved,
        "search": search,
        "merged": merged,
        "failing": failing,
        "interrupted": interrupted,
    }


def resources(folder: Path) -> dict[str, float]:
    """Return what this process holds now."""
    gc.collect()
    return {
        "MiB": memory()["VmRSS"],
        "open files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "files in the folder": sum(1 for path in folder.iterdir() if path.name != "cache"),
    }


def fits(folder: Path, n_fits: int) -> Iterator[dict[str, object]]:
    """Fit, and yield a record of each."""
    start = time.perf_counter()
    for i, (name, use) in enumerate(
        itertools.islice(itertools.cycle(uses(folder).items()), n_fits)
    ):
        use()
        seconds = time.perf_counter() - start
        yield {"fit": i, "use": name, "seconds": seconds, **resources(folder)}
        if seconds > SECONDS:
            return


def main() -> None:
    """Run, and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=600, help="how many at most")
    n_fits = parser.parse_args().fits
    torch.set_num_threads(1)
    records = []
    with tempfile.TemporaryDirectory() as name:
        for record in fits(Path(name), n_fits):
            records.append(record)
            if record["fit"] % 20 == 0:
                print(" ".join(f"{k} {v:.0f}" for k, v in record.items() if k != "use"), flush=True)
    table = pd.DataFrame(records)
    rest = table[len(table) // 4 :]
    lines = [
        f"{len(table)} fits in {table['seconds'].iloc[-1]:.0f} s.\n",
        "| after the first quarter | first | least | most | last | slope, per 100 fits |",
        "| :-- | --: | --: | --: | --: | --: |",
    ]
    for column in list(table.columns)[3:]:
        values = rest[column]
        slope = 100 * np.polyfit(rest["fit"], values, 1)[0]
        shown = (values.iloc[0], values.min(), values.max(), values.iloc[-1])
        lines.append(
            f"| {column} | " + " | ".join(f"{v:.0f}" for v in shown) + f" | {slope:+.2f} |"
        )
    print("\n".join(lines))
    if n_fits >= 600:
        save("soak", records, {"What the process holds": "\n".join(lines)})


if __name__ == "__main__":
    main()
