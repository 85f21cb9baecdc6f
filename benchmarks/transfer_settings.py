"""What makes prototypes of one net serve others: OpenMoji, distilled on ``efficientnet_lite0``.

Rows are `LGMDistiller` with one thing changed, columns the nets of the probes, as in
``transfer.py``, which has the rows to compare with: the defaults, and real images. A seed is one
distillation and the probes on it; means and standard errors are over seeds.

Run: ``python benchmarks/transfer_settings.py``; ``--quick`` is a short trial that saves nothing.
"""

import tempfile

from _results import save
from joblib import Parallel, delayed
from transfer import embed_all, merge, parse, transfer

from sklgm import ClassCentroids, LGMDistiller, StandardAugmentation


class GreyStart(LGMDistiller):
    """Starts grey, as published, instead of at the mean image of the class."""

    def fit(self, X, y):
        """Distil from sums that know no images."""
        gradients = self.compute_gradients(X, y)
        gradients.images_seen[:] = 0
        return self.fit_gradients(gradients)


class ImageStart(LGMDistiller):
    """Starts at a real image: the one nearest to the mean feature of the class."""

    def fit(self, X, y):
        """Distil from sums whose mean image of a class is that one."""
        gradients = self.compute_gradients(X, y)
        nearest = ClassCentroids(self.backbone, memory=self.memory).fit(X, y).prototypes_
        counts = gradients.images_seen[:, None, None, None]
        gradients.image_sum = nearest.transpose(0, 3, 1, 2) * counts
        return self.fit_gradients(gradients)


def variants(options):
    """Return the distillers by name."""
    views = {
        "no blur": StandardAugmentation(),
        "published views": StandardAugmentation(scale=(0.08, 1), noise=0.5),
    }
    return {
        "grey start": GreyStart(**options),
        "start at a real image": ImageStart(**options),
        **{name: LGMDistiller(augmentation=views[name], **options) for name in views},
        "learning rate .01": LGMDistiller(learning_rate=0.01, **options),
    }


def main():
    """Distil with each setting, probe on every net."""
    arguments = parse(__doc__.partition("\n")[0])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.memory or temporary
        parallel = Parallel(n_jobs=arguments.jobs)
        embed_all(parallel, arguments, folder)
        distillers = variants({"memory": folder, "max_iter": 10 if arguments.quick else 300})
        rows = list(distillers.items())
        parts = parallel(
            delayed(transfer)(["lite0"], dict(part), {}, arguments, folder)
            for part in (rows[::2], rows[1::2])
        )
    matrix = merge(parts, [*(f"lite0, {name}" for name in distillers), "all"])
    print(matrix)
    if not arguments.quick:
        tables = {
            f"Accuracy, mean ± standard error over {arguments.seeds} seeds": matrix.to_markdown()
        }
        save("transfer_settings", matrix.records, tables, arguments.jobs)


if __name__ == "__main__":
    main()
