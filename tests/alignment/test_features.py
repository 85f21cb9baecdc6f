"""Mutual neighbours, CKA and their calibration beside formulas written out in float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklgm.alignment import calibrate, linear_cka, mutual_knn
from sklgm.alignment._features import metric_score

METRICS = {"mutual_knn": mutual_knn, "linear_cka": linear_cka}
every = pytest.mark.parametrize("metric", METRICS)


def spaces(n=30, widths=(7, 12), noise=0.5, seed=0):
    """Make two spaces that share some of what they say, off centre and of unequal scales."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 4))
    return [
        3 * common @ rng.normal(size=(4, d)) + noise * rng.normal(size=(n, d)) + rng.normal(size=d)
        for d in widths
    ]


def neighbours_by_hand(A, k):
    found = []
    for i, row in enumerate(A):
        cosines = {
            j: sum(row * other) / np.sqrt(sum(row**2) * sum(other**2))
            for j, other in enumerate(A)
            if j != i
        }
        found.append(set(sorted(cosines, key=cosines.get)[-k:]))
    return found


def mutual_knn_by_hand(A, B, k=10):
    pairs = zip(neighbours_by_hand(A, k), neighbours_by_hand(B, k), strict=True)
    return np.mean([len(a & b) / k for a, b in pairs])


def cka_by_hand(A, B):
    n = len(A)
    centring = np.eye(n) - np.ones((n, n)) / n

    def kernel(features):
        rows = np.array([row / np.sqrt(sum(row**2)) for row in features])
        return rows @ rows.T

    def hsic(K, L):
        return np.trace(K @ centring @ L @ centring)

    K, L = kernel(A), kernel(B)
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


@pytest.mark.parametrize("k", [1, 3, 10, 29])
def test_mutual_neighbours_are_those_of_loops(k):
    A, B = spaces()
    assert_allclose(mutual_knn(A, B, n_neighbors=k), mutual_knn_by_hand(A, B, k))


# More images than features, and fewer.
@pytest.mark.parametrize("widths", [(2, 3), (7, 12), (40, 80), (200, 90)])
def test_cka_is_the_ratio_of_traces(widths):
    A, B = spaces(widths=widths, noise=4)
    assert 0.01 < linear_cka(A, B) < 0.99
    assert_allclose(linear_cka(A, B), cka_by_hand(A, B), rtol=1e-12)


@pytest.mark.parametrize("widths", [(7, 12), (200, 90)])
@every
def test_an_order_of_rows_is_that_of_the_second_space(metric, widths):
    A, B = spaces(widths=widths)
    prepare, compare = metric_score(metric, 5)
    rows = np.random.default_rng(1).permutation(len(A))
    expected = {
        "mutual_knn": mutual_knn_by_hand(A, B[rows], 5),
        "linear_cka": cka_by_hand(A, B[rows]),
    }
    assert_allclose(compare(prepare(A), prepare(B), rows), expected[metric], rtol=1e-12)


@every
def test_rotation_scale_and_common_order_change_nothing(metric):
    score = METRICS[metric]
    A, B = spaces()
    rng = np.random.default_rng(2)
    rotation = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    order = rng.permutation(len(A))
    lengths = rng.uniform(0.1, 10, size=(len(A), 1))
    first = score(A, B)
    for a, b in [
        (B, A),
        (A, B @ rotation),
        (5 * A, 0.01 * B),
        (A[order], B[order]),
        (A, lengths * B),
    ]:
        assert_allclose(score(a, b), first, rtol=1e-10)
    assert not np.isclose(score(A, B[order]), first)


@every
def test_a_space_is_like_itself(metric):
    A, _ = spaces()
    assert_allclose(METRICS[metric](A, A), 1, rtol=1e-12)
    found = calibrate(A, A, metric=metric, n_neighbors=5, random_state=0)
    assert_allclose([found.score, found.calibrated], 1, rtol=1e-12)
    assert_allclose(found.p_value, 1 / 201)


def test_float32_counts_as_float64():
    A, B = (space.astype(np.float32) for space in spaces())
    assert_allclose(linear_cka(A, B), cka_by_hand(A.astype(float), B.astype(float)), rtol=1e-12)
    assert isinstance(mutual_knn(A.tolist(), B), float)


def test_neighbours_by_chance():
    rng = np.random.default_rng(0)
    scores = [mutual_knn(*rng.normal(size=(2, 60, 5)), n_neighbors=6) for _ in range(50)]
    assert_allclose(np.mean(scores), 6 / 59, rtol=0.1)


@pytest.mark.parametrize("width", [3, 30, 300])
@every
def test_unrelated_spaces_of_any_width_are_calibrated_to_nothing(metric, width):
    rng = np.random.default_rng(width)
    found = [
        calibrate(
            *rng.normal(size=(2, 40, width)), metric=metric, n_permutations=60, random_state=i
        )
        for i in range(20)
    ]
    assert np.mean([one.calibrated for one in found]) < 0.01
    assert_allclose(
        np.mean([one.score for one in found]), np.mean([one.null_mean for one in found]), rtol=0.2
    )
    # p-values are spread over (0, 1].
    assert 0.3 < np.mean([one.p_value for one in found]) < 0.7
    if metric == "linear_cka" and width == 300:
        assert min(one.score for one in found) > 0.8


@every
def test_related_spaces_stay_related(metric):
    A, B = spaces()
    found = calibrate(A, B, metric=metric, n_neighbors=5, random_state=0)
    assert found.null_mean < found.threshold < found.score
    assert 0 < found.calibrated < found.score
    assert_allclose(found.p_value, 1 / 201)


def test_calibration_is_by_the_formulas():
    A, B = spaces(noise=20)
    found = calibrate(A, B, metric=cka_by_hand, n_permutations=39, random_state=3)
    rng = np.random.RandomState(3)
    null = [cka_by_hand(A, B[rng.permutation(len(B))]) for _ in range(39)]
    score = cka_by_hand(A, B)
    ordered = sorted([*null, score])
    threshold = ordered[37] + 0.05 * (ordered[38] - ordered[37])  # at 0.95 * 39
    assert_allclose(found.score, score)
    assert_allclose(found.null_mean, np.mean(null))
    assert_allclose(found.threshold, threshold)
    assert_allclose(found.calibrated, max(0, (score - threshold) / (1 - threshold)))
    assert_allclose(found.p_value, (1 + sum(one >= score for one in null)) / 40)
    same = calibrate(A, B, metric="linear_cka", n_permutations=39, random_state=3)
    assert_allclose(list(vars(same).values()), list(vars(found).values()))


def test_permutations_follow_the_seed_alone():
    A, B = spaces(noise=20)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, same, other = (calibrate(A, B, random_state=seed) for seed in (0, 0, 1))
    calibrate(A, B)
    assert first == same
    assert first.null_mean != other.null_mean
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_two_images_tell_nothing():
    found = calibrate(*np.random.default_rng(0).normal(size=(2, 2, 5)), n_neighbors=1)
    assert (found.score, found.calibrated, found.p_value) == (1, 0, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"B": np.ones((29, 3))}, "inconsistent numbers of samples"),
        ({"A": np.ones(30)}, "2D array"),
        ({"A": np.full((30, 2), np.nan)}, "NaN"),
        ({"metric": "cka"}, "metric"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_neighbors": 30}, "n_neighbors"),
        ({"n_neighbors": 2.5}, "n_neighbors"),
        ({"n_permutations": 18}, "n_permutations"),
        ({"n_permutations": 50.0}, "n_permutations"),
        ({"metric": "linear_cka", "A": np.ones((30, 2)) * np.arange(1, 31)[:, None]}, "same way"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(wrong, message):
    A, B = spaces()
    with pytest.raises(ValueError, match=message):
        calibrate(**{"A": A, "B": B, **wrong})
