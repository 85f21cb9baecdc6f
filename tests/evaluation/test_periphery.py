import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    PrototypeSet,
    RandomImages,
)
from sklgm.evaluation import PrototypeStatistics, prototype_statistics
from tests.evaluation.toys import NET, OTHER, X_TEST, Y_TEST, X, Y, distiller

ROWS_PROBE = FrozenBackboneProbe(backbone=None, head=LogisticRegression())
PROBE = FrozenBackboneProbe(head=LogisticRegression(), n_views=2, random_state=0)


def gaussian_rows(n=4000, seed=0):
    """Make two classes of independent columns with known means and deviations."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["a", "b"], n)
    rows = rng.normal(size=(2 * n, 3)) * [1.0, 2.0, 0.5]
    rows[n:] += [10, 0, 0]
    return rows, y


def test_z_scores_of_a_known_distribution():
    rows, y = gaussian_rows()
    points = [[3, 0, 0], [0, 6, 0], [0, 0, 1], [0, 0, 0.001], [10, 0, -2]]
    found = prototype_statistics(
        PrototypeSet(points, list("aaaab")), rows, y, probe=ROWS_PROBE
    ).records
    expected = [3, 3, 2, 0, 4]
    np.testing.assert_allclose([r["z_score"] for r in found], expected, atol=0.15)
    np.testing.assert_allclose([r["distance"] for r in found], [3, 6, 1, 0, 2], atol=0.1)
    # Of a point in the middle, no real image is nearer.
    assert found[3]["percentile"] < 1
    # Distances from the mean by an independent draw of the same distribution.
    radii = np.linalg.norm(np.random.default_rng(9).normal(size=(20000, 3)) * [1, 2, 0.5], axis=1)
    for record, distance in zip(found[:3], (3, 6, 1), strict=True):
        nearer = stats.percentileofscore(radii, distance)
        assert record["percentile"] == pytest.approx(nearer, abs=2)


def test_margins_are_those_of_the_full_data_probe():
    rows, y = gaussian_rows(n=50)
    points = np.array([[0, 0, 0], [10, 0, 0], [9, 0, 0], [1, 0, 0]], dtype=np.float32)
    labels = np.array(list("abab"))
    found = prototype_statistics(PrototypeSet(points, labels), rows, y, probe=ROWS_PROBE)
    score = LogisticRegression().fit(rows.astype(np.float32), y).decision_function(points)
    expected = np.where(labels == "b", score, -score)
    np.testing.assert_allclose([r["margin"] for r in found.records], expected, rtol=1e-5)
    assert [r["margin"] > 0 for r in found.records] == [True, True, False, False]


def test_margins_of_the_default_head_are_differences_of_logits():
    fitted = distiller(random_state=0).fit(X, Y)
    settings = FrozenBackboneProbe(n_views=2, max_epochs=5, random_state=0)
    found = prototype_statistics(fitted, X_TEST, Y_TEST, probe=settings)
    probe = FrozenBackboneProbe(NET, n_views=2, max_epochs=5, random_state=0).fit(X_TEST, Y_TEST)
    linear = probe.head_.module_
    logits = fitted.prototype_features_ @ linear.weight.detach().numpy().T
    logits += linear.bias.detach().numpy()
    for i, record in enumerate(found.records):
        margin = logits[i, i] - np.delete(logits[i], i).max()
        assert record["margin"] == pytest.approx(margin, abs=1e-4)


def test_percentile_and_distance_of_images():
    chosen = RandomImages(NET, random_state=0).fit(X, Y)
    found = prototype_statistics(chosen, X_TEST, Y_TEST, probe=PROBE)
    features = BackboneEmbedder(NET).fit_transform(X_TEST)
    for record, label, point in zip(found.records, "abc", chosen.prototype_features_, strict=True):
        real = features[label == Y_TEST]
        radii = np.linalg.norm(real - real.mean(axis=0), axis=1)
        distance = np.linalg.norm(point - real.mean(axis=0))
        assert record["class"] == label
        assert record["n_images"] == len(real)
        assert record["distance"] == pytest.approx(distance, rel=1e-5)
        assert record["percentile"] == stats.percentileofscore(radii, distance)


def test_an_estimator_and_its_set_give_the_same():
    fitted = ClassCentroids(NET, prototypes_per_class=2, random_state=0).fit(X, Y)
    expected = prototype_statistics(fitted, X_TEST, Y_TEST, probe=PROBE)
    kept = PrototypeSet.from_estimator(fitted)
    found = prototype_statistics(kept, X_TEST, Y_TEST, backbone=NET, probe=PROBE)
    assert found.records == expected.records
    elsewhere = prototype_statistics(fitted, X_TEST, Y_TEST, backbone=OTHER, probe=PROBE)
    assert elsewhere.records != expected.records


def test_of_several_backbones_the_first_looks():
    fitted = distiller([NET, OTHER], random_state=0).fit(X, Y)
    found = prototype_statistics(fitted, X_TEST, Y_TEST, probe=PROBE)
    expected = prototype_statistics(fitted, X_TEST, Y_TEST, backbone=NET, probe=PROBE)
    assert found.records == expected.records


def test_estimators_that_hold_another():
    fitted = distiller(random_state=0).fit(X, Y)
    expected = prototype_statistics(fitted, X_TEST, Y_TEST, probe=PROBE)
    frozen = FrozenEstimator(fitted)
    assert prototype_statistics(frozen, X_TEST, Y_TEST, probe=PROBE).records == expected.records
    nearest = NearestImages(frozen).fit(X, Y)
    found = prototype_statistics(nearest, X_TEST, Y_TEST, probe=PROBE)
    kept = PrototypeSet.from_estimator(nearest)
    assert (
        found.records
        == prototype_statistics(kept, X_TEST, Y_TEST, backbone=NET, probe=PROBE).records
    )


def test_tables():
    rows, y = gaussian_rows(n=20)
    found = prototype_statistics(
        PrototypeSet([[1, 0, 0], [0, 3, 0], [9, 0, 1]], list("aab")), rows, y, probe=ROWS_PROBE
    )
    assert isinstance(found, PrototypeStatistics)
    lines = found.to_markdown().splitlines()
    assert len(lines) == 2 + 3 + 1
    titles = "| class | images | distance | z-score | percentile | margin |"
    assert " ".join(lines[0].split()) == titles
    mean = np.mean([r["z_score"] for r in found.records])
    assert f"{mean:.2f}" in lines[-1]
    assert found.summary()["z_score"] == pytest.approx(mean)
    assert found.to_frame()["prototype"].tolist() == [0, 1, 2]
    assert "PrototypeStatistics" in repr(found)
    assert "<table>" in found._repr_html_()


def test_a_class_without_spread():
    rows = np.array([[0.0, 0], [0, 0], [4, 0], [6, 0]])
    found = prototype_statistics(
        PrototypeSet([[0, 0], [1, 0], [5, 0]], [0, 0, 1]), rows, [0, 0, 1, 1], probe=ROWS_PROBE
    ).records
    assert [r["z_score"] for r in found] == [0, np.inf, 0]
    assert [r["percentile"] for r in found] == [50, 100, 0]


def test_a_class_of_one_image():
    points = PrototypeSet([[1, 0], [5, 0]], [0, 1])
    found = prototype_statistics(points, [[0, 0], [4, 0], [6, 0]], [0, 1, 1], probe=ROWS_PROBE)
    alone, _ = found.records
    assert (alone["distance"], alone["percentile"]) == (1, 100)
    assert np.isnan([alone["spread"], alone["z_score"]]).all()


@pytest.mark.parametrize(
    ("prototypes", "params", "message"),
    [
        (
            PrototypeSet(np.zeros((1, 8, 8, 3)), ["a"]),
            {},
            "do not tell which net .* pass backbone=",
        ),
        (PrototypeSet(np.zeros((1, 4)), ["a"]), {"backbone": NET}, "Prototypes are rows"),
        (PrototypeSet(np.zeros((1, 8, 8, 3)), ["z"]), {"backbone": NET}, r"include \['z'\]"),
        ("clip", {}, "clip is not an estimator"),
        (LogisticRegression().fit([[0], [1]], [0, 1]), {}, "LogisticRegression has no prototypes_"),
        (PrototypeSet(np.zeros((1, 8, 8, 3)), ["a"]), {"backbone": NET, "probe": 3}, "probe must"),
    ],
)
def test_errors(prototypes, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        prototype_statistics(prototypes, X_TEST, Y_TEST, **{"probe": PROBE, **params})


def test_more_errors():
    with pytest.raises(NotFittedError):
        prototype_statistics(LGMDistiller(NET), X, Y)
    kept = PrototypeSet(np.zeros((1, 8, 8, 3)), ["a"])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        prototype_statistics(kept, X_TEST, Y_TEST[:-1], backbone=NET, probe=PROBE)
