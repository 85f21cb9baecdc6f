"""A report on a folder of prototypes: runs the protocols that its options ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklgm.alignment import alignment_matrix, gradient_alignment_matrix
from sklgm.bias import diagnose_bias, suspect_classes
from sklgm.datasets._checks import check_names
from sklgm.datasets.table import find_file, read_table
from sklgm.estimators.distiller import LGMDistiller
from sklgm.estimators.embedder import BackboneEmbedder
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import net_parameters
from sklgm.evaluation import SelectionComparison, TransferMatrix, prototype_statistics
from sklgm.evaluation._homes import PROTOTYPES, compare_prototypes, made_them
from sklgm.evaluation._transfer import with_relative_accuracy
from sklgm.prototypes.nets import nets_of
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.report._html import HTMLReport

# Feature spaces are compared by this many neighbours of an image, or by all that there are.
_NEIGHBORS = 10
# They are compared on at most this many images, since neighbours take time with their square.
_MOST_COMPARED = 2000


def report_on_files(
    prototypes: PrototypeSet,
    train: tuple[np.ndarray, np.ndarray],
    *,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    groups: Path | None = None,
    backbones: Sequence[str] = (),
    image_size: int | None = None,
    n_seeds: int = 5,
    probe: FrozenBackboneProbe,
    verbose: int = 0,
) -> HTMLReport:
    """Compare prototypes with images in files, and return the page.

    Training and test data are paths and labels. With a test there is a comparison with real images,
    and with several backbones a transfer matrix. The file of groups, with the columns ``path`` and
    ``group`` for every image, adds the section about groups and the accuracy of the worst pair of
    class and group; every class must occur in every group among the test images, or without these
    the training images. Backbones and the image size are as for :func:`nets_of`; the first backbone
    is for everything that is about one net. Of the probe, settings about nets and images are taken
    for everything; a ``memory`` saves many passes.
    """
    nets = nets_of(prototypes, backbones, image_size)
    first = next(iter(nets))
    X, y = train
    judged = test or train
    probe = clone(probe).set_params(backbone=nets[first])
    settings = net_parameters(probe)
    # Of one seed, the first of a comparison, so that a memory keeps its features.
    fixed = clone(probe).set_params(random_state=0)
    about: dict[str, Any] = {"backbone": nets[first], "probe": fixed}
    results: list[Any] = []
    judged_groups = None
    if groups is not None:
        # This comes first, since it asks most of the data. Readers must not be trained where
        # class and group go together.
        train_groups, judged_groups = _read_groups(groups, X, judged[0])
        about_groups = {"reference": (*judged, judged_groups), "verbose": verbose, **about}
        results = [diagnose_bias(prototypes, X, y, train_groups, **about_groups)]
    if test is not None:
        of_probes: dict[str, Any] = {"probe": probe, "n_seeds": n_seeds, "groups": judged_groups}
        comparisons = compare_prototypes(
            prototypes, train, judged, nets, **of_probes, verbose=verbose
        )
        results.append(comparisons[first])
        if len(nets) > 1:
            results.append(_transfer(comparisons, made_them(prototypes, nets)))
    if len(nets) > 1:
        distiller, embedder = LGMDistiller(**settings), BackboneEmbedder(**settings)
        gradients = gradient_alignment_matrix(
            {PROTOTYPES: prototypes}, X, y, backbones=nets, distiller=distiller, random_state=0
        )
        some = X[np.random.RandomState(0).permutation(len(X))[:_MOST_COMPARED]]
        n_neighbors = min(_NEIGHBORS, len(some) - 1)
        features = alignment_matrix(
            nets, some, n_neighbors=n_neighbors, embedder=embedder, random_state=0
        )
        results += [gradients, features]
    if verbose:
        print("Now a probe is trained on all images, which tells margins of prototypes.")  # noqa: T201
    results.append(prototype_statistics(prototypes, X, y, **about))
    # The images that prototypes were made of are nearer to them than new ones.
    complete = set(prototypes.classes.tolist()) <= set(judged[1].tolist())
    results.append(suspect_classes(prototypes, *(judged if complete else train), **about))
    return HTMLReport.from_prototypes(prototypes, X, y, results=results, **about)


def _transfer(comparisons: dict[str, SelectionComparison], homes: list[str]) -> TransferMatrix:
    """Return comparisons on several nets as one matrix."""
    records = []
    for name, comparison in comparisons.items():
        for run in comparison.records:
            own = run["selection"].startswith(PROTOTYPES)
            records.append(run | {"backbone": name, "at_home": name in homes if own else None})
    order = list(dict.fromkeys(run["selection"] for run in records))
    records.sort(key=lambda run: (run["at_home"] is None, order.index(run["selection"])))
    return TransferMatrix(with_relative_accuracy(records))


def _read_groups(file: Path, *parts: np.ndarray) -> list[np.ndarray]:
    """Return the groups of images, given by several arrays of paths."""
    groups: dict[Path, str] = {}
    for number, line in read_table(file, ("path", "group")):
        # This path is compared with those of images, and is not opened.
        image = find_file(file.parent, line["path"]).resolve()
        if groups.setdefault(image, line["group"]) != line["group"]:
            raise ValueError(
                f"Line {number} of {file} puts {line['path']} into another group than before."
            )
    check_names(list(groups.values()), str(file))
    images = [[Path(path).resolve() for path in paths] for paths in parts]
    missing = sorted({image for part in images for image in part} - groups.keys())
    if missing:
        others = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ValueError(
            f"{file} has no group of {missing[0]}{others}. Its paths are relative to the file."
        )
    return [np.array([groups[image] for image in part]) for part in images]
