import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import pearsonr, spearmanr

from sklgm.alignment import AlignmentMatrix, relate_alignment_to_transfer
from sklgm.evaluation import SelectionComparison, TransferMatrix

NETS = ("A", "B", "C", "D")


def alignment(names=NETS, seed=0):
    scores = np.random.default_rng(seed).random((len(names), len(names)))
    return AlignmentMatrix("mutual_knn", names, names, scores, calibrated=scores**3)


def transfer(names=NETS, matrix=None, noise=0.1, n_seeds=2, seed=1):
    """Make runs whose mean relative accuracy follows an alignment."""
    rng = np.random.default_rng(seed)
    scores = (matrix or alignment(names)).scores
    runs = [
        {"selection": row, "backbone": column, "at_home": row == column, "seed": number}
        | {"relative_accuracy": scores[i, j] + noise * rng.normal(), "accuracy": rng.random()}
        for i, row in enumerate(names)
        for j, column in enumerate(names)
        for number in range(n_seeds)
    ]
    others = [
        {"selection": row, "backbone": column, "at_home": None, "seed": 0}
        | {"relative_accuracy": 9.0, "accuracy": 9.0}
        for row in ("random", "all")
        for column in names
    ]
    return TransferMatrix((*runs, *others))


@pytest.mark.parametrize("values", ["scores", "calibrated"])
@pytest.mark.parametrize("metric", ["relative_accuracy", "accuracy"])
def test_coefficients_are_those_of_scipy(values, metric):
    matrix, runs = alignment(), transfer()
    found = relate_alignment_to_transfer(matrix, runs, values=values, metric=metric, random_state=0)
    x, y, pairs = [], [], []
    for i, row in enumerate(NETS):
        for j, column in enumerate(NETS):
            if i != j:
                pairs.append((row, column))
                x.append(matrix.values(values)[i, j])
                own = [
                    run[metric]
                    for run in runs.records
                    if (run["selection"], run["backbone"]) == (row, column)
                ]
                y.append(np.mean(own))
    assert found.pairs == tuple(pairs)
    assert_allclose(found.alignment, x)
    assert_allclose(found.transfer, y)
    assert_allclose(found.pearson.statistic, pearsonr(x, y).statistic)
    assert_allclose(found.spearman.statistic, spearmanr(x, y).statistic)
    for r in (found.pearson, found.spearman):
        assert -1 <= r.low < r.statistic < r.high <= 1
        shown = f"{r.statistic:.3f} [{r.low:.3f}, {r.high:.3f}]"
        assert shown in found.to_markdown()
        assert shown in found._repr_html_()


def test_a_perfect_relation():
    found = relate_alignment_to_transfer(alignment(), transfer(noise=0), random_state=0)
    for r in (found.pearson, found.spearman):
        assert_allclose([r.statistic, r.low, r.high], 1)


def test_the_interval_narrows_with_pairs():
    few, many = ([f"net {i}" for i in range(n)] for n in (4, 12))
    widths = []
    for names in (tuple(few), tuple(many)):
        matrix = alignment(names)
        r = relate_alignment_to_transfer(matrix, transfer(names, matrix, noise=0.3)).pearson
        widths.append(r.high - r.low)
    assert widths[1] < widths[0] / 1.5


def test_it_is_reproducible():
    first, same, other = (
        relate_alignment_to_transfer(alignment(), transfer(), random_state=seed)
        for seed in (0, 0, 1)
    )
    assert first.pearson == same.pearson
    assert first.pearson.low != other.pearson.low


def test_names_in_both_count():
    found = relate_alignment_to_transfer(alignment(), transfer((*NETS[1:], "E")))
    assert len(found.pairs) == 6
    gradients = AlignmentMatrix("g", ("A", "B"), NETS, np.random.default_rng(0).random((2, 4)))
    assert len(relate_alignment_to_transfer(gradients, transfer()).pairs) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"transfer": transfer(NETS[:2])}, "at least 4 pairs"),
        ({"transfer": transfer(("W", "X", "Y", "Z"))}, "at least 4 pairs"),
        ({"values": "low"}, "values='low' is none"),
        ({"metric": "f1"}, "metric='f1' is none of"),
        ({"transfer": np.ones((4, 4))}, "what cross_model_transfer returns; got ndarray"),
        ({"transfer": SelectionComparison(())}, "cross_model_transfer returns; got Selection"),
        ({"alignment": np.ones((4, 4))}, "alignment"),
        ({"alignment": AlignmentMatrix("m", NETS, NETS, np.ones((4, 4)))}, "different values"),
    ],
)
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(ValueError, match=message):
        relate_alignment_to_transfer(**{"alignment": alignment(), "transfer": transfer()} | wrong)
