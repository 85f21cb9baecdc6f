"""Estimators whose pickles say which format they have."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator

# Of the fitted attributes and parameters of every estimator. It grows by one when a pickle of
# before would be misread, and `__setstate__` then brings older ones up to date.
_FORMAT = 1
_KEY = "_sklgm_format"


class PickledEstimator(BaseEstimator):
    """Base of every estimator: a pickle of a later format is refused, not misread."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), _KEY: _FORMAT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        attributes = dict(state)
        version = attributes.pop(_KEY, None)
        if type(version) is not int or not 1 <= version <= _FORMAT:
            raise ValueError(
                f"This pickle of {type(self).__name__} has format {version!r}, but this version of "
                f"sklgm reads formats up to {_FORMAT}. Update sklgm to read it, or fit again."
            )
        super().__setstate__(attributes)
