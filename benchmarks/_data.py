"""The data sets of the benchmarks, each split into training and test images."""

import gzip
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sklgm.datasets import load_digits, load_openmoji
from sklgm.images import check_images, resize_crop

DATA = ("openmoji", "digits", "fashion-mnist")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def add_data_argument(parser):
    """Add the option that says where Fashion-MNIST is."""
    parser.add_argument(
        "--fashion-mnist",
        type=Path,
        default=FASHION_MNIST,
        metavar="FOLDER",
        help="folder of its four .gz files, as Debian's dataset-fashion-mnist has (%(default)s)",
    )


def load(name, fashion_mnist=FASHION_MNIST, quick=False):
    """Return X, X_test, y, y_test; with ``quick`` 12 images of each class."""
    if name == "fashion-mnist":
        X, y = _some(*_read(fashion_mnist, "train"), 2000)
        X_test, y_test = _some(*_read(fashion_mnist, "t10k"), 1500)
    else:
        X, y = (load_openmoji if name == "openmoji" else load_digits)(return_X_y=True)
        X, X_test, y, y_test = train_test_split(X, y, test_size=1 / 3, stratify=y, random_state=0)
    if quick:
        n_few = 12 * len(np.unique(y))
        (X, y), (X_test, y_test) = _some(X, y, n_few), _some(X_test, y_test, n_few)
    return X, X_test, y, y_test


def canvases(X, size):
    """Return images as a float tensor (n, 3, size, size) in [0, 1]."""
    images = np.stack([resize_crop(image, size) for image in check_images(X)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _some(X, y, n):
    X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=0)
    return X, y


def _read(folder, part):
    """Return images and labels of a part of Fashion-MNIST, from its IDX files."""
    files = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for file in files:
        if not file.exists():
            raise SystemExit(
                f"{file} is missing. Install Debian's dataset-fashion-mnist, or say where the "
                f"four files are with --fashion-mnist FOLDER."
            )
    # A header of 16 bytes before the images, of 8 before the labels.
    images, labels = (
        np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=offset)
        for file, offset in zip(files, (16, 8), strict=True)
    )
    return images.reshape(-1, 28, 28), labels
