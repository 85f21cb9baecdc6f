"""A report on a folder of prototypes: runs the protocols that its options ask for."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sklgm.alignment import alignment_matrix, gradient_alignment_matrix
from sklgm.backbones import Backbone
from sklgm.bias import diagnose_bias, suspect_classes
from sklgm.datasets import load_folder
from sklgm.distiller import LGMDistiller
from sklgm.embedder import BackboneEmbedder
from sklgm.evaluation import (
    SelectionComparison,
    TransferMatrix,
    compare_selections,
    prototype_statistics,
)
from sklgm.evaluation._transfer import with_relative_accuracy
from sklgm.probe import FrozenBackboneProbe
from sklgm.prototypes import PrototypeSet
from sklgm.report._html import HTMLReport
from sklgm.selectors import ClassCentroids, RandomImages

# What the rows of comparisons are called.
_OWN = "prototypes"
# Of an image, when feature spaces are compared; fewer where there are not as many images.
_NEIGHBORS = 10
# Images by which feature spaces are compared, at most: neighbours take time with their square.
_MOST_COMPARED = 2000


def report_on_folders(
    prototypes: PrototypeSet,
    train: Path,
    *,
    test: Path | None = None,
    groups: Path | None = None,
    backbones: Sequence[str] = (),
    image_size: int | None = None,
    device: str = "auto",
    n_jobs: int | None = None,
    seeds: int = 5,
    title: str = "Prototypes",
) -> HTMLReport:
    """Compare prototypes with the images of a folder, and write the page.

    Parameters
    ----------
    prototypes : PrototypeSet
        Of images.
    train : Path
        Image folder they were made of, with a subfolder for each class.
    test : Path or None, default=None
        Image folder to score probes on; adds the comparison with real images, and with several
        backbones the transfer matrix.
    groups : Path or None, default=None
        CSV file with columns ``path`` and ``group`` for every image, paths relative to the file;
        adds the section about groups and the accuracy of the worst group. Every class must occur
        in every group among the test images, or without these among the training images.
    backbones : sequence of str, default=()
        Nets to look with. None named is the one the prototypes were made on. Of several, the
        first is for everything that is about one net.
    image_size : int or None, default=None
        Pixels the nets see. None takes the prototypes' for the nets they were made on, and each
        net's own for others.
    device : str, default="auto"
        Where to compute.
    n_jobs : int or None, default=None
        Threads that read images.
    seeds : int, default=5
        Probes of each row.
    title : str, default="Prototypes"
        Heading of the page.

    Returns
    -------
    HTMLReport
        The page.

    Raises
    ------
    ValueError
        If folders, groups and prototypes do not go together, or no backbone is known.
    """
    nets = _nets(prototypes, backbones, image_size)
    names = list(nets)
    images: Any = load_folder(train)
    X, y = images.paths, images.target
    held_out: Any = None if test is None else load_folder(test)
    train_groups = test_groups = None
    if groups is not None:
        of_group = _read_groups(groups)
        train_groups = _groups_of(X, of_group, groups)
        if held_out is not None:
            test_groups = _groups_of(held_out.paths, of_group, groups)

    with TemporaryDirectory() as memory:
        settings: dict[str, Any] = {"device": device, "n_jobs": n_jobs, "memory": memory}
        probe = FrozenBackboneProbe(nets[names[0]], **settings)
        about: dict[str, Any] = {"backbone": nets[names[0]], "probe": probe}
        results: list[Any] = []
        bias = None
        if train_groups is not None:
            # First, since it asks most of the data. Readers must not be trained where class and
            # group go together.
            reference: Any = (X, y, train_groups)
            if held_out is not None:
                reference = (held_out.paths, held_out.target, test_groups)
            bias = diagnose_bias(prototypes, X, y, train_groups, reference=reference, **about)
        if held_out is not None:
            few = int(np.unique(prototypes.labels, return_counts=True)[1].min())
            comparisons = {}
            for name, net in nets.items():
                real = {"prototypes_per_class": few, **settings}
                comparisons[name] = compare_selections(
                    X,
                    y,
                    held_out.paths,
                    held_out.target,
                    backbone=net,
                    selections={
                        "random": RandomImages(net, **real),
                        "centroid": ClassCentroids(net, **real, random_state=0),
                        _OWN: prototypes,
                        "all": None,
                    },
                    probe=probe,
                    probe_seeds=seeds,
                    groups=test_groups,
                )
            results.append(comparisons[names[0]])
            if len(names) > 1:
                results.append(_transfer(comparisons, _homes(prototypes)))
        if len(names) > 1:
            gradients = gradient_alignment_matrix(
                {_OWN: prototypes},
                X,
                y,
                backbones=nets,
                distiller=LGMDistiller(**settings),
                random_state=0,
            )
            some = np.random.RandomState(0).permutation(len(X))[:_MOST_COMPARED]
            features = alignment_matrix(
                nets,
                X[some],
                n_neighbors=min(_NEIGHBORS, len(some) - 1),
                embedder=BackboneEmbedder(**settings),
                random_state=0,
            )
            results += [gradients, features]
        results.append(prototype_statistics(prototypes, X, y, **about))
        results.append(suspect_classes(prototypes, X, y, **about))
        if bias is not None:
            results.append(bias)
        return HTMLReport.from_prototypes(prototypes, X, y, results=results, title=title, **about)


def _homes(prototypes: PrototypeSet) -> list[str]:
    """Return names of the nets that prototypes were made on."""
    known = _parameters(prototypes).get("backbone")
    names = known if isinstance(known, list) else [known]
    return [name for name in names if isinstance(name, str) and name]


def _parameters(prototypes: PrototypeSet) -> dict[str, Any]:
    found = prototypes.provenance.get("parameters")
    return found if isinstance(found, dict) else {}


def _nets(
    prototypes: PrototypeSet, backbones: Sequence[str], image_size: int | None
) -> dict[str, Backbone]:
    """Return the nets by name, each at the size that it is to see."""
    homes = _homes(prototypes)
    names = list(dict.fromkeys(backbones)) or homes
    if not names:
        raise ValueError(
            "The prototypes do not tell which net they were made on. Name one with --backbone."
        )
    # A card may be somebody else's: no file or repository of their choice is opened.
    places = [name for name in names if re.search("@|^(hf-hub|local-dir):", name)]
    if places and not backbones:
        raise ValueError(
            f"The prototypes say that they were made on {places[0]!r}. Weights in a file or a "
            f"repository are only loaded when asked for: name the net with --backbone."
        )
    own = _parameters(prototypes).get("image_size")
    # Nets see no more than what prototypes have: other numbers are no sizes.
    if type(own) is not int or not 0 < own <= max(prototypes.images.shape[1:3]):
        own = None
    return {
        name: Backbone.from_name(name, image_size=image_size or (own if name in homes else None))
        for name in names
    }


def _transfer(comparisons: dict[str, SelectionComparison], homes: list[str]) -> TransferMatrix:
    """Return comparisons on several nets as one matrix."""
    records = []
    for name, comparison in comparisons.items():
        for run in comparison.records:
            own = run["selection"] == _OWN
            records.append(run | {"backbone": name, "at_home": name in homes if own else None})
    order = [_OWN, "random", "centroid", "all"]
    records.sort(key=lambda run: order.index(run["selection"]))
    return TransferMatrix(with_relative_accuracy(records))


def _read_groups(path: Path) -> dict[Path, str]:
    """Return the group of each image, by its full path."""
    found: dict[Path, str] = {}
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"There is no file {path}. Pass a CSV file with columns path and group.")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        lines = [(reader.line_num, line) for line in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}. Save it as such.") from error
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}. Save it as such.") from error
    missing = {"path", "group"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(
            f"{path} has no column {' and '.join(sorted(missing))}. Its first line must name path "
            f"and group."
        )
    for number, line in lines:
        if not line["path"] or not line["group"] or "\0" in line["path"]:
            raise ValueError(
                f"Line {number} of {path} has no path or no group. Give both, or leave the line "
                f"out."
            )
        # Which is compared with those of images, and not opened.
        image = (path.parent / line["path"]).resolve()
        if found.setdefault(image, line["group"]) != line["group"]:
            raise ValueError(
                f"Line {number} of {path} puts {line['path']} into {line['group']!r}, an "
                f"earlier one into {found[image]!r}. Leave one out."
            )
    return found


def _groups_of(paths: np.ndarray, of_group: dict[Path, str], file: Path | None) -> np.ndarray:
    resolved = [Path(path).resolve() for path in paths]
    unknown = [path for path in resolved if path not in of_group]
    if unknown:
        raise ValueError(
            f"{file} has no group of {unknown[0]}, nor of {len(unknown) - 1} other images. Add a "
            f"line for each image; paths are relative to the file."
        )
    return np.array([of_group[path] for path in resolved])
