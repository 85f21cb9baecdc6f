import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sklgm import FrozenBackboneProbe, LGMDistiller, NearestImages, RandomImages
from sklgm.evaluation import prototype_curve
from tests.evaluation.toys import DATA, NET, PROBE, X_TEST, Y_TEST, X, Y, distiller, toy_rows
from tests.tiny_backbones import counting_backbone


def curve(*data, **params):
    settings = {
        "backbone": NET,
        "probe": PROBE,
        "n_probe_seeds": 2,
        "selections": {"random": RandomImages(NET), "all": None},
    }
    return prototype_curve(*(data or DATA), **(settings | params))


def test_scores_are_those_of_probes_trained_by_hand():
    shared = distiller(random_state=3)
    selections = {"near": NearestImages(shared), "distilled": shared, "all": None}
    result = curve(selections=selections, prototypes_per_class=(2, 1))
    rows = [(row["selection"], row["prototypes_per_class"]) for row in result.summary()]
    assert rows == [("near", 1), ("near", 2), ("distilled", 1), ("distilled", 2), ("all", None)]
    for record in result.records:
        choice, count = None, record["prototypes_per_class"]
        if count is not None:
            choice = distiller(random_state=3, prototypes_per_class=count)
            choice = NearestImages(choice) if record["selection"] == "near" else choice
        probe = clone(PROBE).set_params(backbone=NET, distiller=choice, random_state=record["seed"])
        assert record["accuracy"] == probe.fit(X, Y).score(X_TEST, Y_TEST)
        assert record["n_images"] == (3 * count if count else len(X))


def test_images_that_pass_the_net():
    net = counting_backbone()
    curve(
        backbone=net, selections={"r": RandomImages(net), "all": None}, prototypes_per_class=[1, 2]
    )
    views = PROBE.n_views
    chosen = sum(2 * 3 * count * (1 + views) for count in (1, 2))
    assert net.module.n_images == len(X_TEST) + chosen + 2 * len(X) * views


def test_nearest_images_share_the_prototypes_of_their_row(monkeypatch):
    fitted = []
    original = LGMDistiller.fit

    def fit(self, X, y):
        fitted.append(self.prototypes_per_class)
        return original(self, X, y)

    monkeypatch.setattr(LGMDistiller, "fit", fit)
    shared = distiller(random_state=3)
    selections = {"near": NearestImages(shared), "distilled": shared}
    curve(selections=selections, prototypes_per_class=(1, 2), n_selection_seeds=2)
    assert fitted == [1, 1, 2, 2]


def test_rows_by_default():
    rows, labels = toy_rows(n_classes=2, n_per_class=8)
    result = prototype_curve(
        rows,
        labels,
        rows,
        labels,
        backbone=None,
        probe=FrozenBackboneProbe(None, max_epochs=2),
        prototypes_per_class=[2],
        n_probe_seeds=1,
    )
    names = ["random", "centroid", "nearest", "distilled", "all"]
    assert [row["selection"] for row in result.summary()] == names


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prototypes_per_class": "12"}, "prototypes_per_class"),
        ({"prototypes_per_class": (1, 0)}, "prototypes_per_class"),
        ({"prototypes_per_class": (1, 7)}, "has 6 images.*prototypes_per_class=7"),
        (
            {"selections": {"f": FrozenEstimator(RandomImages(NET).fit(X, Y))}},
            "A FrozenEstimator has no parameter prototypes_per_class",
        ),
        ({"n_probe_seeds": 0}, "n_probe_seeds"),
        ({"groups": np.zeros(3)}, "inconsistent numbers of samples"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said_before_the_work(wrong, message, monkeypatch):
    def fit(self, X, y):
        raise AssertionError("fitted")

    for kind in (RandomImages, LGMDistiller, FrozenBackboneProbe):
        monkeypatch.setattr(kind, "fit", fit)
    with pytest.raises(ValueError, match=message):
        curve(**wrong)


def test_it_is_silent_unless_asked(capsys):
    curve(n_probe_seeds=1)
    assert capsys.readouterr().out == ""
    curve(n_probe_seeds=1, prototypes_per_class=[2], verbose=1)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1 of 2: random, 2: accuracy ")
    assert second.startswith("2 of 2: all: accuracy ")
