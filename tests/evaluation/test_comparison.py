import re
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    RandomImages,
    StandardAugmentation,
)
from sklgm.evaluation import compare_selections, default_selections
from tests.evaluation.toys import (
    DATA,
    NET,
    PROBE,
    X_TEST,
    Y_TEST,
    X,
    Y,
    close_during_fits,
    distiller,
    guarded,
    plain,
    toy_rows,
)
from tests.tiny_backbones import counting_backbone


def compare(*data, **params):
    settings = {"backbone": NET, "probe": PROBE, "n_probe_seeds": 2}
    return compare_selections(*(data or DATA), **(settings | params))


def selections(net=NET):
    return {
        "random": RandomImages(net),
        "centroid": ClassCentroids(net),
        "distilled": distiller(net, random_state=0),
        "all": None,
    }


def column(result, selection, name):
    return [record[name] for record in result.records if record["selection"] == selection]


def test_scores_are_those_of_probes_trained_by_hand():
    groups = np.array(["x", "y", "z"])[np.arange(len(Y_TEST)) % 3]
    result = compare(selections=selections(), groups=groups)
    choices = {
        "random": [RandomImages(NET, random_state=seed) for seed in range(2)],
        "centroid": [ClassCentroids(NET)] * 2,
        "distilled": [distiller(random_state=0)] * 2,
        "all": [None] * 2,
    }
    assert list(dict.fromkeys(record["selection"] for record in result.records)) == list(choices)
    for name, chosen in choices.items():
        for seed, choice in enumerate(chosen):
            probe = clone(PROBE).set_params(backbone=NET, distiller=choice, random_state=seed)
            predicted = probe.fit(X, Y).predict(X_TEST)
            right = predicted == Y_TEST
            (record,) = [r for r in result.records if (r["selection"], r["seed"]) == (name, seed)]
            assert record["accuracy"] == accuracy_score(Y_TEST, predicted)
            expected = balanced_accuracy_score(Y_TEST, predicted)
            assert_allclose(record["balanced_accuracy"], expected)
            cells = np.char.add(Y_TEST.astype(str), groups)
            worst = min(right[cells == cell].mean() for cell in np.unique(cells))
            assert_allclose(record["worst_group_accuracy"], worst)
            assert record["n_images"] == (len(X) if choice is None else 3)
            assert "top_5_accuracy" not in record
    assert len({record["accuracy"] for record in result.records}) > 1


@pytest.mark.parametrize("head", [None, LogisticRegression(), RidgeClassifier()], ids=str)
def test_top_5_with_more_than_5_classes(head):
    rows, labels = toy_rows()
    test, test_labels = toy_rows(seed=1)
    probe = FrozenBackboneProbe(None, head=head, max_epochs=20)
    result = compare(
        rows, labels, test, test_labels, backbone=None, probe=probe, selections={"all": None}
    )
    for record in result.records:
        fitted = clone(probe).set_params(random_state=record["seed"]).fit(rows, labels)
        method = "decision_function" if isinstance(head, RidgeClassifier) else "predict_proba"
        scores = getattr(fitted, method)(test)
        expected = top_k_accuracy_score(test_labels, scores, k=5, labels=fitted.classes_)
        assert_allclose(record["top_5_accuracy"], expected)
        assert record["accuracy"] < expected < 1


def test_data_frames(recwarn):
    pytest.importorskip("pandas")
    frame, labels = load_iris(as_frame=True, return_X_y=True)
    result = compare(
        frame, labels, frame[::2], labels[::2], backbone=None, selections={"all": None}
    )
    plain_rows = compare(
        frame.to_numpy(),
        labels,
        frame.to_numpy()[::2],
        labels[::2],
        backbone=None,
        selections={"all": None},
    )
    assert plain(result) == plain(plain_rows)
    assert not recwarn.list
    with pytest.raises(ValueError, match="feature names"):
        compare(frame, labels, frame.rename(columns=str.upper), labels, backbone=None)


def test_any_head():
    class Voter(KNeighborsClassifier):
        predict_proba = property()

    rows, labels = toy_rows()
    probe = FrozenBackboneProbe(None, head=Voter(1))
    result = compare(
        rows, labels, rows, labels, backbone=None, probe=probe, selections={"all": None}
    )
    assert result.records[0]["accuracy"] == 1
    assert "top_5_accuracy" not in result.records[0]


def test_rows_by_default():
    rows, labels = toy_rows(n_classes=3, n_per_class=10)
    probe = FrozenBackboneProbe(None, max_epochs=10)
    result = compare(rows, labels, *toy_rows(3, 10, seed=1), backbone=None, probe=probe)
    summary = result.summary()
    names = ["random", "centroid", "nearest", "distilled", "all"]
    assert [row["selection"] for row in summary] == names
    assert [row["n_images"] for row in summary] == [3, 3, 3, 3, 30]
    assert [row["n_fits"] for row in summary] == [2, 1, 1, 1, None]


def test_the_paper_s_probe_is_the_default(monkeypatch):
    settings = []
    fit = FrozenBackboneProbe.fit

    def spy(self, X, y):
        settings.append(self.get_params())
        return fit(self.set_params(max_epochs=2), X, y)

    monkeypatch.setattr(FrozenBackboneProbe, "fit", spy)
    data = (*toy_rows(n_classes=3), *toy_rows(n_classes=3))
    compare(*data, backbone=None, probe=None, selections={"a": None}, n_probe_seeds=1)
    assert settings == [FrozenBackboneProbe(None, random_state=0).get_params()]


def test_means_and_deviations_over_the_seeds():
    result = compare(selections=selections(), n_probe_seeds=4)
    for row in result.summary():
        scores = column(result, row["selection"], "accuracy")
        assert column(result, row["selection"], "seed") == [0, 1, 2, 3]
        assert row["n_seeds"] == 4
        assert_allclose(row["accuracy"], np.mean(scores))
        assert_allclose(row["accuracy_std"], np.std(scores, ddof=1))
        assert_allclose(row["accuracy_sem"], np.std(scores, ddof=1) / 2)
    (row,) = compare(selections={"all": None}, n_probe_seeds=1).summary()
    assert np.isnan(row["accuracy_std"])


def test_probes_on_the_same_fit_are_not_independent():
    rows = {"distilled": distiller()}
    result = compare(selections=rows, n_probe_seeds=4, n_selection_seeds=2)
    (row,) = result.summary()
    scores = np.array(column(result, "distilled", "accuracy"))
    assert column(result, "distilled", "selection_seed") == [0, 1, 0, 1]
    means = [scores[::2].mean(), scores[1::2].mean()]
    assert_allclose(row["accuracy_std"], np.std(scores, ddof=1))
    assert_allclose(row["accuracy_sem"], np.std(means, ddof=1) / np.sqrt(2))
    result = compare(selections=rows, n_probe_seeds=1, n_selection_seeds=2)
    assert column(result, "distilled", "selection_seed") == [0]


def test_test_images_pass_the_net_once():
    net = counting_backbone()
    compare(backbone=net, selections=selections(net), n_probe_seeds=3)
    views = PROBE.n_views
    train = len(X)
    expected = len(X_TEST)
    expected += 3 * (3 + 3 * views)  # random: three images, each embedded, then their views
    expected += train + 3 + 3 * 3 * views  # centroids
    expected += 3 * 3 * views  # the distilled, and what the distillation takes:
    expected += 3 * train * views  # all
    counted = net.module.n_images
    net.module.reset()
    distiller(net, random_state=0).fit(X, Y)
    assert counted == expected + net.module.n_images


def test_nearest_images_share_the_prototypes_of_their_row():
    net = counting_backbone()
    shared = distiller(net, random_state=0)
    apart = {"distilled": shared, "nearest": NearestImages(distiller(net, random_state=0))}
    together = {"nearest": NearestImages(shared), "distilled": shared}
    counts, tables = [], []
    for rows in (apart, together):
        net.module.reset()
        tables.append(compare(backbone=net, selections=rows))
        counts.append(net.module.n_images)
    net.module.reset()
    shared.fit(X, Y)
    assert counts[0] - counts[1] == net.module.n_images
    for name in apart:
        assert column(tables[0], name, "accuracy") == column(tables[1], name, "accuracy")
    assert [record["selection"] for record in tables[1].records][::2] == ["nearest", "distilled"]


def test_frozen_nearest_images():
    shared = distiller(random_state=0)
    nearest = NearestImages(shared)
    frozen = FrozenEstimator(clone(nearest).fit(X, Y))
    result = compare(selections={"distilled": shared, "nearest": nearest, "frozen": frozen})
    assert column(result, "nearest", "accuracy") == column(result, "frozen", "accuracy")
    assert column(result, "nearest", "n_images") == [3, 3]


class _Log(RandomImages):
    fitted = []

    def fit(self, X, y):
        _Log.fitted.append(self.random_state)
        return super().fit(X, y)


def test_seeds_of_selections():
    _Log.fitted.clear()
    rows = {
        "drawn": _Log(NET),
        "fixed": _Log(NET, random_state=7),
        "distilled": distiller(),
        "frozen": FrozenEstimator(distiller(random_state=4).fit(X, Y)),
        "centroid": ClassCentroids(NET),
        "clusters": ClassCentroids(NET, prototypes_per_class=2),
    }

    def fits(**params):
        result = compare(selections=rows, n_probe_seeds=3, **params)
        return {name: column(result, name, "selection_seed") for name in rows}

    never = {"frozen": [None] * 3, "centroid": [None] * 3}
    once = {"fixed": [None] * 3, "distilled": [0] * 3, "clusters": [0] * 3, **never}
    assert fits() == {"drawn": [0, 1, 2], **once}
    assert _Log.fitted == [0, 1, 2, 7]
    several = {key: [0, 1, 0] for key in ("fixed", "distilled", "clusters")} | never
    assert fits(n_selection_seeds=2) == {"drawn": [0, 1, 2], **several}


def test_the_same_call_gives_the_same_records():
    unseeded = {"random": RandomImages(NET), "distilled": distiller()}
    assert plain(compare(selections=unseeded)) == plain(compare(selections=unseeded))


def test_estimators_given_are_left_alone():
    given = selections()
    before = {name: repr(estimator) for name, estimator in given.items()}
    probe = clone(PROBE)
    compare(selections=given, probe=probe)
    assert before == {name: repr(estimator) for name, estimator in given.items()}
    assert not any(hasattr(estimator, "prototypes_") for estimator in given.values())
    assert probe.backbone == "clip"
    assert not hasattr(probe, "head_")


def test_test_labels_change_the_scores_alone():
    def run(y_test):
        records = plain(compare(X, Y, X_TEST, y_test, selections=selections()))
        scores = [(r.pop("accuracy"), r.pop("balanced_accuracy"))[0] for r in records]
        return scores, records

    scores, records = run(Y_TEST)
    other = np.roll(Y_TEST, 7)
    other_scores, other_records = run(other)
    assert records == other_records
    assert scores != other_scores
    probe = clone(PROBE).set_params(backbone=NET, random_state=1).fit(X, Y)
    assert scores[-1] == probe.score(X_TEST, Y_TEST)
    assert other_scores[-1] == probe.score(X_TEST, other)


def test_no_test_image_is_read_during_a_fit(monkeypatch):
    kinds = (RandomImages, ClassCentroids, LGMDistiller, FrozenBackboneProbe)
    state = close_during_fits(monkeypatch, *kinds)
    result = compare(X, Y, guarded(X_TEST, state), Y_TEST, selections=selections())
    assert plain(result) == plain(compare(selections=selections()))
    with pytest.raises(ValueError, match="read during fit"):
        FrozenBackboneProbe(NET).fit(guarded(X_TEST, state), Y_TEST)


def test_default_selections_take_the_probe_s_settings():
    augmentation = StandardAugmentation(flip=0)
    probe = FrozenBackboneProbe(image_size=12, batch_size=7, augmentation=augmentation)
    found = default_selections(NET, probe=probe)
    for name in ("random", "centroid", "distilled"):
        assert (found[name].backbone, found[name].image_size) == (NET, 12)
        assert found[name].batch_size == 7
    assert found["distilled"].augmentation.flip == 0
    assert default_selections(NET)["distilled"].augmentation == "blurred"
    assert found["nearest"].distiller is found["distilled"]
    assert found["all"] is None


def test_test_data_may_lack_a_class():
    keep = Y_TEST != "b"
    result = compare(X, Y, X_TEST[keep], Y_TEST[keep], selections={"random": RandomImages(NET)})
    for record in result.records:
        probe = clone(PROBE).set_params(
            backbone=NET,
            distiller=RandomImages(NET, random_state=record["seed"]),
            random_state=record["seed"],
        )
        right = probe.fit(X, Y).predict(X_TEST[keep]) == Y_TEST[keep]
        means = [right[Y_TEST[keep] == label].mean() for label in "ac"]
        assert_allclose(record["balanced_accuracy"], np.mean(means))


class _NoB(RandomImages):
    def fit(self, X, y):
        super().fit(X, y)
        keep = self.prototype_labels_ != "b"
        self.prototypes_ = self.prototypes_[keep]
        self.prototype_labels_ = self.prototype_labels_[keep]
        return self


def test_a_selection_without_a_class_is_refused():
    for bad in (_NoB(NET), FrozenEstimator(RandomImages(NET).fit(X[Y != "b"], Y[Y != "b"]))):
        with pytest.raises(ValueError, match=r"include \['b'\], which"):
            compare(selections={"bad": bad})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"selections": [RandomImages(NET)]}, "selections"),
        ({"selections": {"r": RandomImages}}, "instead of a class"),
        ({"selections": {"r": "random"}}, "Cannot clone object ''random''"),
        ({"selections": {"r": RandomImages("efficientnet_lite7")}}, "efficientnet_lite"),
        ({"selections": {"r": RandomImages(NET, prototypes_per_class=7)}}, "has 6 images"),
        ({"selections": {"d": distiller(n_views=0)}}, "n_views"),
        ({"selections": {"n": NearestImages(distiller(prototypes_per_class=7))}}, "has 6 images"),
        ({"selections": {"n": NearestImages(distiller(n_views=0))}}, "n_views"),
        ({"selections": {"r": RandomImages(None)}}, "dim 4"),
        ({"probe": KNeighborsClassifier()}, "probe must be None or a FrozenBackboneProbe"),
        ({"probe": FrozenBackboneProbe(distiller=distiller())}, "without a distiller"),
        ({"probe": FrozenBackboneProbe(n_views=0)}, "n_views"),
        ({"probe": FrozenBackboneProbe(augmentation=StandardAugmentation(flip=2))}, "flip"),
        (
            {"probe": FrozenBackboneProbe(head=RidgeClassifier()), "soft_labels": True},
            "head=RidgeClassifier.* takes none.*head=None",
        ),
        (
            {"selections": {"a": None, "a, soft labels": None}, "soft_labels": True},
            "must have different names",
        ),
        ({"soft_labels": "yes"}, "soft_labels"),
        ({"n_probe_seeds": 0}, "n_probe_seeds"),
        ({"n_selection_seeds": 2.5}, "n_selection_seeds"),
        ({"groups": [1, 2]}, "inconsistent numbers of samples"),
        ({"backbone": "efficientnet_lite7"}, "efficientnet_lite"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said_before_the_work(wrong, message, monkeypatch):
    def fit(self, X, y):
        raise AssertionError("fitted")

    for kind in (RandomImages, LGMDistiller, NearestImages, FrozenBackboneProbe):
        monkeypatch.setattr(kind, "fit", fit)
    with pytest.raises((ValueError, TypeError), match=message):
        compare(**{"selections": selections(), **wrong})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y[1:], X_TEST, Y_TEST), "18 images or rows in X and 17 labels"),
        ((X, Y, X_TEST, Y_TEST[1:]), "inconsistent numbers of samples"),
        ((X, Y, X_TEST, np.where(Y_TEST == "a", "z", Y_TEST)), r"y_test include \['z'\]"),
        ((X, (Y == "a").astype(int), X_TEST, np.full(24, "1")), r"\['1'\]"),
        ((X, ["a"] * 18, X_TEST, Y_TEST), "at least 2 classes"),
        ((X, Y, X_TEST[:, :, :, 0].reshape(24, -1), Y_TEST), "2-D table"),
        ((X, Y, ["no.png"] * 24, Y_TEST), "cannot be found"),
    ],
)
def test_data_that_do_not_fit(data, message):
    net = counting_backbone()
    with pytest.raises(ValueError, match=message):
        compare(*data, backbone=net, selections=selections(net))
    assert net.module.n_images == 0


def test_columns_that_do_not_fit():
    rows, labels = toy_rows()
    with pytest.raises(ValueError, match="5 features"):
        compare(rows, labels, rows[:, :3], labels, backbone=None)


def test_a_pipeline_has_no_prototypes_of_its_own():
    pipeline = make_pipeline(RandomImages(NET), FrozenBackboneProbe(NET, max_epochs=1))
    with pytest.raises(ValueError, match="A Pipeline has no prototypes to compare"):
        compare(selections={"pipeline": pipeline})


def test_it_is_silent_unless_asked(capsys):
    compare(selections=selections())
    assert capsys.readouterr().out == ""
    compare(selections={"[bold]x": None, "random": RandomImages(NET)}, verbose=1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 of 2: [bold]x: accuracy ")
    assert second.startswith("2 of 2: random: accuracy ")


def test_probes_that_take_long_are_told_one_by_one(capsys, monkeypatch):
    monkeypatch.setattr("sklgm.evaluation._runs._LONG", 0.0)
    compare(selections={"random": RandomImages(NET), "all": None}, n_probe_seeds=3, verbose=1)
    random, total, *probes, last = capsys.readouterr().out.splitlines()[-5:]
    assert random.startswith("1 of 2: random: accuracy ")
    begin, _, about = total.partition(" images, in at most about ")
    assert begin == f"2 of 2: 3 probes embed {PROBE.n_views} views of each of {len(X)}"
    assert re.fullmatch(r"\d+ s", about)
    assert [line.partition(" took ")[0] for line in probes] == [
        "2 of 2: probe 1 of 3",
        "2 of 2: probe 2 of 3",
    ]
    assert last.startswith("2 of 2: all: accuracy ")


def test_the_time_of_probes_on_all_images_follows_from_those_before(monkeypatch):
    clock = iter(range(10**6))
    told = []
    own = SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr("sklgm.evaluation._runs.time", own)
    monkeypatch.setattr("sklgm.evaluation._runs._LONG", 0.0)
    monkeypatch.setattr("sklgm.evaluation._runs.duration", lambda seconds: told.append(seconds))
    compare(selections={"random": RandomImages(NET), "all": None}, n_probe_seeds=3, verbose=1)
    # Each probe takes a second by this clock, one on three images embeds three times the views.
    assert told == [pytest.approx(3 * len(X) / 3)]
