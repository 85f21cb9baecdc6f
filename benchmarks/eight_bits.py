"""What the 8-bit pictures of saved prototypes cost: probes on them beside probes on exact floats.

Prototypes are saved, and read back both ways: the floats by ``PrototypeSet.load``, the pictures
from their folders as any other tool would. Probes of the same seeds are trained on both and
scored on the same test images, on EfficientNet-lite0 at 56 pixels.

Run: ``python benchmarks/eight_bits.py``
"""

import tempfile
from pathlib import Path

import numpy as np
from _data import load
from _results import save
from PIL import Image

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet
from sklgm.datasets import load_folder
from sklgm.evaluation import compare_selections

NET = {"backbone": "efficientnet_lite0", "image_size": 56}
N_DISTILLATIONS = 3
N_PROBES = 5


def read_both_ways(distiller, folder):
    """Save prototypes and return them as floats and as pictures."""
    PrototypeSet.from_estimator(distiller).save(folder)
    exact = PrototypeSet.load(folder)
    paths, names = load_folder(folder / "images", return_X_y=True)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    pictures = PrototypeSet(pixels / np.float32(255), names.astype(exact.labels.dtype))
    return {"exact floats": exact, "8-bit pictures": pictures}


def main():
    """Compare on two data sets."""
    lines = ["| data | trained on | accuracy | deviation |", "| :-- | :-- | --: | --: |"]
    records = []
    for data in ("openmoji", "digits"):
        X, X_test, y, y_test = load(data)
        runs = []
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(N_DISTILLATIONS):
                distiller = LGMDistiller(**NET, random_state=seed).fit(X, y)
                result = compare_selections(
                    *(X, y, X_test, y_test),
                    backbone=NET["backbone"],
                    selections=read_both_ways(distiller, Path(folder) / str(seed)),
                    probe=FrozenBackboneProbe(**NET, memory=folder),
                    n_probe_seeds=N_PROBES,
                )
                runs += [{"data": data, "distillation": seed, **run} for run in result.records]
        accuracies = {
            name: np.array([run["accuracy"] for run in runs if run["selection"] == name])
            for name in ("exact floats", "8-bit pictures")
        }
        for name, values in accuracies.items():
            lines.append(f"| {data} | {name} | {values.mean():.4f} | {values.std(ddof=1):.4f} |")
        gap = accuracies["8-bit pictures"] - accuracies["exact floats"]
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        lines.append(f"| {data} | pictures - floats | {gap.mean():+.4f} | |")
        print(f"{data}: pictures - floats {gap.mean():+.4f} ± {error:.4f} (standard error)")
        records += runs
    print("\n".join(lines))
    save("eight_bits", records, {"Accuracy on real test images": "\n".join(lines)})


if __name__ == "__main__":
    main()
