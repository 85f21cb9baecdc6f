"""Spawrious: dogs in places that go with their breed, as paths and labels."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

_BREEDS = ("bulldog", "corgi", "dachshund", "labrador")
_LOCATIONS = ("beach", "desert", "dirt", "jungle", "mountain", "snow")
# For bulldog, dachshund, labrador and corgi: the places of training, those of the test, and the
# place that all breeds share in training. Two breeds share two places in the many-to-many sets.
_ORDER = ("bulldog", "dachshund", "labrador", "corgi")
_CHALLENGES: dict[str, tuple[str, str, str]] = {
    "o2o_easy": ("desert jungle dirt snow", "dirt snow desert jungle", "beach"),
    "o2o_medium": ("mountain beach dirt jungle", "jungle dirt beach snow", "desert"),
    "o2o_hard": ("jungle mountain snow desert", "mountain snow desert jungle", "beach"),
    "m2m_easy": ("desert mountain dirt jungle", "dirt jungle mountain desert", ""),
    "m2m_medium": ("beach snow mountain desert", "desert mountain beach snow", ""),
    "m2m_hard": ("dirt jungle snow beach", "snow beach dirt jungle", ""),
}
# Pictures of a breed in a place, of which the two training environments of the one-to-one sets
# take these shares from the breed's own place and the rest from the shared one.
_PER_FOLDER = 3168
_SHARES = {"0": 0.97, "1": 0.87}


def load_spawrious(
    root: str | os.PathLike[str],
    *,
    challenge: str = "o2o_easy",
    subset: str = "train",
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray, NDArray]:
    """List the pictures of a Spawrious challenge in the layout it is published in.

    That is ``spawrious224/ENVIRONMENT/LOCATION/BREED/*.png``, with the environments 0 and 1. In the
    one-to-one challenges ("o2o") a breed is nearly always in one place during training, and in
    another one in the test; in the many-to-many ones ("m2m"), whose pictures are those of
    environment 0, two breeds share two places, and change them for two others. No file is opened,
    and nothing is downloaded: Spawrious [1]_ is linked from https://github.com/aengusl/spawrious.

    Parameters
    ----------
    root : str or Path
        The folder that holds ``spawrious224``.
    challenge : {"o2o_easy", "o2o_medium", "o2o_hard", "m2m_easy", "m2m_medium", "m2m_hard"}, \
            default="o2o_easy"
        The rule by which breeds go with places.
    subset : {"train", "test"}, default="train"
        Both training environments, or the test.
    return_X_y : bool, default=False
        Return ``(paths, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        With the attributes

        paths : ndarray of shape (n_samples,), dtype object
            The paths, as str. Of a folder that is taken in part, the first by name.
        target : ndarray of shape (n_samples,), dtype int64
            Index of the breed in ``target_names``.
        groups : ndarray of shape (n_samples,), dtype int64
            Index of the place in ``group_names``.
        environments : ndarray of shape (n_samples,), dtype int64
            0 or 1.
        target_names : ndarray of shape (4,), dtype str
            bulldog, corgi, dachshund, labrador.
        group_names : ndarray of shape (6,), dtype str
            beach, desert, dirt, jungle, mountain, snow.

    Raises
    ------
    ValueError
        If a parameter is unknown, or folders or pictures are missing.

    References
    ----------
    .. [1] A. Lynch, G. J.-S. Dovonon, J. Kaddour, R. Silva, "Spawrious: A Benchmark for Fine
       Control of Spurious Correlation Biases", 2023.
    """
    if challenge not in tuple(_CHALLENGES):
        raise ValueError(f"challenge must be one of {', '.join(_CHALLENGES)}; got {challenge!r}.")
    if subset not in ("train", "test"):
        raise ValueError(f"subset must be 'train' or 'test'; got {subset!r}.")
    paths: list[str] = []
    labels: list[tuple[int, int, int]] = []
    for environment, location, breed, most in _parts(challenge, subset):
        folder = Path(root) / "spawrious224" / environment / location / breed
        found = sorted(str(file) for file in folder.glob("*.png"))[:most]
        if not found:
            raise ValueError(
                f"{str(folder)!r} is missing or holds no pictures. Pass the folder that holds "
                f"spawrious224, of the data set from https://github.com/aengusl/spawrious."
            )
        paths += found
        label = int(environment), _LOCATIONS.index(location), _BREEDS.index(breed)
        labels += [label] * len(found)
    environments, groups, target = np.array(labels, dtype=np.int64).T.copy()
    X = np.array(paths, dtype=object)
    if return_X_y:
        return X, target
    return Bunch(
        paths=X,
        target=target,
        groups=groups,
        environments=environments,
        target_names=np.array(_BREEDS),
        group_names=np.array(_LOCATIONS),
    )


def _parts(challenge: str, subset: str) -> list[tuple[str, str, str, int]]:
    """Return the folders of a subset, each with the number of pictures to take of it."""
    train, test, shared = _CHALLENGES[challenge]
    places = (train if subset == "train" else test).split()
    if not shared:
        pairs = zip(_ORDER, [places[:2], places[:2], places[2:], places[2:]], strict=True)
        return [("0", place, breed, _PER_FOLDER) for breed, pair in pairs for place in pair]
    parts: list[tuple[str, str, str, int]] = []
    for environment, share in _SHARES.items():
        own = int(share * _PER_FOLDER) if subset == "train" else _PER_FOLDER
        own_places = zip(places, _ORDER, strict=True)
        parts += [(environment, place, breed, own) for place, breed in own_places]
        if own < _PER_FOLDER:
            parts += [(environment, shared, breed, _PER_FOLDER - own) for breed in _ORDER]
    return parts
