import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklgm import BackboneEmbedder, RandomImages
from sklgm.alignment import AlignmentMatrix, alignment_matrix, calibrate, linear_cka
from tests.evaluation.toys import NET, OTHER, X
from tests.tiny_backbones import counting_backbone, tiny_backbone

NETS = {"A": NET, "B": OTHER, "C": tiny_backbone(seed=7, n_features=9)}


@pytest.mark.parametrize("metric", ["mutual_knn", "linear_cka", linear_cka])
def test_each_pair_is_calibrated(metric):
    params = {"metric": metric, "n_neighbors": 4, "n_permutations": 30, "random_state": 0}
    found = alignment_matrix(NETS, X, **params)
    assert found.rows == found.columns == ("A", "B", "C")
    features = [BackboneEmbedder(net).fit_transform(X) for net in NETS.values()]
    for i in range(3):
        for j in range(i, 3):
            one = calibrate(features[i], features[j], **params)
            for name, value in (
                ("scores", one.score),
                ("calibrated", one.calibrated),
                ("p_values", one.p_value),
                ("null_means", one.null_mean),
            ):
                assert_allclose(found.values(name)[[i, j], [j, i]], value, rtol=1e-12)
    assert_allclose(np.diag(found.scores), 1)
    assert found.metric == (metric if isinstance(metric, str) else "linear_cka")


def test_each_net_embeds_the_images_once():
    nets = [counting_backbone(), counting_backbone(seed=3, image_size=12)]
    alignment_matrix(dict(zip("AB", nets, strict=True)), X, n_neighbors=4)
    assert [net.module.n_images for net in nets] == [len(X)] * 2


def test_tables():
    found = alignment_matrix(NETS, X, n_neighbors=4, random_state=0)
    lines = found.to_markdown().splitlines()
    assert " ".join(lines[0].split()) == "| mutual knn, calibrated | A | B | C |"
    assert lines[2].split()[:6] == ["|", "A", "|", "1.000", "|", f"{found.calibrated[0, 1]:.3f}"]
    raw = found.to_markdown(values="scores")
    assert raw.startswith("| mutual knn  ")
    assert f"{found.scores[0, 1]:.3f}" in raw
    assert repr(found).splitlines()[1:] == lines
    assert f"{found.calibrated[0, 1]:.3f}</td>" in found._repr_html_()
    with pytest.raises(ValueError, match=r"values='low' is none.*: scores, calibrated, p_values"):
        found.to_markdown(values="low")
    with pytest.raises(AttributeError):
        found.scores = found.calibrated


def test_it_is_reproducible():
    first, same, other = (
        alignment_matrix(NETS, X, n_neighbors=4, random_state=seed) for seed in (0, 0, 1)
    )
    assert_array_equal(first.null_means, same.null_means)
    assert not np.array_equal(first.null_means, other.null_means)
    assert_array_equal(first.scores, other.scores)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbones": [NET, NET]}, "more than once"),
        ({"metric": "rbf"}, "metric"),
        ({"n_neighbors": 18}, "n_neighbors"),
        ({"n_permutations": 5}, "n_permutations"),
        ({"embedder": RandomImages()}, "embedder"),
        ({"X": X[:1]}, "minimum of 2"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(wrong, message):
    params = {"backbones": NETS, "X": X, "n_neighbors": 4} | wrong
    with pytest.raises(ValueError, match=message):
        alignment_matrix(**params)


def test_plot():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = AlignmentMatrix("x", ("a",), ("b",), np.ones((1, 1)))
    _, ax = plt.subplots()
    assert found.plot(ax).ax_ is ax
    plt.close("all")
