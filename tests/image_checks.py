"""Twins of scikit-learn's estimator checks, for estimators whose X are images.

`check_estimator` feeds rows of numbers, so with an image backbone it would skip nearly everything.
Each function here takes an unfitted estimator, X (uint8 images) and y, and mirrors the check of
the same name in `sklearn.utils.estimator_checks` where there is one.
"""

import inspect
import pickle
import random

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

METHODS = ("transform", "predict", "predict_proba", "decision_function")


def toy_images(n_per_class=6, n_classes=3, size=20, seed=0):
    """Make noisy uint8 images whose class is their colour, and labels "a", "b", ..., shuffled."""
    rng = np.random.default_rng(seed)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    classes = np.repeat(np.arange(n_classes), n_per_class)
    rng.shuffle(classes)
    noise = rng.integers(-50, 50, (len(classes), size, size, 3))
    X = (colours[classes][:, None, None, :] + noise).clip(0, 255).astype(np.uint8)
    return X, np.array(list("abcd"))[classes]


def hard_images():
    """Make the toy images under so much noise that they are hard to tell apart."""
    X, _ = toy_images()
    noise = np.random.default_rng(0).integers(0, 256, X.shape, dtype=np.uint8)
    return (0.2 * X + 0.8 * noise).astype(np.uint8)


def save_images(X, folder):
    """Write images as PNG files and return their paths, as strings."""
    paths = [folder / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    return [str(path) for path in paths]


def outputs(estimator, X):
    """Return what every method of a fitted estimator makes of X, as plain arrays."""
    found = {
        name: np.array(getattr(estimator, name)(X)) for name in METHODS if hasattr(estimator, name)
    }
    assert found
    return found


def assert_same_outputs(estimator, other, X, *, exact=True):
    first, second = outputs(estimator, X), outputs(other, X)
    assert first.keys() == second.keys()
    for name, values in first.items():
        if exact or values.dtype.kind not in "f":
            assert_array_equal(values, second[name], err_msg=name)
        else:
            assert_allclose(values, second[name], rtol=1e-4, atol=1e-4, err_msg=name)


def set_everywhere(estimator, **params):
    """Return a clone with parameters set, where it or an estimator inside it has them."""
    copy = clone(estimator)
    for name, value in params.items():
        # A head is another library's, whose parameters only share the name.
        keys = [key for key in copy.get_params() if not key.startswith("head__")]
        places = [key for key in keys if key.split("__")[-1] == name]
        copy.set_params(**dict.fromkeys(places, value))
    return copy


def needs_y(estimator):
    return estimator.__sklearn_tags__().target_tags.required


def fitted_names(estimator):
    return {name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")}


def check_constructor_stores_parameters_only(estimator, X, y):
    names = list(inspect.signature(type(estimator)).parameters)
    sentinels = {name: object() for name in names}
    assert vars(type(estimator)(**sentinels)) == sentinels


def check_defaults_are_plain_values(estimator, X, y):
    for parameter in inspect.signature(type(estimator)).parameters.values():
        if parameter.default is not parameter.empty:
            assert isinstance(parameter.default, str | int | float | tuple | None), parameter


def check_get_params_and_set_params(estimator, X, y):
    params = estimator.get_params(deep=False)
    signature = inspect.signature(type(estimator)).parameters
    required = {
        n: None for n, parameter in signature.items() if parameter.default is parameter.empty
    }
    other = type(estimator)(**required).set_params(**params)
    assert all(other.get_params(deep=False)[name] is value for name, value in params.items())
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        estimator.set_params(colour=1)


def check_clone_is_unfitted(estimator, X, y):
    fitted = clone(estimator).fit(X, y)
    copy = clone(fitted)
    assert fitted_names(copy) == set()
    assert copy.backbone is estimator.backbone
    assert_same_outputs(copy.fit(X, y), fitted, X)


def check_fit_keeps_parameters_and_adds_fitted_attributes(estimator, X, y):
    names, before = set(vars(estimator)), estimator.get_params(deep=True)
    assert estimator.fit(X, y) is estimator
    assert all(name.endswith("_") for name in set(vars(estimator)) - names)
    assert not hasattr(estimator, "n_features_in_")
    assert not hasattr(estimator, "feature_names_in_")
    after = estimator.get_params(deep=True)
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())


def check_methods_leave_the_estimator_alone(estimator, X, y):
    estimator.fit(X, y)
    before = dict(vars(estimator))
    contents = _fitted_arrays(estimator)
    outputs(estimator, X)
    after = dict(vars(estimator))
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())
    assert joblib.hash(contents) == joblib.hash(_fitted_arrays(estimator))


def check_fit_is_idempotent(estimator, X, y):
    once = outputs(estimator.fit(X, y), X)
    twice = outputs(estimator.fit(X, y), X)
    for name, values in once.items():
        assert_array_equal(values, twice[name])


def check_readonly_input_is_untouched(estimator, X, y):
    original = X.copy()
    X.flags.writeable = False
    y.flags.writeable = False
    estimator.fit(X, y)
    outputs(estimator, X)
    assert_array_equal(X, original)


def check_pickle(estimator, X, y):
    estimator.fit(X, y)
    assert_same_outputs(estimator, pickle.loads(pickle.dumps(estimator)), X)


def check_methods_subset_invariance(estimator, X, y):
    estimator.fit(X, y)
    for name, whole in outputs(estimator, X).items():
        parts = [np.asarray(getattr(estimator, name)(X[i : i + 1])) for i in range(len(X))]
        if whole.dtype.kind == "f":
            assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)
        else:
            assert_array_equal(np.concatenate(parts), whole)


def check_methods_sample_order_invariance(estimator, X, y):
    estimator.fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    mixed = outputs(estimator, X[order])
    for name, values in outputs(estimator, X).items():
        if values.dtype.kind == "f":
            assert_allclose(mixed[name], values[order], rtol=1e-4, atol=1e-5)
        else:
            assert_array_equal(mixed[name], values[order])


def check_unfitted_methods_raise(estimator, X, y):
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    names = [name for name in METHODS if hasattr(estimator, name)]
    assert names
    for name in names:
        with pytest.raises(NotFittedError):
            getattr(estimator, name)(X)


def check_failed_fit_leaves_nothing(estimator, X, y):
    bad = [Image.new("F", (20, 20))] * len(X)  # found out when the pixels are read
    if needs_y(estimator):
        with pytest.raises(ValueError, match=r"X\[\d+\] cannot be read as an image"):
            estimator.fit(bad, y)
    else:
        with pytest.raises(ValueError, match="Got a list of"):
            estimator.fit([*X[:-1], "nothing.png"], y)
    assert fitted_names(estimator) == set()
    check_unfitted_methods_raise(estimator, X, y)


def check_failed_refit_keeps_the_first(estimator, X, y):
    first = outputs(estimator.fit(X, y), X)
    with pytest.raises(ValueError, match="empty"):
        estimator.fit(X[:0], y[:0])
    for name, values in outputs(estimator, X).items():
        assert_array_equal(values, first[name])


def check_feature_names_out(estimator, X, y):
    if not hasattr(estimator, "transform"):
        return
    names = estimator.fit(X, y).get_feature_names_out()
    width = estimator.transform(X).shape[1]
    prefix = type(estimator).__name__.lower()
    assert names.tolist() == [f"{prefix}{i}" for i in range(width)]


def check_set_output_pandas(estimator, X, y):
    if not hasattr(estimator, "transform"):
        return
    plain = clone(estimator).fit(X, y).transform(X)
    frame = estimator.set_output(transform="pandas").fit(X, y).transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == estimator.get_feature_names_out().tolist()
    assert_array_equal(frame.to_numpy(), plain)
    assert isinstance(estimator.fit_transform(X, y), pd.DataFrame)


def check_fit_transform(estimator, X, y):
    if not hasattr(estimator, "transform"):
        return
    joined = np.asarray(estimator.fit_transform(X, y))
    assert joined.dtype == np.float32
    assert_array_equal(joined, np.asarray(estimator.transform(X)))


def check_labels_survive(estimator, X, y):
    if not needs_y(estimator):
        return
    numbers = np.unique(y, return_inverse=True)[1]
    binary = np.array(["no", "yes"])[numbers % 2]
    for labels in (
        y,
        y.tolist(),
        y.astype(object),
        pd.Series(y, index=np.arange(len(y)) + 7),
        pd.Series(y).astype("category"),
        numbers,
        (numbers * 10 - 5).astype(np.int8),
        numbers.astype(np.float64),
        numbers % 2 == 1,
        binary,
        [np.str_(label) if i % 2 else str(label) for i, label in enumerate(y)],
    ):
        expected = np.unique(np.asarray(labels))
        fitted = clone(estimator).fit(X, labels)
        assert_array_equal(fitted.classes_, expected)
        if is_classifier(fitted):
            assert set(fitted.predict(X)) <= set(expected)
            assert 0 <= fitted.score(X, labels) <= 1
        else:
            assert_array_equal(np.unique(fitted.prototype_labels_), expected)
            assert fitted.prototype_labels_.dtype == fitted.classes_.dtype


def check_requires_y(estimator, X, y):
    if needs_y(estimator):
        with pytest.raises(ValueError, match="requires y to be passed"):
            estimator.fit(X, None)
        assert fitted_names(estimator) == set()
    else:
        assert_same_outputs(clone(estimator).fit(X), estimator.fit(X, y), X)


def check_other_image_sizes_at_predict(estimator, X, y):
    estimator.fit(X, y)
    wide = np.repeat(np.repeat(X, 2, axis=1), 3, axis=2)
    for values in outputs(estimator, wide).values():
        assert len(values) == len(X)
        assert values.dtype.kind != "f" or np.isfinite(values).all()


def check_decoding_threads_change_nothing(estimator, X, y):
    threaded = set_everywhere(estimator, n_jobs=2).fit(X, y)
    assert_same_outputs(estimator.fit(X, y), threaded, X)


def check_batch_size_changes_nothing(estimator, X, y):
    small = set_everywhere(estimator, batch_size=3).fit(X, y)
    assert_same_outputs(estimator.fit(X, y), small, X, exact=False)


def check_global_generators_are_left_alone(estimator, X, y):
    for seed in (0, None):
        seeded = set_everywhere(estimator, random_state=seed)
        before = _generator_states()
        seeded.fit(X, y)
        outputs(seeded, X)
        assert before == _generator_states()


def check_backbone_is_left_alone(estimator, X, y):
    module = estimator.backbone.module
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    estimator.fit(X, y)
    outputs(estimator, X)
    after = estimator.backbone.module.state_dict()
    assert estimator.backbone.module is module
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def check_representations(estimator, X, y):
    assert type(estimator).__name__ in repr(estimator)
    assert type(estimator).__name__ in estimator_html_repr(estimator.fit(X, y))


def _fitted_arrays(estimator):
    values = {name: getattr(estimator, name) for name in fitted_names(estimator)}
    return {n: value.copy() for n, value in values.items() if isinstance(value, np.ndarray)}


def _generator_states():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state().tolist()


IMAGE_CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
IMAGE_CHECKS.remove(check_is_fitted)
