"""Distillers and probes inside scikit-learn's pipelines, searches and cross-validation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklgm import (
    BackboneEmbedder,
    ClassCentroids,
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    Pyramid,
    RandomHeads,
    RandomImages,
)
from tests.image_checks import save_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()
X_TEST, Y_TEST = toy_images(n_per_class=10, seed=5)


def distiller(backbone=NET, **params):
    settings = {
        "max_iter": 10,
        "heads": RandomHeads(4, 8),
        "n_views": 2,
        "n_real_views": 1,
        "random_state": 0,
    }
    return LGMDistiller(backbone, **(settings | params))


def probe(backbone=NET, **params):
    settings = {"n_views": 5, "max_epochs": 30, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


@pytest.fixture(params=["arrays", "paths"])
def images(request, tmp_path):
    return X if request.param == "arrays" else save_images(X, tmp_path)


# ---------------------------------------------------------------- the two-step pipeline


@pytest.mark.parametrize("other", [NET, tiny_backbone(image_size=24, seed=1, n_features=12)])
@pytest.mark.parametrize(
    "maker",
    [
        distiller(),
        RandomImages(NET, random_state=0),
        ClassCentroids(NET),
        NearestImages(distiller()),
    ],
)
def test_it_is_the_probe_with_a_distiller(maker, other, images):
    pipeline = make_pipeline(maker, probe(other)).fit(images, Y)
    whole = probe(other, distiller=maker).fit(images, Y)
    for method in ("predict", "predict_proba", "decision_function"):
        assert_array_equal(getattr(pipeline, method)(X_TEST), getattr(whole, method)(X_TEST))
    assert pipeline.score(X_TEST, Y_TEST) == whole.score(X_TEST, Y_TEST)


def test_it_learns():
    maker = distiller(max_iter=150, n_views=4, heads=RandomHeads(pool_size=32))
    pipeline = make_pipeline(maker, probe(max_epochs=60)).fit(X, Y)
    assert pipeline.score(X_TEST, Y_TEST) > 0.75  # chance: a third


def test_the_probe_is_trained_on_the_prototypes_alone():
    net = counting_backbone()
    make_pipeline(distiller(), probe(net)).fit(X, Y)
    assert net.module.n_images == 5 * 3
    pipeline = make_pipeline(distiller(), probe(head=KNeighborsClassifier(), n_views=4)).fit(X, Y)
    assert pipeline[-1].head_.n_samples_fit_ == 4 * 3


def test_the_images_are_embedded_once():
    net = counting_backbone()
    pipeline = make_pipeline(distiller(net), probe(net)).fit(X, Y)
    net.module.reset()
    pipeline.predict(X_TEST)
    assert net.module.n_images == len(X_TEST)


def test_two_nets_embed_the_images_once_each():
    first, second = counting_backbone(), counting_backbone(seed=1)
    pipeline = make_pipeline(distiller(first), probe(second)).fit(X, Y)
    first.module.reset()
    second.module.reset()
    pipeline.predict(X_TEST)
    assert first.module.n_images == second.module.n_images == len(X_TEST)


def test_cross_validation(images):
    pipeline = make_pipeline(distiller(), probe())
    scores = cross_val_score(pipeline, images, Y, cv=3, error_score="raise")
    whole = cross_val_score(probe(distiller=distiller()), images, Y, cv=3, error_score="raise")
    assert_array_equal(scores, whole)


def test_grid_search(images):
    pipeline = make_pipeline(distiller(), probe())
    grid = {"lgmdistiller__learning_rate": [1e-9, 0.05], "frozenbackboneprobe__n_views": [3]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(images, Y)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    assert search.predict(images).shape == (len(X),)
    probabilities = search.predict_proba(images)
    assert_array_equal(search.classes_[probabilities.argmax(axis=1)], search.predict(images))


def test_other_classifiers_learn_from_the_similarities(images):
    pipeline = make_pipeline(distiller(), LogisticRegression(C=100))
    assert cross_val_score(pipeline, images, Y, cv=3, error_score="raise").mean() > 0.8
    by_hand = LogisticRegression(C=100).fit(np.array(distiller().fit(X, Y).transform(X)), Y)
    similarities = np.array(distiller().fit(X, Y).transform(X_TEST))
    assert_array_equal(pipeline.fit(images, Y).predict(X_TEST), by_hand.predict(similarities))


def test_a_probe_without_backbone_learns_from_the_similarities():
    pipeline = make_pipeline(distiller(), probe(None)).fit(X, Y)
    assert pipeline[-1].n_features_in_ == 3
    assert set(pipeline.predict(X_TEST)) <= set("abc")


def test_rows_through_both():
    rows = BackboneEmbedder(NET).fit_transform(X)
    maker = distiller(None, max_iter=100)
    pipeline = make_pipeline(maker, probe(None)).fit(rows, Y)
    whole = probe(None, distiller=maker).fit(rows, Y)
    assert_array_equal(pipeline.predict_proba(rows), whole.predict_proba(rows))


def test_a_cached_pipeline(tmp_path, images):
    net = counting_backbone()
    pipeline = make_pipeline(distiller(net), probe(net), memory=str(tmp_path / "cache"))
    first = pipeline.fit(images, Y).predict_proba(X_TEST)
    net.module.reset()
    # The second fit takes the similarities, with what they refer to, from the cache.
    pipeline.fit(images, Y)
    assert net.module.n_images == 5 * 3
    assert_array_equal(pipeline.predict_proba(X_TEST), first)
    plain = make_pipeline(distiller(net), probe(net)).fit(images, Y)
    assert_array_equal(plain.predict_proba(X_TEST), first)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y[:-1], "inconsistent numbers of samples"),
        (lambda y: None, "requires y"),
        (lambda y: np.char.add(y, "s"), "classes"),
        (lambda y: np.where(y == y[0], y[-1], y), "classes"),
        (lambda y: np.unique(y, return_inverse=True)[1], "classes"),
    ],
    ids=["too few", "none", "others", "one left out", "numbers"],
)
def test_labels_must_be_those_of_the_prototypes(labels, message):
    similarities = distiller().fit(X, Y).transform(X)
    with pytest.raises(ValueError, match=message):
        probe().fit(similarities, labels(np.asarray(Y)))


@pytest.mark.parametrize(
    "pipeline",
    [
        make_pipeline(distiller(), probe()).set_output(transform="pandas"),
        make_pipeline(distiller(), StandardScaler(), probe()),
    ],
    ids=["set_output", "a step between"],
)
def test_lost_references_are_an_error_with_a_way_out(pipeline):
    with pytest.raises(ValueError, match="directly before the probe, or use distiller="):
        pipeline.fit(X, Y)


def test_slices_are_an_error_with_a_way_out():
    similarities = distiller().fit(X, Y).transform(X)
    for lost in (similarities[:9], similarities + 0, np.array(similarities), similarities.copy()):
        with pytest.raises(ValueError, match="directly before the probe, or use distiller="):
            probe().fit(lost, Y)
    fitted = probe().fit(similarities, Y)
    with pytest.raises(ValueError, match="directly before the probe, or use distiller="):
        fitted.predict(similarities[:9])


def test_two_distillers_are_one_too_many():
    with pytest.raises(ValueError, match="Leave one of them out"):
        make_pipeline(distiller(), probe(distiller=distiller())).fit(X, Y)


# ---------------------------------------------------------------- searches


def test_a_search_over_what_is_nested():
    maker = distiller(parametrization=Pyramid())
    grid = {
        "distiller__parametrization__start_size": [1, 4],
        "distiller__prototypes_per_class": [1, 2],
    }
    search = GridSearchCV(probe(distiller=maker), grid, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_params_
    fitted = search.best_estimator_.distiller_
    assert fitted.parametrization.start_size == best["distiller__parametrization__start_size"]
    assert len(fitted.prototypes_) == 3 * best["distiller__prototypes_per_class"]


def test_a_search_over_kinds_of_prototypes():
    grid = {"distiller": [None, distiller(), RandomImages(NET, random_state=0)]}
    search = GridSearchCV(probe(), grid, cv=2, error_score="raise").fit(X, Y)
    assert search.cv_results_["mean_test_score"][0] > 0.8


def test_memory_pays_the_real_pass_once_a_fold(tmp_path):
    def images_seen(memory, random_state):
        net = counting_backbone()
        maker = distiller(net, memory=memory, random_state=random_state)
        grid = {
            "distiller__learning_rate": [0.01, 0.03],
            "distiller__parametrization": ["pixels", "pyramid"],
        }
        GridSearchCV(probe(distiller=maker), grid, cv=2, refit=False, error_score="raise").fit(X, Y)
        return net.module.n_images

    real = 2 * 9  # the centre crop and one random view of a fold's training images
    synthetic = 10 * 3 * 3 + 3  # views of three prototypes in ten steps, and the prototypes
    n_fits = 2 * 4
    assert images_seen(None, 0) == n_fits * (real + synthetic)
    assert images_seen(tmp_path, 0) == 2 * real + n_fits * synthetic
    assert images_seen(tmp_path, 0) == n_fits * synthetic
    assert images_seen(tmp_path, None) == n_fits * (real + synthetic)


def test_a_search_over_distillation_and_backbones(tmp_path):
    # Equal nets of other weights; the first two distil, the other two are probed.
    makers = [counting_backbone(seed=seed) for seed in (0, 1)]
    probed = [counting_backbone(seed=seed) for seed in (2, 3)]
    grid = {
        "backbone": probed,
        "distiller__backbone": makers,
        "distiller__prototypes_per_class": [1, 2],
    }
    estimator = probe(distiller=distiller(memory=tmp_path), memory=tmp_path)
    search = GridSearchCV(estimator, grid, cv=2, refit=False, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 8
    per_class = 1 + 2  # prototypes of the two settings
    for net in makers:
        real = 2 * 2 * 9  # folds, views of each image, images of a fold
        synthetic = 2 * 2 * per_class * 3 * (10 * 3 + 1)  # folds, candidates, classes, steps
        assert net.module.n_images == real + synthetic
    for net in probed:
        test = len(X)  # each fold's, once
        assert net.module.n_images == test + 2 * 2 * per_class * 3 * 5


def test_a_search_in_other_processes():
    grid = {"backbone": [NET, tiny_backbone(image_size=24, seed=1)]}
    estimator = probe(distiller=distiller(max_iter=4), max_epochs=5)
    alone = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, Y)
    shared = GridSearchCV(estimator, grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    for name, values in alone.cv_results_.items():
        if name.endswith("test_score"):
            assert_array_equal(values, shared.cv_results_[name])
    assert_array_equal(alone.predict_proba(X_TEST), shared.predict_proba(X_TEST))


@pytest.mark.parametrize(
    "changed",
    [
        {"random_state": 1},
        {"class_weight": None},
        {"n_real_views": 2},
        {"augmentation": None},
        {"heads": RandomHeads(4, 9)},
        {"heads": RandomHeads(4, 8, 0.1)},
    ],
    ids=str,
)
def test_memory_knows_what_the_real_pass_depends_on(changed, tmp_path):
    images, labels = X[2:], Y[2:]
    distiller(memory=tmp_path).fit(images, labels)
    cached = distiller(memory=tmp_path, **changed).fit(images, labels)
    assert_array_equal(cached.prototypes_, distiller(**changed).fit(images, labels).prototypes_)


def test_memory_knows_the_data_and_the_net(tmp_path):
    distiller(memory=tmp_path).fit(X, Y)
    other = tiny_backbone(seed=1)
    for backbone, images, labels in (
        (NET, X[::-1], Y[::-1]),
        (NET, 255 - X, Y),
        (NET, X, np.roll(Y, 1)),
        (NET, X, np.where(Y == "a", "z", Y)),
        (other, X, Y),
    ):
        cached = distiller(backbone, memory=tmp_path).fit(images, labels)
        plain = distiller(backbone).fit(images, labels)
        assert_array_equal(cached.prototypes_, plain.prototypes_)
        assert_array_equal(cached.prototype_labels_, plain.prototype_labels_)


def test_memory_on_rows(tmp_path):
    rows = BackboneEmbedder(NET).fit_transform(X)
    expected = distiller(None).fit(rows, Y).prototypes_
    for _ in range(2):
        assert_array_equal(distiller(None, memory=tmp_path).fit(rows, Y).prototypes_, expected)
    other = distiller(None, memory=tmp_path).fit(rows + 1, Y)
    assert np.abs(other.prototypes_ - expected).max() > 0.1


def test_cross_val_predict(images):
    predicted = cross_val_predict(probe(distiller=distiller()), images, Y, cv=3)
    assert predicted.shape == Y.shape
    assert set(predicted) <= set(Y)
    probabilities = cross_val_predict(
        make_pipeline(distiller(), probe()), images, Y, cv=3, method="predict_proba"
    )
    assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_other_processes_give_the_same_scores():
    estimator = probe(distiller=distiller())
    alone = cross_val_score(estimator, X, Y, cv=2, error_score="raise")
    shared = cross_val_score(estimator, X, Y, cv=2, n_jobs=2, error_score="raise")
    assert_array_equal(alone, shared)
