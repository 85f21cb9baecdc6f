"""scikit-learn's callbacks: progress, a look at every step, early stopping."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.callback import ProgressBar
from sklearn.callback._callback_context import get_context_path
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklgm import FrozenBackboneProbe, LGMDistiller, NearestImages, RandomHeads, RandomImages
from tests.image_checks import fitted_names, toy_images
from tests.tiny_backbones import tiny_backbone

NET = tiny_backbone()
X, Y = toy_images()


def distiller(**params):
    settings = {"max_iter": 6, "heads": RandomHeads(4, 8), "n_views": 2, "random_state": 0}
    return LGMDistiller(NET, **(settings | params))


def probe(**params):
    settings = {"n_views": 3, "max_epochs": 5, "learning_rate": 0.05, "random_state": 0}
    return FrozenBackboneProbe(NET, **(settings | params))


class Recorder:
    """Remember every task that begins and ends; let estimators be looked at, or stopped."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.stop_at = stop_at
        self.begun, self.ended, self.estimators, self.sizes = [], [], [], []
        self.n_setups = self.n_teardowns = 0

    def setup(self, estimator, context):
        self.n_setups += 1

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(self.path(context))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, metadata):
        self.ended.append(self.path(context))
        if context.task_name == "batch":
            self.sizes.append(metadata["n_samples"])
        if fitted_estimator is not None:
            self.estimators.append(fitted_estimator)
        return context.task_name == "step" and context.task_id == self.stop_at

    @staticmethod
    def path(context):
        return "/".join(part.task_name for part in get_context_path(context))


def test_a_recorder_sees_every_step():
    recorder = Recorder()
    distiller(batch_size=8).set_callbacks(recorder).fit(X, Y)
    assert recorder.ended.count("fit/synthesis/step") == 6
    assert recorder.ended.count("fit/real-gradients/batch") == 3
    assert recorder.sizes == [8, 8, 2]
    assert sorted(recorder.begun) == sorted(recorder.ended)
    assert recorder.begun[0] == recorder.ended[-1] == "fit"
    assert recorder.n_setups == recorder.n_teardowns == 1


def test_callbacks_change_nothing():
    watched = distiller().set_callbacks(Recorder()).fit(X, Y)
    assert_array_equal(watched.prototypes_, distiller().fit(X, Y).prototypes_)


def test_the_estimator_at_a_step_is_usable():
    recorder = Recorder()
    fitted = distiller().set_callbacks(recorder).fit(X, Y)
    assert [estimator.n_iter_ for estimator in recorder.estimators] == [1, 2, 3, 4, 5, 6]
    for estimator in recorder.estimators:
        assert estimator.transform(X).shape == (len(X), 3)
    assert_array_equal(recorder.estimators[-1].prototypes_, fitted.prototypes_)
    assert np.abs(recorder.estimators[0].prototypes_ - fitted.prototypes_).max() > 1e-3
    assert fitted_names(fitted) == fitted_names(recorder.estimators[0])


def test_a_hook_that_returns_true_stops_the_fit():
    fitted = distiller().set_callbacks(Recorder(stop_at=2)).fit(X, Y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert fitted.prototypes_.shape == (3, 18, 18, 3)


def test_gradients_can_be_watched_too():
    recorder = Recorder(stop_at=1)
    gradients = distiller().compute_gradients(X, Y)
    assert distiller().set_callbacks(recorder).fit_gradients(gradients).n_iter_ == 2
    assert recorder.n_setups == recorder.n_teardowns == 1


@pytest.mark.parametrize("estimator", [distiller(), probe(), probe(distiller=distiller())])
def test_callbacks_are_torn_down_after_an_error(estimator):
    recorder = Recorder()
    with pytest.raises(ValueError, match="inconsistent"):
        estimator.set_callbacks(recorder).fit(X, Y[:-1])
    assert recorder.n_setups == recorder.n_teardowns
    assert not [name for name in vars(estimator) if "callback_fit_ctx" in name]
    assert not fitted_names(estimator)
    estimator.set_callbacks()


def test_a_callback_that_fails_fits_nothing():
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "step":
                raise ZeroDivisionError

    failing = Failing()
    estimator = distiller().set_callbacks(failing)
    with pytest.raises(ZeroDivisionError):
        estimator.fit(X, Y)
    assert not fitted_names(estimator)
    assert failing.n_teardowns == 1


def test_a_probe_passes_its_context_to_the_distiller():
    recorder = Recorder()
    estimator = probe(distiller=distiller()).set_callbacks(recorder).fit(X, Y)
    assert recorder.ended.count("fit/fit/synthesis/step") == 6
    assert "fit/head" in recorder.ended
    assert recorder.n_setups == recorder.n_teardowns == 1
    assert not hasattr(estimator.distiller_, "_skl_callbacks")
    assert not hasattr(estimator.distiller_, "_parent_callback_ctx")
    stopped = probe(distiller=distiller()).set_callbacks(Recorder(stop_at=1)).fit(X, Y)
    assert stopped.distiller_.n_iter_ == 2


def progress_of(estimator, y=Y):
    """Fit under a progress bar and return what it printed."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        estimator.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    return screen.getvalue()


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (probe(distiller=distiller()), {"distiller__learning_rate": [0.01, 0.03]}),
        (make_pipeline(distiller(), probe()), {"lgmdistiller__learning_rate": [0.01, 0.03]}),
    ],
    ids=["probe", "pipeline"],
)
def test_a_progress_bar_through_a_grid_search(estimator, grid):
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise")
    assert "LGMDistiller" in progress_of(search)
    assert search.best_score_ >= 0


def test_a_progress_bar_on_a_pipeline_of_two_steps():
    printed = progress_of(make_pipeline(distiller(), probe()))
    assert "LGMDistiller" in printed
    assert "FrozenBackboneProbe" in printed


def test_a_recorder_through_a_grid_search():
    recorder = Recorder()
    grid = {"distiller__learning_rate": [0.01, 0.03]}
    search = GridSearchCV(probe(distiller=distiller()), grid, cv=2, error_score="raise")
    search.set_callbacks(recorder).fit(X, Y)
    steps = [path for path in recorder.ended if path.endswith("synthesis/step")]
    assert len(steps) == 6 * (2 * 2 + 1)
    assert recorder.n_setups == recorder.n_teardowns == 1


def test_a_progress_bar_on_a_probe_with_a_selector():
    assert "RandomImages" in progress_of(probe(distiller=RandomImages(NET, random_state=0)))


def test_a_frozen_distiller_keeps_its_callbacks():
    fitted = distiller().set_callbacks(ProgressBar()).fit(X, Y)
    frozen = FrozenEstimator(fitted)
    recorder = Recorder()
    for owner in (probe(distiller=frozen), NearestImages(frozen)):
        owner.set_callbacks(recorder).fit(X, Y)
        assert owner.distiller_ is frozen
    assert recorder.ended.count("fit/distil") == 2
    assert isinstance(fitted._skl_callbacks[0], ProgressBar)
    assert not hasattr(fitted, "_parent_callback_ctx")


def test_an_estimator_with_callbacks_pickles():
    fitted = distiller().set_callbacks(Recorder()).fit(X, Y)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).prototypes_, fitted.prototypes_)
