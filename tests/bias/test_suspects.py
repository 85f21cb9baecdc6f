import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from sklgm import ClassCentroids, FrozenBackboneProbe, PrototypeSet, RandomImages
from sklgm.bias import SuspectClasses, suspect_classes
from tests.bias.toys import BORDER, CLASSES, draw
from tests.tiny_backbones import tiny_backbone


def rows(n=60, seed=0):
    """Make four classes on lines from the origin, "b" and "c" close to each other."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(list("abcd"), n))
    directions = {"a": [1, 0, 0], "b": [0, 1, 0.2], "c": [0, 1, -0.2], "d": [-0.2, 0, 1]}
    X = np.array([directions[label] for label in y])
    return X + rng.normal(scale=0.3, size=(4 * n, 3)), y


def test_suspicion_is_an_area_under_the_curve():
    X, y = rows()
    prototypes = PrototypeSet([[1, 0.5, 0], [0, 1, -0.3], [0.1, 1, 0.3], [0, 0, 1]], list("abcd"))
    found = {record["class"]: record for record in suspect_classes(prototypes, X, y).records}
    similarities = cosine_similarity(prototypes.images, X)
    for i, label in enumerate("abcd"):
        areas = {
            other: roc_auc_score(y[pair] == other, similarities[i, pair])
            for other in "abcd" if other != label
            for pair in [(y == label) | (y == other)]
        }  # fmt: skip
        worst = max(areas, key=areas.get)
        assert found[label]["suspicion"] == pytest.approx(areas[worst])
        assert found[label]["nearest_class"] == worst


def test_the_most_suspect_come_first():
    X, y = rows()
    # The prototype of "b" lies on the side of "c"; that of "a" is right.
    prototypes = PrototypeSet([[1, 0, 0], [0, 1, -0.3], [0, 1, -0.2], [0, 0, 1]], list("abcd"))
    result = suspect_classes(prototypes, X, y)
    assert isinstance(result, SuspectClasses)
    first = result.records[0]
    assert (first["class"], first["nearest_class"]) == ("b", "c")
    assert first["suspicion"] > 0.5 > result.records[-1]["suspicion"]
    suspicions = [record["suspicion"] for record in result.records]
    assert suspicions == sorted(suspicions, reverse=True)
    assert result.to_markdown().splitlines()[2].split()[1] == "b"
    assert "SuspectClasses" in repr(result)


def test_of_several_prototypes_the_mean_counts():
    X, y = rows()
    good, bad = [0, 1, 0.3], [0, 1, -0.3]
    each = [
        suspect_classes(PrototypeSet([p, [1, 0, 0]], ["b", "a"]), X[y != "d"], y[y != "d"])
        for p in (good, bad)
    ]
    both = suspect_classes(PrototypeSet([good, bad, [1, 0, 0]], list("bba")), X, y).records
    found = next(record for record in both if record["class"] == "b")
    suspicions = [
        next(r["suspicion"] for r in result.records if r["class"] == "b") for result in each
    ]
    assert found["suspicion"] == pytest.approx(np.mean(suspicions))
    assert found["n_prototypes"] == 2


def test_ties_count_half():
    X = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    found = suspect_classes(PrototypeSet([[1, 0], [0, 1]], [0, 1]), X, [0, 0, 1, 1]).records
    assert {r["class"]: r["suspicion"] for r in found} == {0: 0.25, 1: 0.25}


def test_a_shared_background_makes_suspect():
    y = np.repeat([0, 1, 2], 20)
    X, _ = draw(y, np.array([0, 0, 2])[y])  # blue and green both on dark
    chosen = RandomImages(BORDER, random_state=0).fit(X, CLASSES[y])
    found = {r["class"]: r for r in suspect_classes(chosen, X, CLASSES[y]).records}
    for label, other in (("blue", "green"), ("green", "blue")):
        assert found[label]["suspicion"] > 0.2
        assert found[label]["nearest_class"] == other
    assert found["red"]["suspicion"] == 0


def test_sets_of_images_need_a_backbone():
    y = np.repeat([0, 1], 6)
    X, _ = draw(y, y)
    net = tiny_backbone(14)
    chosen = ClassCentroids(net).fit(X, y)
    kept = PrototypeSet.from_estimator(chosen)
    expected = suspect_classes(chosen, X, y)
    assert suspect_classes(kept, X, y, backbone=net).records == expected.records
    named = FrozenBackboneProbe()
    assert suspect_classes(kept, X / 255, y, backbone=net, probe=named).records == expected.records
    with pytest.raises(ValueError, match="pass backbone="):
        suspect_classes(kept, X, y)
    with pytest.raises(ValueError, match=r"classes of prototypes include \[1\], which y"):
        suspect_classes(chosen, X, y * 2)
