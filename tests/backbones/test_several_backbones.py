"""One set of prototypes for several backbones."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklgm import (
    Backbone,
    BackboneEmbedder,
    FrozenBackboneProbe,
    LGMDistiller,
    PrototypeSet,
    Pyramid,
    RandomHeads,
    RandomImages,
    RealGradients,
)
from sklgm.plotting import EmbeddingDisplay, PrototypesDisplay
from tests.estimators.test_callbacks import Recorder
from tests.image_checks import (
    IMAGE_CHECKS,
    check_backbone_is_left_alone,
    check_clone_is_unfitted,
    fitted_names,
    toy_images,
)
from tests.tiny_backbones import CountingNet, TinyConvNet, counting_backbone, tiny_backbone


def named_backbone(name, image_size=16, seed=0, n_features=16):
    net = CountingNet(TinyConvNet(n_features, seed))
    return Backbone.from_module(net, image_size=image_size, mean=0.5, std=0.25, name=name)


SMALL = named_backbone("small", image_size=14, seed=1, n_features=10)
LARGE = named_backbone("large", image_size=21)
X, Y = toy_images()
N_CLASSES = 3


def distiller(backbone=(SMALL, LARGE), **params):
    """Make a distiller; a tuple stands for a list."""
    settings = {
        "max_iter": 10,
        "heads": RandomHeads(4, 8),
        "n_views": 2,
        "n_real_views": 1,
        "random_state": 0,
    }
    backbone = list(backbone) if isinstance(backbone, tuple) else backbone
    return LGMDistiller(backbone, **(settings | params))


def probe(backbone, **params):
    settings = {"n_views": 3, "max_epochs": 5, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(backbone, **(settings | params))


def centre_features(backbone, prototypes):
    """Features of prototypes as a distiller with that backbone alone would have them."""
    return distiller(backbone)._encoder().embed_canvases(prototypes)


def loss_on(backbone, prototypes):
    """Angular distance of centre crops to clean images, over all heads."""
    alone = distiller(backbone, augmentation=None)
    gradients = alone.compute_gradients(X, Y)
    rows = torch.from_numpy(centre_features(backbone, prototypes))
    found = RealGradients(gradients.classes, head_pool_size=8, head_seed=gradients.head_seed)
    found.update(rows, gradients.classes)
    cosine = torch.nn.functional.cosine_similarity(
        found.sums.flatten(1), gradients.sums.flatten(1), dim=1
    )
    return float(1 - cosine.mean())


# ---------------------------------------------------------------- the fit


@pytest.mark.parametrize(
    "params",
    [{}, {"batch_size": 3}, {"augmentation": None}, {"matching": "row", "image_size": 14}],
    ids=str,
)
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_one_is_that_backbone(kind, params):
    alone = distiller(SMALL, **params).fit(X, Y)
    listed = distiller(**params).set_params(backbone=kind([SMALL])).fit(X, Y)
    for name in ("prototypes_", "prototype_features_", "loss_curve_", "classes_"):
        assert_array_equal(getattr(listed, name), getattr(alone, name))
    assert_array_equal(np.array(listed.transform(X)), np.array(alone.transform(X)))


def test_the_canvas_is_the_largest():
    fitted = distiller(prototypes_per_class=2).fit(X, Y)
    assert fitted.prototypes_.shape == (6, 24, 24, 3)
    assert fitted.prototype_features_.shape == (6, 10)
    assert distiller((LARGE, SMALL)).fit(X, Y).prototype_features_.shape == (3, 16)


def test_the_loss_is_the_sum_of_the_losses():
    # A step too small to move anything: the losses of the same start on the same views.
    params = {"max_iter": 3, "learning_rate": 1e-12}
    twin = named_backbone("twin", image_size=21, seed=2, n_features=7)
    alone = [distiller(net, **params).fit(X, Y).loss_curve_ for net in (LARGE, twin)]
    joint = distiller((LARGE, twin), **params).fit(X, Y).loss_curve_
    assert_allclose(joint, sum(alone), rtol=1e-5)


def test_the_loss_falls_on_both():
    def fit(**params):
        # From grey: mean images, the usual start, leave these toys little to gain.
        estimator = distiller(**params)
        gradients = estimator.compute_gradients(X, Y)
        for one in gradients:
            one.images_seen[:] = 0
        return estimator.fit_gradients(gradients)

    fitted = fit(max_iter=100, n_views=4)
    assert fitted.loss_curve_[-10:].mean() < 0.3 * fitted.loss_curve_[:10].mean()
    start = fit(max_iter=1, learning_rate=1e-12)
    for backbone in (SMALL, LARGE):
        before, after = (loss_on(backbone, d.prototypes_) for d in (start, fitted))
        assert after < 0.5 * before
        images, labels = toy_images(n_per_class=20, seed=5)
        nearest = np.asarray(fitted.transform(images, backbone=backbone)).argmax(axis=1)
        assert (fitted.prototype_labels_[nearest] == labels).mean() > 0.6  # chance: a third


def test_another_backbone_changes_the_prototypes():
    joint, alone = (distiller(b).fit(X, Y).prototypes_ for b in ((SMALL, LARGE), LARGE))
    assert np.abs(joint - alone).mean() > 1e-3


def test_the_order_matters_only_for_transform():
    there, back = (distiller(nets).fit(X, Y) for nets in ((SMALL, LARGE), (LARGE, SMALL)))
    assert_allclose(back.loss_curve_, there.loss_curve_, rtol=1e-5)
    assert_allclose(back.prototypes_, there.prototypes_, atol=1e-4)
    for backbone in (SMALL, LARGE):
        asked = (np.array(d.transform(X, backbone=backbone)) for d in (there, back))
        assert_allclose(*asked, atol=1e-3)
    assert there.prototype_features_.shape != back.prototype_features_.shape


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_the_batch_size_changes_nothing_and_is_kept(batch_size):
    nets = counting_backbone(), counting_backbone(image_size=21, seed=1)
    # Of one random view, a gradient near zero has its sign by rounding, which Adam amplifies; of
    # two it is rarer, but some processors round by batch size too.
    expected = distiller(nets, n_real_views=2).fit(X, Y)
    for net in nets:
        net.module.reset()
    fitted = distiller(nets, n_real_views=2, batch_size=batch_size).fit(X, Y)
    assert_allclose(fitted.prototypes_, expected.prototypes_, atol=1e-3)
    assert max(net.module.largest_batch for net in nets) <= batch_size


def test_three_backbones():
    third = named_backbone("third", image_size=16, seed=3, n_features=5)
    fitted = distiller((SMALL, third, LARGE)).fit(X, Y)
    assert fitted.transform(X, backbone="third").shape == (len(X), N_CLASSES)
    assert 0 < fitted.loss_curve_.max() < 6


def test_the_image_size_is_of_every_net():
    pair = named_backbone("one", image_size=18), named_backbone("two", image_size=18, seed=1)
    assert distiller(pair, image_size=18).fit(X, Y).prototypes_.shape[1] == 20
    with pytest.raises(ValueError, match="image_size=14"):
        distiller(image_size=21).fit(X, Y)


def test_a_loss_that_is_not_finite_fits_nothing():
    class Broken(TinyConvNet):
        def forward(self, images):
            features = super().forward(images)
            return features * torch.inf if images.requires_grad else features

    broken = Backbone.from_module(Broken(), image_size=16, name="broken")
    estimator = distiller((SMALL, broken))
    with pytest.raises(ValueError, match="not finite at step 0"):
        estimator.fit(X, Y)
    assert not fitted_names(estimator)


def test_a_start_size_is_checked_against_the_largest_canvas():
    distiller(parametrization=Pyramid(start_size=24)).fit(X, Y)
    with pytest.raises(ValueError, match="start_size"):
        distiller(parametrization=Pyramid(start_size=25)).fit(X, Y)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ([], "empty list.*one or more names or Backbones"),
        ((), "empty list"),
        ([SMALL, None], "a name or a Backbone.* got None"),
        ([SMALL, 3], "a name or a Backbone.* got 3"),
        ([SMALL, [LARGE]], r"a name or a Backbone.* got \[Backbone"),
        ([SMALL, LARGE, SMALL], r"backbone\[0\] and backbone\[2\] are the same.*Leave one"),
        ([tiny_backbone(), tiny_backbone()], r"backbone\[0\] and backbone\[1\] are the same"),
        (["efficientnet_lite0", Backbone.from_name("efficientnet_lite0")], "are the same"),
        ([SMALL, "no such net"], "no such net"),
        ({SMALL}, "The 'backbone' parameter of LGMDistiller must be"),
    ],
    ids=str,
)
def test_lists_that_say_nothing_clear(backbone, message):
    estimator = distiller().set_params(backbone=backbone)
    for method in (estimator.fit, estimator.compute_gradients):
        with pytest.raises(ValueError, match=message):
            method(X, Y)
    assert not fitted_names(estimator)


def test_a_list_is_refused_before_any_pass():
    net = counting_backbone()
    with pytest.raises(ValueError, match="None"):
        distiller((net, None)).fit(X, Y)
    assert net.module.n_images == 0


@pytest.mark.parametrize("estimator", [FrozenBackboneProbe(), RandomImages(), BackboneEmbedder()])
def test_other_estimators_take_one(estimator):
    with pytest.raises(ValueError, match="The 'backbone' parameter of"):
        estimator.set_params(backbone=[SMALL, LARGE]).fit(X, Y)


# ---------------------------------------------------------------- transform


@pytest.fixture(scope="module")
def fitted():
    return distiller().fit(X, Y)


@pytest.mark.parametrize(
    ("asked", "backbone"),
    [(None, SMALL), ("small", SMALL), (SMALL, SMALL), ("large", LARGE), (LARGE, LARGE)],
)
def test_transform_compares_in_the_backbone_asked_for(fitted, asked, backbone):
    before = dict(vars(fitted))
    similarities = fitted.transform(X, backbone=asked)
    features = BackboneEmbedder(backbone).fit_transform(X)
    prototypes = centre_features(backbone, fitted.prototypes_)
    assert_allclose(np.array(similarities), cosine_similarity(features, prototypes), atol=1e-5)
    assert_array_equal(similarities.features, features)
    assert vars(fitted) == before


def test_an_equal_backbone_will_do(fitted):
    copied = pickle.loads(pickle.dumps(LARGE))
    assert copied is not LARGE
    assert_array_equal(
        np.array(fitted.transform(X, backbone=copied)),
        np.array(fitted.transform(X, backbone=LARGE)),
    )


@pytest.mark.parametrize("asked", ["medium", "clip", tiny_backbone(), 3])
def test_other_backbones_are_refused(fitted, asked):
    for method, arguments in ((fitted.transform, (X,)), (distiller().fit_transform, (X, Y))):
        with pytest.raises(ValueError, match=r"none of those distilled on.*'small'.*'large'"):
            method(*arguments, backbone=asked)


def test_a_name_that_two_backbones_have():
    pair = tiny_backbone(), tiny_backbone(seed=1)
    estimator = distiller(pair).fit(X, Y)
    with pytest.raises(ValueError, match=r"'tiny' is several of .*one of these objects"):
        estimator.transform(X, backbone="tiny")
    expected = cosine_similarity(
        BackboneEmbedder(pair[1]).fit_transform(X), centre_features(pair[1], estimator.prototypes_)
    )
    assert_allclose(np.array(estimator.transform(X, backbone=pair[1])), expected, atol=1e-5)


@pytest.mark.parametrize("asked", [None, "small", "large"])
def test_another_net_under_the_same_name_is_refused(asked):
    other = named_backbone("large", image_size=21, seed=5)
    estimator = distiller().fit(X, Y).set_params(backbone=[SMALL, other])
    if asked == "large":
        with pytest.raises(ValueError, match="fitted on other weights"):
            estimator.transform(X, backbone=asked)
    else:
        estimator.transform(X, backbone=asked)


def test_a_net_added_after_the_fit_is_refused():
    added = named_backbone("added", image_size=21, seed=5)
    estimator = distiller().fit(X, Y).set_params(backbone=[SMALL, LARGE, added])
    with pytest.raises(ValueError, match="fitted on other weights"):
        estimator.transform(X, backbone="added")


def test_a_distiller_with_one_backbone_takes_its_own():
    estimator = distiller(SMALL).fit(X, Y)
    plain = np.array(estimator.transform(X))
    assert_array_equal(np.array(estimator.transform(X, backbone="small")), plain)
    with pytest.raises(ValueError, match="none of those"):
        estimator.transform(X, backbone=LARGE)
    rows = distiller(None).fit(X.reshape(len(X), -1)[:, :5] / 255, Y)
    with pytest.raises(ValueError, match="cannot compare rows of X"):
        rows.transform(X.reshape(len(X), -1)[:, :5] / 255, backbone="small")


def test_transform_runs_no_other_net():
    first, second = counting_backbone(), counting_backbone(seed=1)
    estimator = distiller((first, second)).fit(X, Y)
    for asked, counts in ((None, (18, 0)), (first, (18, 0)), (second, (0, 18 + 3))):
        first.module.reset()
        second.module.reset()
        estimator.transform(X, backbone=asked)
        assert (first.module.n_images, second.module.n_images) == counts


def test_fit_transform():
    whole = distiller().fit_transform(X, Y, backbone="large")
    assert_array_equal(
        np.array(whole), np.array(distiller().fit(X, Y).transform(X, backbone=LARGE))
    )
    frame = distiller().set_output(transform="pandas").fit_transform(X, Y, backbone="large")
    assert frame.columns.tolist() == [f"lgmdistiller{i}" for i in range(3)]
    assert_array_equal(frame.to_numpy(), np.array(whole))


def test_metadata_routing_reaches_transform():
    expected = make_pipeline(distiller((LARGE, SMALL)), LogisticRegression(C=100)).fit(X, Y)
    with config_context(enable_metadata_routing=True):
        routed = distiller().set_transform_request(backbone=True)
        pipeline = make_pipeline(routed, LogisticRegression(C=100)).fit(X, Y, backbone="large")
        found = pipeline.decision_function(X, backbone="large")
        assert_allclose(found, expected.decision_function(X), atol=0.05)
        assert pipeline.decision_function(X).shape == found.shape


# ---------------------------------------------------------------- gradients


def test_gradients_go_round():
    estimator = distiller()
    gradients = estimator.compute_gradients(X, Y)
    assert [one.backbone for one in gradients] == ["small", "large"]
    for one, backbone in zip(gradients, (SMALL, LARGE), strict=True):
        assert torch.equal(one.sums, distiller(backbone).compute_gradients(X, Y).sums)
    again = clone(estimator).fit_gradients(gradients)
    assert_array_equal(again.prototypes_, estimator.fit(X, Y).prototypes_)
    assert_array_equal(
        clone(estimator).fit_gradients(tuple(gradients)).loss_curve_, again.loss_curve_
    )


def test_shards_are_added_backbone_by_backbone():
    estimator = distiller(n_real_views=0)
    given = {"classes": ["a", "b", "c"], "class_counts": [6, 6, 6]}
    shards = [estimator.compute_gradients(X[i::3], Y[i::3], **given) for i in range(3)]
    summed = clone(estimator).fit_gradients([sum(parts) for parts in zip(*shards, strict=True)])
    assert_allclose(summed.prototypes_, estimator.fit(X, Y).prototypes_, atol=1e-4)


def test_gradients_of_a_list_of_one():
    estimator = distiller((SMALL,))
    gradients = estimator.compute_gradients(X, Y)
    assert isinstance(gradients, list)
    assert_array_equal(
        clone(estimator).fit_gradients(gradients).prototypes_,
        distiller(SMALL).fit_gradients(gradients[0]).prototypes_,
    )


def test_gradients_that_do_not_fit_are_refused():
    small, large = distiller().compute_gradients(X, Y)
    wide = distiller(LARGE, heads=RandomHeads(pool_size=9)).compute_gradients(X, Y)
    fewer = distiller(LARGE).compute_gradients(X[Y != "a"], Y[Y != "a"])
    twins = tiny_backbone(), tiny_backbone(seed=1)
    order = r"of the backbones \['small', 'large'\], in that order; got those of"
    for given, backbone, message in (
        (small, (SMALL, LARGE), "must be a list of RealGradients; got RealGradients"),
        ([], (SMALL, LARGE), order),
        ([small, None], (SMALL, LARGE), "must be a list of RealGradients"),
        ([small], (SMALL, LARGE), order),
        ([small, large, large], (SMALL, LARGE), order),
        ([large, small], (SMALL, LARGE), order),
        ([small, wide], (SMALL, LARGE), r"differ in head_pool_size: \[8, 9\]"),
        ([small, fewer], (SMALL, LARGE), "differ in classes"),
        ([small], SMALL, r"must be a RealGradients; got \["),
        (distiller(twins[::-1]).compute_gradients(X, Y), twins, "made with views"),
    ):
        estimator = distiller(backbone)
        with pytest.raises(ValueError, match=message):
            estimator.fit_gradients(given)
        assert not fitted_names(estimator)


def test_memory_is_shared_by_joint_and_single_fits(tmp_path):
    nets = first, second = counting_backbone(), counting_backbone(image_size=21, seed=1)

    def real_images(backbone, **params):
        for net in nets:
            net.module.reset()
        distiller(backbone, memory=tmp_path, max_iter=1, **params).fit(X, Y)
        synthetic = 3 * N_CLASSES  # in one step, a crop and two views of each prototype
        used = backbone if isinstance(backbone, tuple) else (backbone,)
        used[0].module.n_images -= N_CLASSES  # prototype_features_
        return [net.module.n_images - synthetic if net in used else 0 for net in nets]

    real = 2 * len(X)
    assert real_images(first) == [real, 0]
    assert real_images((first, second)) == [0, real]
    assert real_images((second, first)) == [0, 0]
    assert real_images(second) == [0, 0]
    assert real_images((first, second), random_state=1) == [real, real]


# ---------------------------------------------------------------- with everything else


def test_callbacks_see_one_task_a_backbone():
    recorder = Recorder()
    distiller(batch_size=8).set_callbacks(recorder).fit(X, Y)
    assert recorder.ended.count("fit/real-gradients") == 2
    assert recorder.ended.count("fit/real-gradients/batch") == 2 * 3
    assert recorder.ended.count("fit/synthesis/step") == 10
    assert sorted(recorder.begun) == sorted(recorder.ended)
    assert recorder.n_setups == recorder.n_teardowns == 1


def test_the_root_knows_how_many_tasks_there_are():
    class Counter(Recorder):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "fit":
                self.max_subtasks = context.max_subtasks

    counts = []
    for backbone in (SMALL, (SMALL,), (SMALL, LARGE)):
        counter = Counter()
        distiller(backbone, max_iter=1).set_callbacks(counter).fit(X, Y)
        counts.append(counter.max_subtasks)
    assert counts == [2, 2, 3]


def test_a_probe_of_any_backbone_trains_on_the_prototypes():
    maker, other = distiller(), tiny_backbone(image_size=18, seed=7)
    for backbone in (SMALL, LARGE, other):
        whole = probe(backbone, distiller=maker).fit(X, Y)
        pipeline = make_pipeline(maker, probe(backbone)).fit(X, Y)
        assert_array_equal(whole.distiller_.prototypes_, pipeline[0].prototypes_)
        assert_array_equal(whole.predict_proba(X), pipeline.predict_proba(X))


@pytest.mark.parametrize(
    "grid",
    [
        [SMALL, [SMALL, LARGE]],
        [[SMALL, LARGE], [LARGE, SMALL]],
        [SMALL, LARGE, (SMALL, LARGE), [LARGE]],
    ],
    ids=["one and two", "two orders", "all kinds"],
)
def test_a_grid_search_over_backbones(grid):
    estimator = probe(SMALL, distiller=distiller(SMALL, max_iter=2))
    search = GridSearchCV(estimator, {"distiller__backbone": grid}, cv=2, error_score="raise")
    search.fit(X, Y)
    assert list(search.cv_results_["param_distiller__backbone"]) == grid
    assert search.best_estimator_.distiller_.backbone == search.best_params_["distiller__backbone"]
    pipeline = make_pipeline(distiller(SMALL, max_iter=2), probe(SMALL))
    search = GridSearchCV(pipeline, {"lgmdistiller__backbone": grid}, cv=2, error_score="raise")
    assert len(search.fit(X, Y).cv_results_["params"]) == len(grid)


@pytest.mark.real
def test_a_grid_search_over_names():
    params = {"image_size": 32, "max_iter": 1, "n_real_views": 0, "n_views": 1}
    name = "efficientnet_lite0"
    grid = [name, [name], [name, tiny_backbone(image_size=32)]]
    estimator = probe(SMALL, distiller=distiller(name, **params))
    search = GridSearchCV(estimator, {"distiller__backbone": grid}, cv=2, error_score="raise")
    scores = search.fit(X, Y).cv_results_["mean_test_score"]
    assert scores[0] == scores[1]
    assert scores.shape == (3,)


def test_clones_share_the_nets(fitted):
    copy = clone(fitted)
    assert copy.backbone is not fitted.backbone
    assert all(a is b for a, b in zip(copy.backbone, fitted.backbone, strict=True))
    assert_array_equal(copy.fit(X, Y).prototypes_, fitted.prototypes_)


def test_pickles(fitted):
    loaded = pickle.loads(pickle.dumps(fitted))
    for asked in (None, "small", "large"):
        assert_array_equal(
            np.array(loaded.transform(X, backbone=asked)),
            np.array(fitted.transform(X, backbone=asked)),
        )
    assert_array_equal(loaded.fit(X, Y).prototypes_, fitted.prototypes_)


@pytest.mark.real
def test_weights_of_named_backbones_do_not_travel():
    # The same net at two sizes sees two things.
    nets = tuple(Backbone.from_name("efficientnet_lite0", image_size=size) for size in (32, 64))
    estimator = distiller(nets, max_iter=1, n_views=1, n_real_views=0)
    assert len(pickle.dumps(estimator.fit(X, Y))) - estimator.prototypes_.nbytes < 100_000


def test_provenance_names_every_backbone(fitted):
    given = PrototypeSet.from_estimator(fitted).provenance["parameters"]["backbone"]
    assert given == [repr(SMALL), repr(LARGE)]
    assert "small" in given[0]


def test_displays(fitted):
    import matplotlib.pyplot as plt

    display = EmbeddingDisplay.from_estimator(fitted, X, Y)
    assert display.embedding.shape == (len(X), 2)
    assert len(PrototypesDisplay.from_estimator(fitted).axes_) == N_CLASSES
    plt.close("all")


# The other two look at the one backbone.
CHECKS = [
    c for c in IMAGE_CHECKS if c not in (check_backbone_is_left_alone, check_clone_is_unfitted)
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_image_checks(check):
    check(distiller(), X, Y)
