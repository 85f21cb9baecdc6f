"""Labels of every kind that people bring: kept as they are, or refused in words."""

import datetime
import unicodedata
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum

import numpy as np
import pandas as pd
import pyarrow
import pytest
from numpy.testing import assert_array_equal

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet, RandomImages, RealGradients
from sklgm.evaluation import compare_selections
from sklgm.utils.targets import check_column, check_known, check_targets

X = np.random.default_rng(0).normal(size=(8, 3))
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


class Mixin(str, Enum):  # noqa: UP042, whose str() is not the value
    CAT = "cat"
    LONG = "a longer label"


class OfStrings(StrEnum):
    CAT = "cat"
    LONG = "a longer label"


class Plain(Enum):
    CAT = "cat"
    LONG = "a longer label"


class OfIntegers(IntEnum):
    CAT = 3
    DOG = 1


class Shouting(str):
    def __str__(self):
        return "CAT"


def repeated(first, second):
    return [first, second] * 4


STRINGS = {
    "mixin": repeated(*Mixin),
    "mixin as objects": np.array(repeated(*Mixin), dtype=object),
    "mixin as a series": pd.Series(repeated(*Mixin)),
    "mixin as categories": pd.Series(repeated(*Mixin)).astype("category"),
    "StrEnum": repeated(*OfStrings),
    "Enum": repeated(*Plain),
    "Enum as objects": np.array(repeated(*Plain)),
    "subclass of str": [Shouting(label) for label in repeated("cat", "a longer label")],
    "scalars of numpy": [np.str_(label) for label in repeated("cat", "a longer label")],
    "strings of numpy 2": np.array(repeated(*OfStrings), dtype=np.dtypes.StringDType()),
    "strings of pandas": pd.Series(repeated("cat", "a longer label"), dtype="string"),
    "arrow": pyarrow.array(repeated("cat", "a longer label")),
    "arrow, encoded": pyarrow.array(repeated("cat", "a longer label")).dictionary_encode(),
    "unused categories": pd.Categorical(
        repeated("cat", "a longer label"), categories=["emu", "cat", "a longer label"]
    ),
}


@pytest.mark.parametrize("kind", STRINGS)
def test_strings_of_any_kind_are_taken_by_their_values(kind, tmp_path):
    y = STRINGS[kind]
    expected = ["a longer label", "cat"]
    distiller = LGMDistiller(None, max_iter=1, random_state=0).fit(X, y)
    for fitted in (distiller, RandomImages(None, random_state=0).fit(X, y)):
        assert fitted.classes_.tolist() == expected
        assert [type(label) for label in fitted.classes_.tolist()] == [str, str]
    probe = FrozenBackboneProbe(None, max_epochs=1, random_state=0).fit(X, y)
    assert probe.score(X, y) == probe.score(X, repeated("cat", "a longer label"))
    PrototypeSet(X, y).save(tmp_path / "set")
    assert PrototypeSet.load(tmp_path / "set").labels.tolist() == expected[::-1] * 4


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (repeated(*OfIntegers), [1, 3]),
        (np.array(repeated(*OfIntegers), dtype=object), [1, 3]),
        (np.array(repeated(True, False), dtype=object), [False, True]),
        (pd.Series(repeated(1, 2), dtype="Int64"), [1, 2]),
        (repeated(-0.0, 1), [0.0, 1.0]),
        (np.array(repeated(2**64 - 1, 0), dtype=np.uint64), [0, 2**64 - 1]),
    ],
)
def test_numbers_are_taken_by_their_values(y, expected):
    classes, indices = check_targets(y, 8, "Test")
    assert classes.tolist() == expected
    assert [type(label) for label in classes.tolist()] == [type(label) for label in expected]
    assert_array_equal(classes[indices], check_column(y, "y"))


def test_statistics_take_enums_too():
    gradients = RealGradients([Mixin.CAT, Mixin.LONG], class_counts=[1, 1], head_pool_size=2)
    gradients.update(X[:2], [Mixin.LONG, Mixin.CAT])
    assert gradients.classes.tolist() == ["a longer label", "cat"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (repeated(b"a", b"b"), r"bytes_ in y.*\[label.decode\(\) for label in y\]"),
        (np.array(repeated("2020-01-01", "2021-01-01"), dtype="M8[D]"), "type datetime64 in y"),
        (repeated(*(datetime.date(year, 1, 1) for year in (2020, 2021))), "type date in y"),
        (repeated(Decimal("0.1"), Decimal("0.2")), r"type Decimal in y.*\[str\(label\) for"),
        (pd.Series(repeated((1, 2), (3, 4))), r"got \(1, 2\) of type tuple in y"),
        (np.array(repeated(b"a", b"b"), dtype="V1"), "type void in y"),
        (np.array(repeated(1, 2), dtype=np.longdouble), "up to 64 bits"),
        (repeated(10**20, 1), "type int in y"),
        ([2**53 + 1, 1.0] * 4, "holds 9007199254740993, which would become 9007199254740992.0"),
        (repeated("a", "a\0"), r"holds 'a\\x00', which would become 'a'"),
        ([True, 1, 2, False] * 2, "y mixes strings, booleans"),
        ([1, "1"] * 4, r"y mixes strings, booleans.*\[str\(label\) for label in y\]"),
    ],
)
def test_labels_that_arrays_or_files_cannot_hold_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        LGMDistiller(None, max_iter=1).fit(X, y)


MISSING = ["cat", "dog"] * 3 + ["cat", None]


@pytest.mark.parametrize(
    "y",
    [
        MISSING,
        pd.Series(MISSING),
        pd.Series(MISSING, dtype="string"),
        pd.Series(MISSING, dtype="category"),
        [*MISSING[:-1], float("nan")],
        [*MISSING[:-1], pd.NaT],
        np.array(MISSING, dtype=np.dtypes.StringDType(na_object=None)),
        pd.Series([1, 2, 1, 2, 1, 2, 1, None]),
        pd.Series([1, 2, 1, 2, 1, 2, 1, None], dtype="Int64"),
    ],
)
def test_missing_labels_are_counted_and_can_be_dropped_as_the_error_says(y):
    for name, call in {
        "y": lambda: LGMDistiller(None, max_iter=1).fit(X, y),
        "labels": lambda: PrototypeSet(X, y),
        "groups": lambda: check_column(y, "groups"),
    }.items():
        with pytest.raises(ValueError, match=f"1 of 8 labels in {name} are missing") as caught:
            call()
        assert "the first at position 7" in str(caught.value)
        given = {"X": X, "y": np.arange(8), name: y}
        names = {"np": np, "pandas": pd, **given}
        exec(str(caught.value).split("Drop these rows: ")[1].rstrip("."), names)
        assert names[name].tolist() == list(y)[:7]
        assert_array_equal(names["X"], X[:7])
        assert len(names["y"]) == (8 if name == "labels" else 7)


def test_masked_labels_are_missing():
    with pytest.raises(ValueError, match=r"2 of 8 labels in y are missing.*first at position 3"):
        check_column(np.ma.array([1, 2] * 4, mask=[0, 0, 0, 1] * 2), "y")


def test_two_unicode_forms_of_a_class_are_named():
    with pytest.raises(ValueError, match=r"'cafe\\u0301' and 'caf\\xe9' look the same: .*Unicode"):
        LGMDistiller(None).fit(X, [NFC, NFD, "tea", "tea"] * 2)
    probe = FrozenBackboneProbe(None, max_epochs=1, random_state=0).fit(X, repeated(NFC, "tea"))
    assert probe.score(X, repeated(NFC, "unseen")) <= 0.5
    with pytest.raises(ValueError, match=r"differ in Unicode form alone.*unicodedata.normalize"):
        probe.score(X, repeated(NFD, "tea"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (NFD, "differ in Unicode form alone"),
        ("tea", "make the labels of one type"),
    ],
)
def test_an_unknown_label_that_is_nearly_a_known_one(found, message):
    with pytest.raises(ValueError, match=message):
        check_known([found], [NFC], "classes of y_test", "y")
    data = X, repeated(NFC, "milk")
    with pytest.raises(ValueError, match=message):
        compare_selections(*data, X, repeated(found, "milk"), backbone=None)
