"""Prototypes as data: images or rows, their labels, and where they came from."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklgm.prototypes.folder import check_target, read_folder, write_folder
from sklgm.prototypes.hub import local_folder, push_folder
from sklgm.prototypes.provenance import describe
from sklgm.utils.pictures import picture_strip
from sklgm.utils.targets import check_labels


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeSet:
    """Prototypes with their labels and provenance, to keep, share and load again.

    Parameters
    ----------
    images : array-like of shape (n_prototypes, height, width, 3) or (n_prototypes, n_features)
        Images with values in [0, 1], or feature rows (made with ``backbone=None``) with any finite
        values. Kept as a read-only copy in float32.
    labels : array-like of shape (n_prototypes,)
        Class labels: all integers, all strings, all booleans or all floats. Kept as a read-only
        copy.
    provenance : dict, default={}
        How the prototypes were made. It holds JSON values only: None, booleans, finite numbers,
        strings, lists, and dicts with string keys.
    probabilities : array-like of shape (n_prototypes, n_classes) or None, default=None
        Soft labels: the probabilities of the classes in `classes`, which sum to 1 within .001. Kept
        as a read-only copy in float32.

    Raises
    ------
    ValueError or TypeError
        If shapes, values, labels, provenance or probabilities are not as described above.

    See Also
    --------
    sklgm.LGMDistiller : Makes prototypes.
    sklgm.plotting.PrototypesDisplay : Draws them.

    Notes
    -----
    :meth:`save` writes a folder::

        card.json               labels, provenance, sizes and a checksum
        prototypes.safetensors  the exact floats: images and, where there are, probabilities
        images/CLASS/ROW.png    the same as 8-bit pictures (not for feature rows)
        README.md               the card for people, and for the Hugging Face Hub

    The pictures are for other tools. ``torchvision.datasets.ImageFolder`` reads the ``images``
    folder, Hugging Face ``load_dataset`` the folder itself; ``ROW`` is the prototype's position in
    `images`. :meth:`load` does not look at them, nor at the README. Eight bits cost a probe
    nothing that could be measured: .0003 and .0006 of accuracy on OpenMoji and digits, with a
    standard error of .0005.

    Examples
    --------
    >>> import numpy as np
    >>> from sklgm import PrototypeSet
    >>> PrototypeSet(np.zeros((2, 8, 8, 3)), ["cat", "dog"])
    PrototypeSet(n_prototypes=2, n_classes=2, image_shape=(8, 8, 3))
    """

    images: np.ndarray
    labels: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)
    probabilities: np.ndarray | None = None

    def __post_init__(self) -> None:
        images = _check_images(self.images)
        labels = np.array(check_labels(self.labels, "labels"))
        check_consistent_length(images, labels)
        if not isinstance(self.provenance, dict):
            raise ValueError(f"provenance must be a dict; got {self.provenance!r}.")
        provenance = json.loads(json.dumps(self.provenance, allow_nan=False))
        vars(self).update(images=images, labels=labels, provenance=provenance)
        if self.probabilities is not None:
            probabilities = _check_probabilities(self.probabilities, len(images), self.classes)
            vars(self).update(probabilities=probabilities)
            probabilities.setflags(write=False)
        images.setflags(write=False)
        labels.setflags(write=False)

    @classmethod
    def from_estimator(cls, estimator: Any, *, data: dict[str, Any] | None = None) -> PrototypeSet:
        """Take the prototypes of a fitted distiller or selector.

        Parameters
        ----------
        estimator : estimator
            Anything fitted with ``prototypes_`` and ``prototype_labels_``, perhaps with
            ``prototype_probabilities_``.
        data : dict or None, default=None
            Facts about the data they were made of, such as its ``name`` and ``license``, which
            are kept as ``provenance["data"]``.

        Returns
        -------
        PrototypeSet
            Its provenance holds the estimator's class, parameters (what JSON cannot hold as its
            ``repr``), ``n_iter`` if it has ``n_iter_``, and the versions of the packages involved.
            ``memory``, ``distributed``, ``n_jobs``, ``device`` and ``verbose`` are left out: they
            belong to the machine. Of each net that was given as a `Backbone`, a file, a folder or
            a name with options, ``preprocessing`` says how images are prepared, in the words of
            `BackboneSpec`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `estimator` is not fitted.
        ValueError or TypeError
            If it has no ``prototypes_``, is no estimator, or `data` is not JSON.
        """
        check_has_prototypes(estimator)
        soft = getattr(estimator, "prototype_probabilities_", None)
        made = estimator.prototypes_, estimator.prototype_labels_
        return cls(*made, describe(estimator, data), soft)

    @property
    def classes(self) -> np.ndarray:
        """The distinct labels, sorted: ndarray of shape (n_classes,)."""
        return np.unique(self.labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Any) -> NoReturn:
        # Asked for where a set is taken for an array of samples, by scikit-learn too.
        raise TypeError(
            "A PrototypeSet is no array of samples: only FrozenBackboneProbe.fit takes it as X. "
            "Pass set.images and set.labels."
        )

    def __repr__(self) -> str:
        kind = "image_shape" if self.images.ndim == 4 else "row_shape"
        soft = "" if self.probabilities is None else ", soft_labels=True"
        return (
            f"{type(self).__name__}(n_prototypes={len(self)}, n_classes={len(self.classes)}, "
            f"{kind}={self.images.shape[1:]}{soft})"
        )

    def _repr_html_(self) -> str:
        head = f"<div>{html.escape(repr(self))}</div>"
        return head if self.images.ndim == 2 else head + picture_strip(self.images, self.labels)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write the prototypes as a folder.

        The folder appears complete or not at all: it is written under another name beside its
        place and then renamed.

        Parameters
        ----------
        directory : str or Path
            The folder to make, with its parents. An empty one may exist already.
        overwrite : bool, default=False
            Replace prototypes saved there before. Other files in that folder stay.

        Raises
        ------
        FileExistsError
            If `directory` is not empty and `overwrite` is False.
        ValueError
            If it is a mounted disk, or is to be overwritten and holds something else than
            prototypes.
        OSError
            If nothing can be written there, which is tried before; so `directory` may be no file.
        """
        check_target(directory, overwrite=overwrite)
        write_folder(Path(directory), self)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
    ) -> Any:
        """Publish the prototypes as a dataset repository of the Hugging Face Hub.

        The repository is made if there is none. Prototypes that were there are replaced, other
        files stay. Say in the data's ``license`` (see :meth:`from_estimator`) what others may do.

        Parameters
        ----------
        repo_id : str
            Its name, "OWNER/NAME".
        private : bool or None, default=None
            Whether a new repository is private. None is the default of the owner.
        token : str, bool or None, default=None
            As `huggingface_hub` takes it. None is the token of ``huggingface_hub.login()``.
        revision : str or None, default=None
            Branch to write to, made if there is none. None is "main".
        commit_message : str or None, default=None
            Title of the commit.

        Returns
        -------
        huggingface_hub.CommitInfo
            The commit: its address is ``commit_url``, and ``oid`` is its revision for :meth:`load`.

        Raises
        ------
        ValueError
            If the name cannot be one, or the repository holds something else.
        huggingface_hub.errors.HTTPError
            If you are not logged in, may not write, or the hub cannot be reached.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            return push_folder(folder, repo_id, private, token, revision, commit_message)

    @classmethod
    def load(cls, directory: str | Path) -> PrototypeSet:
        """Read a folder written by :meth:`save`, or what :meth:`push_to_hub` published.

        Parameters
        ----------
        directory : str or Path
            The folder with ``card.json`` in it; or "hf://datasets/OWNER/NAME" for a repository of
            the Hugging Face Hub, perhaps with "@REVISION" behind it: a branch, a tag or a commit.
            It is downloaded to the cache once, without the pictures, and read from there when the
            hub cannot be reached.

        Returns
        -------
        PrototypeSet
            Equal to the saved one bit by bit, labels with their type.

        Raises
        ------
        ValueError
            If a file is missing, damaged, does not fit the card, or was written in a newer format.
        OSError
            If the hub has no such repository, or it is neither in the cache nor can be reached.
        """
        return cls(*read_folder(local_folder(directory)))


def check_has_prototypes(estimator: Any) -> None:
    """Raise unless an estimator is fitted and has prototypes."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "prototypes_"):
        raise ValueError(
            f"{type(estimator).__name__} has no prototypes_. Pass a fitted distiller or selector, "
            f"such as the distiller_ of a probe."
        )


def _check_probabilities(given: Any, n_prototypes: int, classes: np.ndarray) -> np.ndarray:
    probabilities = np.array(given, dtype=np.float32, order="C")
    shape = n_prototypes, len(classes)
    if probabilities.shape != shape:
        raise ValueError(
            f"probabilities must be of shape (n_prototypes, n_classes), which is {shape}: a row a "
            f"prototype, a column for each class that has one; got {probabilities.shape}."
        )
    # A sum that is NaN is not within, either.
    if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-3):
        raise ValueError(
            "probabilities must be finite and not negative, and each row must sum to 1 within "
            ".001. Divide each row by its sum."
        )
    return probabilities


def _check_images(images: Any) -> np.ndarray:
    images = np.array(images, dtype=np.float32, order="C")
    is_pictures = images.ndim == 4 and images.shape[3] == 3
    if not (is_pictures or images.ndim == 2) or 0 in images.shape:
        raise ValueError(
            "Prototypes are images of shape (n, height, width, 3) or rows of shape (n, n_features),"
            f" none of these sizes 0; got shape {images.shape}."
        )
    if not np.isfinite(images).all():
        raise ValueError("Prototypes contain NaN or infinite values.")
    if is_pictures and (images.min() < 0 or images.max() > 1):
        raise ValueError(
            f"Images must have values in [0, 1]; got {images.min():.4g} to {images.max():.4g}."
        )
    return images
