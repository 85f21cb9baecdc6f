"""Linear discriminant analysis, against scikit-learn's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sklgm.matching.discriminant import (
    discriminant_head,
    discriminant_probabilities,
)


def moments(X, y):
    """Return class means and the mean over classes of their covariance."""
    of_class = [X[y == c] for c in np.unique(y)]
    means = np.stack([rows.mean(axis=0) for rows in of_class])
    return means, np.mean([np.atleast_2d(np.cov(rows.T, ddof=0)) for rows in of_class], axis=0)


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_it_is_scikit_learns_with_equal_priors(load):
    """Classes of wine have unlike sizes."""
    X, y = load(return_X_y=True)
    # scikit-learn's .5 S + .5 trace(S) / d I is half of ours.
    priors = np.full(3, 1 / 3)
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=priors, shrinkage=0.5).fit(X, y)
    means, covariance = moments(X, y)
    assert_allclose(means, reference.means_, rtol=1e-10)
    coef, intercept = discriminant_head(means, covariance)
    # What is added to all classes alike changes nothing.
    assert_allclose(2 * coef, reference.coef_ - reference.coef_.mean(axis=0), rtol=1e-6)
    found = discriminant_probabilities(X, 2 * coef, 2 * intercept)
    assert_allclose(found, reference.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("value", [0, 1, 1e6, 1e9])
def test_a_feature_that_is_the_same_everywhere_only_counts_as_one(value):
    X, y = load_iris(return_X_y=True)
    means, covariance = moments(X, y)
    shrunk = covariance + np.trace(covariance) / 5 * np.eye(4)
    expected = np.linalg.solve(shrunk, (means - means.mean(axis=0)).T).T
    means, covariance = moments(np.c_[X, np.full(len(X), value)], y)
    covariance[-1, -1] += 1e-16 * value**2  # as rounding may leave it
    coef, _ = discriminant_head(means, covariance)
    assert_allclose(coef[:, :-1], expected, rtol=1e-10)
    assert_allclose(coef[:, -1], 0, atol=1e-15)


def test_a_covariance_may_be_singular():
    """Fewer images than features, and a feature that is the same everywhere."""
    X, y = load_wine(return_X_y=True)
    few = np.r_[0:2, 60:62, 140:142]
    X, y = np.c_[X[few], np.ones(6)], y[few]
    coef, intercept = discriminant_head(*moments(X, y))
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(3, 1 / 3), shrinkage=0.5)
    expected = reference.fit(X, y).predict_proba(X)
    assert_allclose(discriminant_probabilities(X, 2 * coef, 2 * intercept), expected, atol=1e-8)


@pytest.mark.parametrize("n_copies", [1, 7])
@pytest.mark.parametrize("shift", [0, 0.1, 1e4])
@pytest.mark.parametrize("rounded", [-1e-17, 0, 1e-17])
def test_without_spread_the_nearest_mean_decides(n_copies, shift, rounded):
    """Whatever of the covariance is left by rounding."""
    points = np.random.default_rng(0).normal(size=(4, 5)) + shift
    X, y = np.repeat(points, n_copies, axis=0), np.repeat(np.arange(4), n_copies)
    means, covariance = moments(X, y)
    head = discriminant_head(means, covariance + rounded * (1 + shift**2) * np.eye(5))
    assert_array_equal(discriminant_probabilities(X, *head), np.eye(4)[y])
    between = 0.4 * points[:1] + 0.6 * points[1:2]
    expected = np.linalg.norm(between - points, axis=1).argmin()
    assert_array_equal(discriminant_probabilities(between, *head)[0], np.eye(4)[expected])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e15])
def test_of_equal_images_all_classes_are_as_likely(value):
    X = np.full((6, 3), value)
    head = discriminant_head(*moments(X, np.arange(6) // 2))
    assert_array_equal(discriminant_probabilities(X, *head), np.full((6, 3), 1 / 3))


def test_scores_of_any_size():
    huge = np.array([[1e200, -1e200], [-1e200, 1e200]])
    found = discriminant_probabilities(huge, np.eye(2) * 1e90, np.zeros(2))
    assert_array_equal(found, np.eye(2))
