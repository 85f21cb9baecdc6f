"""Rows on soft labels beside rows on hard ones, in each of the protocols."""

import numpy as np
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklgm import ClassCentroids, LGMDistiller, NearestImages, PrototypeSet, RandomImages
from tests.evaluation.test_comparison import column, compare
from tests.evaluation.test_prototype_curve import curve
from tests.evaluation.test_transfer import NETS, by_hand, cells, transfer
from tests.evaluation.toys import NET, PROBE, X_TEST, Y_TEST, X, Y, distiller, plain


def test_soft_labels_of_given_prototypes_are_trained_on():
    """Here each says that it is of the next class, and a probe believes it."""
    chosen = RandomImages(NET, random_state=0).fit(X, Y)
    images, labels = chosen.prototypes_, chosen.prototype_labels_
    wrong = np.roll(np.eye(len(labels)), 1, axis=1)
    given = {
        "hard": PrototypeSet(images, labels),
        "wrong": PrototypeSet(images, labels, probabilities=wrong),
        "labels": PrototypeSet(images, np.roll(labels, -1)),
    }
    result = compare(selections=given)
    accuracy = {name: column(result, name, "accuracy") for name in given}
    assert_allclose(accuracy["wrong"], accuracy["labels"])
    assert accuracy["wrong"] != accuracy["hard"]


def test_soft_labels_have_rows_beside_hard_ones_of_the_same_prototypes():
    soft = {"soft_labels": True}
    given = RandomImages(NET, random_state=3, **soft).fit(X, Y)
    images, labels = given.prototypes_, given.prototype_labels_
    wrong = np.roll(np.eye(len(labels)), 1, axis=1)
    shared = distiller(random_state=0)
    rows = {
        "nearest": NearestImages(shared),
        "distilled": shared,
        "random": RandomImages(NET),
        "frozen": FrozenEstimator(given),
        "set": PrototypeSet(images, labels, probabilities=wrong),
        "hard set": PrototypeSet(images, labels),
        "all": None,
    }
    result = compare(selections=rows, soft_labels=True, n_selection_seeds=2)
    names = list(dict.fromkeys(record["selection"] for record in result.records))
    pairs = [(name, f"{name}, soft labels") for name in list(rows)[:5]]
    assert names == [*sum(pairs, ()), "hard set", "all"]

    def run(name, choice, seed):
        probe = clone(PROBE).set_params(backbone=NET, distiller=choice, random_state=seed)
        return probe.fit(X, Y).score(X_TEST, Y_TEST)

    for seed in range(2):
        distilled = distiller(random_state=seed, **soft)
        chosen = {
            "nearest": NearestImages(distilled),
            "distilled": distilled,
            "random": RandomImages(NET, random_state=seed, **soft),
            "frozen": FrozenEstimator(given),
        }
        for name, choice in chosen.items():
            expected = run(name, choice, seed)
            assert column(result, f"{name}, soft labels", "accuracy")[seed] == expected
    hard = {**rows, "frozen": rows["hard set"], "set": rows["hard set"]}
    kept = [record for record in plain(result) if not record["selection"].endswith("soft labels")]
    assert kept == plain(compare(selections=hard, n_selection_seeds=2))
    assert column(result, "set, soft labels", "accuracy") != column(result, "set", "accuracy")


def test_one_fit_serves_both_kinds_of_label(monkeypatch):
    fitted = []
    for kind in (RandomImages, LGMDistiller):
        original = kind.fit

        def fit(self, X, y, original=original):
            fitted.append((type(self).__name__, self.soft_labels))
            return original(self, X, y)

        monkeypatch.setattr(kind, "fit", fit)
    shared = distiller(random_state=0)
    rows = {"near": NearestImages(shared), "made": shared, "drawn": RandomImages(NET)}
    compare(selections=rows, soft_labels=True)
    assert fitted == [("LGMDistiller", True), ("RandomImages", True), ("RandomImages", True)]
    assert not shared.soft_labels


def test_without_comparison_a_selection_is_trained_on_the_labels_it_makes():
    rows = {"soft": distiller(random_state=0, soft_labels=True)}
    result = compare(selections=rows)
    both = compare(selections=rows, soft_labels=True)
    assert column(result, "soft", "accuracy") == column(both, "soft, soft labels", "accuracy")


def test_soft_labels_are_those_of_the_net_that_chose():
    distillers = {"made": distiller(), "real": ClassCentroids()}
    params = {"distillers": distillers, "distilled_on": ["A"]}
    baselines = {"centroid": ClassCentroids()}
    result = transfer(**params, baselines=baselines, soft_labels=True, n_seeds=1)
    found = cells(result)
    rows = ["A, made", "A, real", "centroid"]
    expected = [f"{row}{ending}" for row in rows for ending in ("", ", soft labels")]
    assert list(found) == [(row, on) for row in [*expected, "all"] for on in NETS]
    soft = {"soft_labels": True}
    for on, net in NETS.items():
        choices = {
            "A, made": distiller(NET, random_state=0, **soft),
            "A, real": ClassCentroids(NET, **soft),
            "centroid": ClassCentroids(net, **soft),
        }
        for row, choice in choices.items():
            assert found[f"{row}, soft labels", on] == [by_hand(choice, on, 0)]
    hard = transfer(**params, baselines=baselines, n_seeds=1)
    kept = [record for record in plain(result) if not record["selection"].endswith("soft labels")]
    assert kept == plain(hard)
    at_home = cells(result, "at_home")
    assert at_home["A, made, soft labels", "B"] == [False]
    assert at_home["centroid, soft labels", "B"] == [None]
    for (row, on), values in cells(result, "relative_accuracy").items():
        assert_allclose(values, np.divide(found[row, on], np.mean(found["all", on])))


def test_soft_labels_at_each_number():
    selections = {"random": RandomImages(NET, random_state=0)}
    result = curve(selections=selections, prototypes_per_class=[2, 1], soft_labels=True)
    rows = [(row["selection"], row["prototypes_per_class"]) for row in result.summary()]
    names = ["random", "random, soft labels"]
    assert rows == [(name, count) for count in (1, 2) for name in names]
    for record in result.records:
        choice = RandomImages(
            NET,
            random_state=0,
            prototypes_per_class=record["prototypes_per_class"],
            soft_labels=record["selection"] == names[1],
        )
        probe = clone(PROBE).set_params(backbone=NET, distiller=choice, random_state=record["seed"])
        assert record["accuracy"] == probe.fit(X, Y).score(X_TEST, Y_TEST)
