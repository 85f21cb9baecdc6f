import itertools
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.utils import compute_sample_weight

from sklgm import ClassCentroids, FrozenBackboneProbe, PrototypeSet, RandomImages
from sklgm.bias import BiasReport, diagnose_bias
from sklgm.bias._readers import excess, fit_reader
from sklgm.datasets import make_spurious_images
from sklgm.plotting import BiasDisplay
from tests.bias.toys import (
    BORDER,
    CENTRE,
    CORRELATED,
    PROBE,
    REFERENCE,
    SHIFTED,
    TRAIN,
    distiller,
    draw,
    labelled,
)
from tests.image_checks import save_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

# Some nets here see nothing of the class or of the group.
pytestmark = pytest.mark.filterwarnings("ignore:Readings of prototypes and group reliance")
TESTS = {"correlated_test": CORRELATED, "shifted_test": SHIFTED}


@pytest.fixture(scope="module")
def blind():
    """A report of a net that sees the border of the images alone."""
    return diagnose_bias(distiller(BORDER), *TRAIN, reference=REFERENCE, probe=PROBE, **TESTS)


# The formula ------------------------------------------------------------------------------------


def goodman_kruskal_tau(table):
    """Return tau from its meaning: by how much fewer guesses in proportion are wrong."""
    table = table / table.sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    wrong = 1 - (columns**2).sum()
    wrong_given_row = 1 - sum((table[i] ** 2).sum() / rows[i] for i in range(len(rows)))
    return (wrong - wrong_given_row) / wrong


def test_excess_of_shares_is_goodman_and_kruskals_tau():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    assert excess(shares, shares) == pytest.approx(goodman_kruskal_tau(shares))


@pytest.mark.parametrize(
    "own", [[0, 1, 2, 3], [0, 1, 0, 1], [3, 1, 1, 1], [0, 1, 2, 2]], ids=str
)  # fmt: skip
@pytest.mark.parametrize("correlation", [1.0, 0.6, 0.0])
def test_excess_of_certain_readings_is_the_correlation(own, correlation):
    certain = np.eye(4)[own]
    shares = correlation * certain + (1 - correlation) * certain.mean(axis=0)
    assert excess(shares, certain) == pytest.approx(correlation)
    # Readings that are the same for every class tell nothing, whatever they are.
    assert excess(shares, np.tile([0.7, 0.1, 0.1, 0.1], (4, 1))) == pytest.approx(0)
    others = np.roll(certain, 1, axis=0)
    assert excess(certain, others) < excess(certain, certain)


def test_excess_without_groups_that_differ():
    assert excess(np.tile([1.0, 0.0], (3, 1)), np.random.default_rng(0).random((3, 2))) == 0


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ((0, 1), 0),
        ((1, 0), 1),
        ((1, 1), 0.5),
        ((0.1, 0), 0.1),
        ((-0.4, 0.9), 0),
        ((0.9, -0.4), 0.9),
        ((0.2, 0.8), 0.2),
        ((0.5, 0.9), 0.5 / 1.4),
    ],
)
def test_group_reliance(monkeypatch, blind, shown, expected):
    for name, value in zip(("group_shown", "class_shown"), shown, strict=True):
        monkeypatch.setattr(BiasReport, name, value)
    assert blind.group_reliance == pytest.approx(expected)


# The readers ------------------------------------------------------------------------------------


def test_a_reader_does_not_take_the_class_for_the_group():
    # The column of the class would help a reader that is not balanced.
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=2000)
    g = np.where(rng.random(2000) < 0.8, y, rng.integers(2, size=2000))
    rows = np.stack([y, g], axis=1) + rng.normal(scale=0.8, size=(2000, 2))
    fair, _ = fit_reader(rows, g, compute_sample_weight("balanced", 2 * y + g))
    unfair, _ = fit_reader(rows, g, np.ones(2000))
    assert abs(fair[-1].coef_[0, 0]) < 0.1
    assert abs(unfair[-1].coef_[0, 0]) > 0.4


def test_reader_accuracy_is_cross_validated():
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.arange(60) % 3)
    rows = rng.normal(size=(60, 4)) + np.eye(3)[targets] @ rng.normal(size=(3, 4))
    reader, accuracy = fit_reader(rows, targets, np.ones(60))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    assert accuracy == pytest.approx(cross_val_score(reader, rows, targets, cv=folds).mean())


def test_a_reader_is_regularised_as_the_data_needs():
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 2
    noise, _ = fit_reader(rng.normal(size=(60, 40)), targets, np.ones(60))
    clear, _ = fit_reader(targets[:, None] + 0.1 * rng.normal(size=(60, 1)), targets, np.ones(60))
    assert noise[-1].C < clear[-1].C


# Controls ---------------------------------------------------------------------------------------


def test_a_net_blind_to_the_object_relies_on_the_group(blind):
    assert blind.group_reliance > 0.85
    assert blind.group_shown > 0.9
    assert blind.reader_accuracy["group"] == 1
    assert blind.reader_accuracy["class"] < 0.5  # chance is 1/3
    assert blind.accuracy["correlated"]["accuracy"] > 0.95
    assert blind.accuracy["shifted"]["accuracy"] < 0.5
    assert blind.accuracy["shifted"]["worst_pair_accuracy"] == 0


def test_a_net_blind_to_the_background_does_not():
    report = diagnose_bias(distiller(CENTRE), *TRAIN, reference=REFERENCE, probe=PROBE, **TESTS)
    assert report.association == pytest.approx(1)
    assert report.group_reliance < 0.1
    assert report.class_shown > 0.9
    assert report.accuracy["shifted"]["accuracy"] > 0.95
    assert report.accuracy["shifted"]["worst_pair_accuracy"] > 0.8


@pytest.mark.parametrize(
    "net", [BORDER, CENTRE, tiny_backbone(14)], ids=["border", "centre", "all"]
)
def test_without_correlation_nothing_is_relied_on(net):
    train = labelled(0.0, seed=4)
    report = diagnose_bias(distiller(net), *train, reference=REFERENCE)
    assert report.association < 0.1
    assert report.group_reliance < 0.15


def test_a_net_that_sees_both_is_in_between():
    report = diagnose_bias(distiller(tiny_backbone(14)), *TRAIN, reference=REFERENCE)
    assert 0.2 < report.group_reliance < 0.8


def test_reliance_grows_with_the_correlation():
    found = [
        diagnose_bias(
            distiller(BORDER), *labelled(correlation, seed=6), reference=REFERENCE
        ).group_reliance
        for correlation in (0.0, 0.5, 1.0)
    ]
    assert found[0] < found[1] < found[2]


@pytest.mark.real
@pytest.mark.parametrize("correlation", [1.0, 0.0])
def test_real_weights_see_both(correlation):
    def drawn(correlation, seed):
        data = make_spurious_images(
            correlation=correlation, n_samples=120, subset="train", random_state=seed
        )
        return data.images, data.target, data.groups

    report = diagnose_bias(
        ClassCentroids("efficientnet_lite0", image_size=56),
        *drawn(correlation, 0),
        reference=drawn(0.0, 1),
    )
    assert report.reader_accuracy["group"] > 0.95
    if correlation:
        assert report.group_reliance > 0.4
    else:
        assert report.group_reliance < 0.1


# What is reported -------------------------------------------------------------------------------


def test_records_are_what_the_arrays_say(blind):
    assert isinstance(blind, BiasReport)
    assert blind.classes.tolist() == ["blue", "green", "red"]
    assert blind.groups.tolist() == ["dark", "grey", "light"]
    np.testing.assert_allclose(blind.group_shares, np.eye(3))
    for i, record in enumerate(blind.records):
        assert record["prototype"] == i
        assert record["class"] == blind.prototypes.labels[i]
        assert record["group"] == ["dark", "grey", "light"][i]
        assert record["read_group"] == blind.groups[blind.group_probabilities[i].argmax()]
        assert record["group_probability"] == blind.group_probabilities[i, i]
        assert record["class_probability"] == blind.class_probabilities[i, i]
    np.testing.assert_allclose(blind.group_probabilities.sum(axis=1), 1)


def test_reliance_from_the_readings(blind):
    own_group = np.diag(blind.group_probabilities).mean()
    own_class = np.diag(blind.class_probabilities).mean()
    a, k = ((own - 1 / 3) / (2 / 3) for own in (own_group, own_class))
    assert blind.group_shown == pytest.approx(a, abs=1e-6)
    assert blind.class_shown == pytest.approx(k, abs=1e-6)
    assert blind.group_reliance == pytest.approx(
        max(a, 0) / max(1, max(a, 0) + max(k, 0)), abs=1e-6
    )


def test_accuracies_are_those_of_a_probe_on_the_prototypes(blind):
    probe = clone(PROBE).set_params(backbone=BORDER)
    probe.fit(blind.prototypes.images, blind.prototypes.labels)
    X, y, groups = SHIFTED
    predicted = probe.predict(X)
    assert blind.accuracy["shifted"]["accuracy"] == accuracy_score(y, predicted)
    worst = min(
        accuracy_score(y[cell], predicted[cell])
        for label in np.unique(y)
        for group in np.unique(groups)
        for cell in [(y == label) & (groups == group)]
    )
    assert blind.accuracy["shifted"]["worst_pair_accuracy"] == worst


def test_tables(blind):
    markdown = blind.to_markdown()
    assert len([line for line in markdown.splitlines() if line[0:1] == "|"]) == 2 + 3
    assert f"- group reliance: {blind.group_reliance:.3f}" in markdown
    assert "- shifted worst pair accuracy: 0.000" in markdown
    assert blind.to_frame()["class"].tolist() == ["blue", "green", "red"]
    for shown in (repr(blind), blind._repr_html_()):
        said = shown[shown.index("Accuracy on the correlated test") :]
        assert re.search(r"shifted test 0\.\d\d, .* class and group 0\.00\. Group reliance", said)
        assert f"groups shown {blind.group_shown:.2f}, at most 1.00 with" in said
        assert f"the reader of groups has an accuracy of {1:.2f}, that of classes of 0." in said
    assert "independent" not in markdown


def test_highest_group_shown_is_reached_by_certain_readings(blind):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), size=3)
    report = replace(blind, group_shares=shares)
    found = [excess(shares, np.eye(3)[list(own)]) for own in itertools.product(range(3), repeat=3)]
    assert report.highest_group_shown == pytest.approx(max(found))
    assert report.highest_group_shown > max(excess(shares, rng.dirichlet(np.ones(3), 3)), 0.1)


@pytest.mark.parametrize("share", [0.5, 0.52, 0.6])
def test_without_association_group_reliance_is_said_to_tell_nothing(share):
    n = 50
    own = round(share * n)
    y = np.repeat([0, 1], n)
    g = np.concatenate([np.arange(n) >= own, np.arange(n) < own]).astype(int)
    rng = np.random.default_rng(0)
    rows = np.stack([4 * y, 4 * g], axis=1) + rng.normal(size=(2 * n, 2))
    prototypes = PrototypeSet(np.array([[0.0, 9.0], [4.0, 9.0]]), [0, 1])
    report = diagnose_bias(prototypes, rows, y, g, reference=(rows, y, g))
    for shown in (repr(report), report._repr_html_(), report.to_markdown()):
        assert ("is 0 by definition or nearly so" in shown) == (share < 0.55)
        assert ("read as 1, 1.00 (in training 0.50); 0, 0.00" in shown) == (share < 0.55)
    groups = [record["group"] for record in report.records]
    assert groups == ([None, None] if share < 0.55 else [0, 1])
    frames = BiasDisplay.from_report(report)
    assert len(frames.frames_) == (0 if share < 0.55 else 2)
    assert ("none is typical" in frames.ax_.get_title()) == (share < 0.55)
    assert ("reliance" in frames.ax_.get_title()) == (share > 0.55)


def test_many_groups_are_typical_though_each_is_rare():
    y, g = (part.ravel() for part in np.meshgrid([0, 1], np.repeat(np.arange(24), 5)))
    rows = np.column_stack([4 * y, 9 * np.eye(24)[g]]) + np.random.default_rng(0).normal(
        size=(240, 25)
    )
    own = g % 2 == y  # half of the groups for each class
    prototypes = PrototypeSet(rows[own][[0, -1]], y[own][[0, -1]])
    report = diagnose_bias(prototypes, rows[own], y[own], g[own], reference=(rows, y, g))
    assert report.association == pytest.approx(1 / 23, abs=0.05)
    assert "by definition" not in repr(report)
    assert all(record["group"] % 2 == record["class"] for record in report.records)


# What is taken ----------------------------------------------------------------------------------


def test_fitted_estimators_and_sets_are_taken_as_they_are(blind):
    fitted = distiller(BORDER).fit(*TRAIN[:2])
    before = fitted.prototypes_.copy()
    kept = PrototypeSet.from_estimator(fitted)
    for prototypes, params in ((fitted, {}), (kept, {"backbone": BORDER})):
        report = diagnose_bias(prototypes, *TRAIN, reference=REFERENCE, **params)
        assert report.records == blind.records
    np.testing.assert_array_equal(fitted.prototypes_, before)


def test_an_unfitted_distiller_stays_unfitted():
    unfitted = RandomImages(BORDER, random_state=0)
    report = diagnose_bias(unfitted, *TRAIN, reference=REFERENCE)
    assert not hasattr(unfitted, "prototypes_")
    assert report.prototypes.provenance["estimator"] == "RandomImages"
    assert report.accuracy == {}


def test_it_is_silent_unless_asked(capsys, blind):
    arguments = {"reference": REFERENCE, "backbone": BORDER, "probe": PROBE, **TESTS}
    diagnose_bias(blind.prototypes, *TRAIN, **arguments)
    assert capsys.readouterr().out == ""
    report = diagnose_bias(blind.prototypes, *TRAIN, **arguments, verbose=1)
    readers, probe = report.reader_accuracy, report.accuracy
    assert capsys.readouterr().out.splitlines() == [
        "1 of 5: features of 90 reference images",
        f"2 of 5: reader of the class: accuracy {readers['class']:.3f}",
        f"3 of 5: reader of the group: accuracy {readers['group']:.3f}",
        f"4 of 5: probe on the correlated test: accuracy {probe['correlated']['accuracy']:.3f}",
        f"5 of 5: probe on the shifted test: accuracy {probe['shifted']['accuracy']:.3f}",
    ]


def test_any_images(tmp_path):
    chosen = ClassCentroids(BORDER).fit(*TRAIN[:2])
    expected = diagnose_bias(chosen, *TRAIN, reference=REFERENCE)
    kinds = [
        lambda X: save_images(X, tmp_path),
        lambda X: [Image.fromarray(image) for image in X],
        lambda X: X.astype(np.float32) / 255,
    ]
    for kind in kinds:
        reference = (kind(REFERENCE[0]), *REFERENCE[1:])
        assert diagnose_bias(chosen, *TRAIN, reference=reference).records == expected.records


def test_another_backbone_may_look():
    chosen = ClassCentroids(BORDER).fit(*TRAIN[:2])
    seen = diagnose_bias(chosen, *TRAIN, reference=REFERENCE, backbone=CENTRE)
    assert seen.reader_accuracy["class"] == 1
    assert seen.reader_accuracy["group"] < 0.6


def test_several_prototypes_and_unequal_groups():
    y = np.repeat([0, 1, 2], 20)
    g = np.where(y == 2, 1, y)  # two classes share a group
    X, _ = draw(y, g)
    chosen = RandomImages(BORDER, prototypes_per_class=3, random_state=0)
    rng = np.random.default_rng(0)
    y_ref, g_ref = rng.integers(3, size=90), rng.integers(2, size=90)
    report = diagnose_bias(chosen, X, y, g, reference=(draw(y_ref, g_ref, 1)[0], y_ref, g_ref))
    assert [record["group"] for record in report.records] == [0] * 3 + [1] * 6
    assert report.association == pytest.approx(1)
    assert report.group_shown > 0.9


def test_rows():
    rng = np.random.default_rng(0)

    def rows(y, g):
        return np.stack([4 * y, 4 * g], axis=1) + rng.normal(size=(len(y), 2)), y, g

    y, g = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    chosen = ClassCentroids(backbone=None)
    report = diagnose_bias(
        chosen, *rows(y, y), reference=rows(y, g), shifted_test=rows(y, g),
        probe=FrozenBackboneProbe(None, head=LogisticRegression()),
    )  # fmt: skip
    assert report.group_reliance == pytest.approx(0.5, abs=0.05)
    assert report.accuracy["shifted"]["worst_pair_accuracy"] < 0.7


@pytest.mark.parametrize(
    ("shift", "n_each", "said"),
    [
        ((4, 4), 20, None),
        ((0, 4), 20, r"noise: on real images the reader of the class.*chance at 0\.50\. Pass"),
        ((4, 0), 20, r"noise: on real images the reader of the group.*chance at 0\.50\. Pass"),
        ((4, 4), 4, r"may be noise: the reference has a pair of class and group with 4 images\."),
        ((0, 4), 4, "reader of the class.*; the reference has a pair"),
    ],
)  # fmt: skip
def test_readings_that_may_be_noise(recwarn, shift, n_each, said):
    rng = np.random.default_rng(1)

    def rows(n):
        y, g = np.repeat([0, 1], 2 * n), np.tile([0, 1], 2 * n)
        return np.stack([y, g], axis=1) * shift + rng.normal(size=(4 * n, 2)), y, g

    warnings.simplefilter("always")
    diagnose_bias(ClassCentroids(backbone=None), *rows(20), reference=rows(n_each))
    assert len(recwarn) == (said is not None)
    if said:
        assert re.search(said, str(recwarn[0].message))


# Errors -----------------------------------------------------------------------------------------


def without(data, label, group):
    keep = ~((data[1] == label) & (data[2] == group))
    return tuple(part[keep] for part in data)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"reference": without(REFERENCE, "red", "dark")}, r"no image of \[\('red', 'dark'\)\]"),
        ({"reference": REFERENCE[:2]}, r"reference must be .* \(X, y, groups\); got 2 parts"),
        ({"shifted_test": SHIFTED[0]}, "shifted_test must be a tuple of three.*got ndarray"),
        ({"reference": (*REFERENCE[:2], REFERENCE[2][:-1])}, "inconsistent numbers of samples"),
        (
            {"reference": tuple(part[REFERENCE[2] == "dark"] for part in REFERENCE)},
            r"groups of the training images include \['grey', 'light'\]",
        ),
        ({"groups": np.full(90, "dusk")}, r"groups of the training images include \['dusk'\]"),
        ({"y": TRAIN[1][:-1]}, "inconsistent numbers of samples"),
        (
            {"groups": [None, *TRAIN[2][1:]]},
            r"1 of 90 labels in groups are missing[^$]*groups of the training images",
        ),
        (
            {"reference": (*REFERENCE[:2], [None, *REFERENCE[2][1:]])},
            r"1 of 90 labels in groups are missing[^$]*groups of reference",
        ),
        (
            {"groups": list(zip(TRAIN[1], TRAIN[2], strict=True))},
            r'groups should be a 1d array.*\(90, 2\).* strings: \[f"{a}, {b}" for a, b in groups\]',
        ),
        ({"groups": "dark"}, "groups should be a 1d array.*got 'dark'"),
        (
            {"shifted_test": (SHIFTED[0], np.char.add(SHIFTED[1], "ish"), SHIFTED[2])},
            "classes of shifted_test include",
        ),
        ({"prototypes": 3}, "int brings no net"),
        (
            {"prototypes": PrototypeSet(np.zeros((2, 16, 16, 3)), ["red", "blue"])},
            r"classes of y include \['green'\], which prototypes does not have",
        ),
        ({"probe": FrozenBackboneProbe(distiller=RandomImages())}, "Probe without a distiller"),
    ],
)  # fmt: skip
def test_errors_come_before_the_work(params, message):
    net = counting_backbone(14)
    net.module.reset()
    arguments = {
        "prototypes": distiller(net), "X": TRAIN[0], "y": TRAIN[1], "groups": TRAIN[2],
        "reference": REFERENCE, **params,
    }  # fmt: skip
    if isinstance(arguments["prototypes"], PrototypeSet):
        arguments["backbone"] = net
    with pytest.raises((ValueError, TypeError), match=message):
        diagnose_bias(**arguments)
    assert net.module.n_images == 0
