import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB

from sklgm import (
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    RandomImages,
)
from sklgm.backbones import Backbone
from sklgm.evaluation import cross_model_transfer
from tests.evaluation.toys import (
    DATA,
    NET,
    OTHER,
    PROBE,
    X_TEST,
    Y_TEST,
    X,
    Y,
    close_during_fits,
    distiller,
    guarded,
    plain,
)
from tests.tiny_backbones import TinyConvNet, counting_backbone

NETS = {"A": NET, "B": OTHER}


def transfer(*data, **params):
    settings = {"backbones": NETS, "distillers": distiller(), "probe": PROBE, "n_seeds": 2}
    return cross_model_transfer(*(data or DATA), **(settings | params))


def cells(result, name="accuracy"):
    found = {}
    for record in result.records:
        found.setdefault((record["selection"], record["backbone"]), []).append(record[name])
    return found


def by_hand(choice, column, seed):
    probe = clone(PROBE).set_params(backbone=NETS[column], random_state=seed)
    if choice is not None:
        probe.set_params(distiller=FrozenEstimator(choice.fit(X, Y)))
    return probe.fit(X, Y).score(X_TEST, Y_TEST)


def test_scores_are_those_of_probes_trained_by_hand():
    result = transfer(distilled_on=["A", "B", ("B", "A")])
    found = cells(result)
    rows = ["A", "B", "B + A", "random", "centroid", "all"]
    assert list(found) == [(row, column) for row in rows for column in NETS]
    sources = {"A": NET, "B": OTHER, "B + A": [OTHER, NET]}
    for (row, column), scores in found.items():
        for seed, score in enumerate(scores):
            choice = {
                "random": RandomImages(NETS[column], random_state=seed),
                "centroid": ClassCentroids(NETS[column]),
                "all": None,
            }.get(row, distiller(sources.get(row), random_state=seed))
            assert score == by_hand(choice, column, seed), (row, column, seed)
    at_home = {key: values[0] for key, values in cells(result, "at_home").items()}
    for (row, column), value in at_home.items():
        expected = column in row.split(" + ") if row in sources else None
        assert value is expected
    for (row, column), values in cells(result, "relative_accuracy").items():
        assert_allclose(values, np.divide(found[row, column], np.mean(found["all", column])))


def test_several_distillers():
    distillers = {"short": distiller(), "long": distiller(max_iter=8)}
    params = {"distilled_on": ["A"], "baselines": {}, "n_seeds": 1}
    result = transfer(distillers=distillers, **params)
    rows = list(dict.fromkeys(row for row, _ in cells(result)))
    assert rows == ["A, short", "A, long", "all"]
    alone = cells(transfer(distillers=distillers["long"], **params))
    assert cells(result)["A, long", "B"] == alone["A", "B"]


def test_nearest_images_may_be_distilled_on_or_a_baseline():
    nearest = NearestImages(distiller())
    result = transfer(
        distillers=nearest, distilled_on=["A"], baselines={"near": nearest}, n_seeds=1
    )
    found = cells(result)
    choice = NearestImages(distiller(OTHER, random_state=0))
    assert found["near", "B"] == [by_hand(choice, "B", 0)]
    choice = NearestImages(distiller(NET, random_state=0))
    assert found["A", "B"] == [by_hand(choice, "B", 0)]


def test_summary_and_tables():
    result = transfer(baselines={})
    found = cells(result)
    for row in result.summary():
        scores = found[row["selection"], row["backbone"]]
        assert_allclose(row["accuracy"], np.mean(scores))
        assert_allclose(row["accuracy_sem"], np.std(scores, ddof=1) / np.sqrt(2))
    mean = np.mean(found["A", "B"])
    error = np.std(found["A", "B"], ddof=1) / np.sqrt(2)
    lines = [" ".join(line.split()) for line in result.to_markdown().splitlines()]
    assert lines[0] == "| distilled on \\ evaluated on | A | B |"
    assert lines[2].endswith(f"| {mean:.3f} ± {error:.3f} |")
    assert len(lines) == 2 + 3
    relative = result.to_markdown(metric="relative_accuracy").splitlines()
    assert relative[-1].split()[:4] == ["|", "all", "|", "1.000"]
    with pytest.raises(ValueError, match=r"none of .*: accuracy, balanced"):
        result.to_markdown(metric="top_5_accuracy")


def test_each_net_embeds_the_test_images_once():
    nets = {"A": counting_backbone(), "B": counting_backbone(image_size=12, seed=3)}
    transfer(backbones=nets, distilled_on=["A"], baselines={})
    views = PROBE.n_views
    # Views of all images and of the prototypes, for two seeds.
    assert nets["B"].module.n_images == len(X_TEST) + 2 * views * (len(X) + 3)


def test_groups():
    groups = np.arange(len(Y_TEST)) % 2
    result = transfer(groups=groups, baselines={}, n_seeds=1)
    for record in result.records:
        assert record["worst_group_accuracy"] <= record["accuracy"]


def test_backbones_by_name():
    nets = [
        Backbone.from_module(TinyConvNet(seed=i), image_size=16, name=name)
        for i, name in enumerate("xy")
    ]
    result = transfer(backbones=nets, baselines={}, n_seeds=1)
    assert list(cells(result))[:2] == [("x", "x"), ("x", "y")]


def test_test_images_and_labels_do_not_shape_the_selections(monkeypatch):
    kinds = (RandomImages, ClassCentroids, LGMDistiller, FrozenBackboneProbe)
    state = close_during_fits(monkeypatch, *kinds)
    params = {"distilled_on": ["A"], "n_seeds": 1}
    first = transfer(X, Y, guarded(X_TEST, state), Y_TEST, **params)
    assert plain(first) == plain(transfer(**params))
    other = transfer(X, Y, X_TEST, np.roll(Y_TEST, 7), **params)
    assert cells(first) != cells(other)
    for name in ("n_images", "selection_seed", "seed", "at_home"):
        assert cells(first, name) == cells(other, name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbones": [NET, NET]}, "more than once.*a dict"),
        ({"backbones": ["efficientnet_lite7"]}, "efficientnet_lite"),
        ({"distilled_on": "A"}, "distilled_on"),
        ({"distilled_on": ["C"]}, "names of backbones only"),
        ({"distilled_on": [()]}, "names of backbones only"),
        ({"distilled_on": ["A", ("A",)]}, "different names"),
        ({"distillers": LGMDistiller}, "instead of a class"),
        ({"distillers": {"x": None}}, "Cannot clone object 'None'"),
        ({"distillers": distiller(n_views=0)}, "n_views"),
        (
            {"distillers": FrozenEstimator(distiller().fit(X, Y))},
            "A FrozenEstimator has no parameter backbone",
        ),
        ({"distillers": RandomImages(), "distilled_on": [("A", "B")]}, "backbone"),
        ({"baselines": [RandomImages()]}, "baselines"),
        ({"baselines": {"all": RandomImages()}}, "different names"),
        ({"baselines": {"A": RandomImages()}}, "different names"),
        ({"backbones": {"all": NET, "B": OTHER}}, "different names"),
        ({"probe": clone(PROBE).set_params(head=GaussianNB()), "soft_labels": True}, "takes none"),
        ({"backbones": {"A": NET, "A, soft labels": OTHER}, "soft_labels": True}, "different"),
        ({"n_seeds": 0}, "n_seeds"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said_before_the_work(wrong, message, monkeypatch):
    def fit(self, X, y):
        raise AssertionError("fitted")

    for kind in (RandomImages, ClassCentroids, LGMDistiller, FrozenBackboneProbe):
        monkeypatch.setattr(kind, "fit", fit)
    with pytest.raises((ValueError, TypeError), match=message):
        transfer(**wrong)


def test_defaults(monkeypatch):
    """Distilled images, and the centroids of each net distilled on, where it is one."""
    probe = FrozenBackboneProbe(n_views=2, max_epochs=30)
    # The default distiller, but in a few steps.
    monkeypatch.setitem(LGMDistiller.__init__.__kwdefaults__, "max_iter", 2)
    params = {"distilled_on": ["B", ("A", "B")], "probe": probe, "n_seeds": 1}
    result = cross_model_transfer(*DATA, backbones=NETS, **params)
    rows = ["B", "A + B", "B, centroid", "random", "centroid", "all"]
    assert list(dict.fromkeys(row for row, _ in cells(result))) == rows
    found = cells(result)
    sender = FrozenEstimator(ClassCentroids(OTHER).fit(X, Y))
    for column, net in NETS.items():
        by_sender = clone(probe).set_params(backbone=net, distiller=sender, random_state=0)
        assert found["B, centroid", column] == [by_sender.fit(X, Y).score(X_TEST, Y_TEST)]
    assert found["B, centroid", "B"] == found["centroid", "B"]
    assert cells(result, "at_home")["B, centroid", "A"] == [False]
    assert cells(result, "at_home")["centroid", "B"] == [None]


def test_nets_of_ones_own_beside_each_other():
    """They may see other sizes, and a name is one's own."""
    module = TinyConvNet(seed=2).eval()
    nets = {"mine": Backbone.from_module(module, image_size=14), "B": OTHER}
    result = transfer(backbones=nets, distilled_on=["mine"], baselines={}, n_seeds=1)
    choice = FrozenEstimator(distiller(nets["mine"], random_state=0).fit(X, Y))
    probe = clone(PROBE).set_params(backbone=OTHER, distiller=choice, random_state=0)
    assert cells(result)["mine", "B"] == [probe.fit(X, Y).score(X_TEST, Y_TEST)]
    with pytest.raises(ValueError, match=r"Backbone\.from_module\(net, image_size"):
        transfer(backbones={"mine": module, "B": OTHER})


def test_it_is_silent_unless_asked(capsys):
    params = {"n_seeds": 1, "baselines": {}, "distilled_on": ["A"]}
    transfer(**params)
    assert capsys.readouterr().out == ""
    transfer(**params, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    names = ["1 of 3: A on A, B", "2 of 3: all on A", "3 of 3: all on B"]
    assert [line.partition(": accuracy")[0] for line in lines] == names
