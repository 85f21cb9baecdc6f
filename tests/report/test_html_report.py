"""The page about prototypes: what is on it, what is escaped, and what a browser makes of it."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

import sklgm.alignment
import sklgm.bias
import sklgm.evaluation
from sklgm import (
    FrozenBackboneProbe,
    LGMDistiller,
    NearestImages,
    PrototypeSampler,
    PrototypeSet,
    RandomHeads,
    RandomImages,
)
from sklgm.evaluation import compare_selections
from sklgm.report import HTMLReport
from sklgm.report._html import _ABOUT
from tests.image_checks import toy_images
from tests.tiny_backbones import tiny_backbone

matplotlib.use("Agg")

X, Y = toy_images()
CLASSES, INDICES = np.unique(Y, return_inverse=True)
NET = tiny_backbone()
EVIL = "<script>document.title='run'</script>"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, report):
        super().__init__()
        self.tags, self.images, self.texts = [], [], []
        self.feed(report.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data.strip())

    def pixels(self, alt):
        """Return the pictures whose alternative text starts so."""
        found = [image["src"] for image in self.images if image["alt"].startswith(alt)]
        data = [base64.b64decode(src.removeprefix("data:image/png;base64,")) for src in found]
        return [np.asarray(Image.open(io.BytesIO(one))) for one in data]


def chosen(labels=Y, images=X, **params):
    return RandomImages(NET, random_state=0, **params).fit(images, labels)


def test_prototypes_beside_the_nearest_images():
    estimator = chosen(prototypes_per_class=2)
    others = np.delete(np.arange(len(X)), estimator.prototype_indices_)
    page = Page(HTMLReport.from_prototypes(estimator, X[others], Y[others]))
    shown = page.pixels("prototype of")
    np.testing.assert_array_equal(shown, np.rint(estimator.prototypes_ * 255))
    nearest = NearestImages(FrozenEstimator(estimator)).fit(X[others], Y[others])
    np.testing.assert_array_equal(
        page.pixels("nearest real image"), X[others][nearest.prototype_indices_]
    )
    assert {"Prototypes", "Among real images", "How they were made"} <= set(page.texts)
    assert {str(label) for label in np.unique(Y)} <= set(page.texts)
    assert page.tags.count("img") == 6 + 6 + 1


def test_the_nets_that_made_them_and_that_look():
    made = PrototypeSet.from_estimator(chosen())
    same = Page(HTMLReport.from_prototypes(made, X, Y, backbone=NET)).texts
    for heading in ("Net that made them", "Net and probes of this page"):
        assert same.count(heading) == 2  # and a link
    made = PrototypeSet.from_estimator(
        RandomImages("efficientnet_lite0?mean=0.25", image_size=18).fit(X, Y)
    )
    probe = FrozenBackboneProbe(image_size=18)
    with pytest.warns(UserWarning, match="made with mean"):
        other = HTMLReport.from_prototypes(made, X, Y, backbone="efficientnet_lite0", probe=probe)
    assert any(re.search(r"made with mean \[0.25.*it is mean", text) for text in Page(other).texts)


def test_results_have_a_section_each():
    selections = {"random": RandomImages(NET, random_state=0), "all": None}
    comparison = compare_selections(
        X, Y, X, Y, backbone=NET, selections=selections, n_probe_seeds=1
    )
    page = Page(HTMLReport.from_prototypes(chosen(), results=[comparison, comparison]))
    assert "Beside real images" in page.texts
    assert any(text.startswith("Scores on test images of linear probes") for text in page.texts)
    assert page.tags.count("table") == 2
    assert len(page.pixels("Beside real images")) == 2
    named = Page(HTMLReport.from_prototypes(chosen(), results={"My own": comparison}))
    assert "My own" in named.texts


def test_every_result_has_a_heading_and_a_text():
    results = {
        name
        for module in (sklgm.alignment, sklgm.bias, sklgm.evaluation)
        for name in module.__all__
        if hasattr(getattr(module, name), "_repr_html_")
    }
    assert results == set(_ABOUT)


def test_a_distiller_shows_its_loss():
    fitted = LGMDistiller(
        NET, max_iter=4, n_views=1, heads=RandomHeads(pool_size=8), random_state=0
    ).fit(X, Y)
    page = Page(HTMLReport.from_prototypes(fitted))
    assert "Optimisation" in page.texts
    assert page.tags.count("img") == 3 + 1
    assert "max_iter" in page.texts


def test_a_set_needs_a_backbone_to_be_compared():
    prototypes = PrototypeSet.from_estimator(chosen())
    with pytest.raises(ValueError, match="pass backbone="):
        HTMLReport.from_prototypes(prototypes, X, Y)
    page = Page(HTMLReport.from_prototypes(prototypes, X, Y, backbone=NET))
    expected = Page(HTMLReport.from_prototypes(chosen(), X, Y))
    assert page.images == expected.images


def test_nothing_is_loaded_and_everything_is_escaped():
    labels = np.array([EVIL, "a & b", "c"])[INDICES]
    report = HTMLReport.from_prototypes(chosen(labels), X, labels, title=EVIL)
    page = Page(report)
    assert "script" not in page.tags
    assert page.texts.count(EVIL) == 3  # twice as title, once below its prototype
    assert "a & b" in page.texts
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    assert not re.search(r"(src|href)=.(?!data:|#)", report.html)
    assert "url(" not in report.html
    assert "default-src 'none'" in report.html
    # In a notebook the page is an attribute of a frame.
    assert "<script" not in report._repr_html_()


def test_frames_and_data_frames_are_tables_alone():
    table = pd.DataFrame({"text": ["a", "b"]})
    page = Page(HTMLReport.from_prototypes(chosen(), results={"Mine": table}))
    assert page.tags.count("table") == 1
    assert not page.pixels("Mine")
    # A link to a section must not lead out of the frame.
    assert "about:srcdoc" in HTMLReport.from_prototypes(chosen())._repr_html_()


def test_many_prototypes_are_cut_short():
    many = PrototypeSet(np.zeros((230, 4, 4, 3)), np.arange(230))
    page = Page(HTMLReport.from_prototypes(many))
    assert page.tags.count("img") == 200
    assert "The first 200 of 230." in page.texts


def test_soft_labels_are_the_most_probable_classes():
    soft = np.array([[0.3, 0.45, 0.05, 0.2], [0, 1, 0, 0], [0.1999, 0, 0.8, 0.0001]])
    soft = np.concatenate([soft, [[0, 0, 0, 1]]])
    given = PrototypeSet(np.zeros((4, 4, 4, 3)), list("abcd"), probabilities=soft)
    texts = Page(HTMLReport.from_prototypes(given, class_names=[EVIL, "B", "C", "D"])).texts
    shown = ["45.0% B", f"30.0% {EVIL}", "20.0% D", "100.0% B", "80.0% C", f"20.0% {EVIL}"]
    assert [text for text in texts if re.match(r"[\d.]+% ", text)] == [*shown, "100.0% D"]
    assert any("soft label" in text for text in texts)
    hard = Page(HTMLReport.from_prototypes(chosen()))
    assert "ol" not in hard.tags
    assert not any("soft label" in text for text in hard.texts)
    made = Page(HTMLReport.from_prototypes(chosen(soft_labels=True)))
    assert made.tags.count("ol") == 3


def test_what_is_known_of_their_making():
    known = {"seed": 1, "teacher": {"seed": 2}, "parameters": {"tol": None}, "versions": "1.2"}
    known["data"] = {"name": "birds"}
    prototypes = PrototypeSet(np.zeros((2, 4, 4, 3)), [0, 1], known)
    texts = Page(HTMLReport.from_prototypes(prototypes)).texts
    for name, value in (
        ("seed", "1"),
        ("teacher", "{'seed': 2}"),
        ("tol", "None"),
        ("name", "birds"),
    ):
        assert texts[texts.index(name) + 1] == value
    assert "1.2" in texts


def test_only_square_prototypes_are_shown_to_a_net():
    oblong = PrototypeSet(np.zeros((3, 24, 18, 3)), CLASSES)
    HTMLReport.from_prototypes(oblong)
    with pytest.raises(ValueError, match="must be square"):
        HTMLReport.from_prototypes(oblong, X, Y, backbone=NET)


def test_class_names():
    page = Page(HTMLReport.from_prototypes(chosen(), class_names=["one", "two", "three"]))
    assert {"one", "two", "three"} <= set(page.texts)
    two = PrototypeSet(chosen().prototypes_[:2], chosen().prototype_labels_[:2])
    page = Page(HTMLReport.from_prototypes(two, X, Y, backbone=NET, class_names=["one", "two"]))
    assert {"one", "two"} <= set(page.texts)
    with pytest.raises(ValueError, match="must be 3 names"):
        HTMLReport.from_prototypes(chosen(), class_names=["one"])


ONE_EACH = np.unique(Y, return_index=True)[1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((chosen(), X), {}, "requires y"),
        ((chosen(), X[:0], Y[:0]), {}, "empty X"),
        ((chosen(prototypes_per_class=2), X[ONE_EACH], Y[ONE_EACH]), {}, "Pass more images"),
        ((chosen(),), {"results": [1]}, "int has neither"),
        ((RandomImages(None).fit(X.reshape(len(X), -1) / 255, Y),), {}, "rows of"),
        (("prototypes",), {}, "is not an estimator"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        HTMLReport.from_prototypes(*arguments, **options)


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError):
        HTMLReport.from_prototypes(RandomImages(NET))


def test_saving(tmp_path):
    report = HTMLReport.from_prototypes(chosen())
    path = tmp_path / "page.html"
    report.save(path)
    assert path.read_text(encoding="utf-8") == report.html
    with pytest.raises(FileExistsError, match="overwrite"):
        report.save(path)
    report.save(path, overwrite=True)
    with pytest.raises(FileNotFoundError, match="no folder"):
        report.save(tmp_path / "nowhere" / "page.html")
    with pytest.raises(FileExistsError, match="name another"):
        report.save(tmp_path, overwrite=True)
    with pytest.raises(OSError, match="name too long: nothing can be written"):
        HTMLReport.check_target(tmp_path / ("n" * 250))
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


# ---------------------------------------------------------------- estimators in a notebook


def test_a_fitted_estimator_shows_its_prototypes_below_its_diagram():
    estimator = chosen(np.array([EVIL, "a & b", "c"])[INDICES])
    unfitted = RandomImages(NET, random_state=0)._repr_html_()
    shown = estimator._repr_html_()
    assert "sk-top-container" in shown
    assert "sk-top-container" in unfitted
    assert shown.count("data:image/png") == 3
    assert "data:image/png" not in unfitted
    assert "a &amp; b" in shown
    assert EVIL not in shown[shown.index("sklgm-prototypes") :]
    assert estimator._repr_mimebundle_()["text/html"].count("data:image/png") == 3


def test_what_holds_a_distiller_shows_its_prototypes():
    selection = RandomImages(NET, random_state=0)
    probe = FrozenBackboneProbe(NET, distiller=selection, n_views=1, max_epochs=1)
    for estimator in (probe, PrototypeSampler(selection)):
        assert "data:image/png" not in estimator._repr_html_()
        assert estimator.fit(X, Y)._repr_html_().count("data:image/png") == 3


def test_only_some_of_many_prototypes_are_shown():
    images, labels = np.concatenate([X] * 3), np.concatenate([Y] * 3)
    shown = chosen(labels, images=images, prototypes_per_class=15)._repr_html_()
    assert shown.count("data:image/png") == 36
    assert "and 9 more" in shown


def test_rows_have_no_pictures():
    rows = X.reshape(len(X), -1)[:, :5] / 255
    assert "data:image/png" not in RandomImages(None).fit(rows, Y)._repr_html_()


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    with playwright.sync_playwright() as running:
        # Without a sandbox of its own, which root and containers do not allow.
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_complaint(browser, tmp_path, width):
    labels = np.array([EVIL, "a" * 80, "c"])[INDICES]
    estimator = LGMDistiller(
        NET, soft_labels=True, max_iter=3, n_views=1, heads=RandomHeads(pool_size=8), random_state=0
    )
    estimator.fit(X, labels)
    selections = {"random, by a long name": RandomImages(NET, random_state=0), "all": None}
    comparison = compare_selections(
        X, labels, X, labels, backbone=NET, selections=selections, n_probe_seeds=1
    )
    report = HTMLReport.from_prototypes(estimator, X, labels, results=[comparison], title=EVIL)
    report.save(tmp_path / "page.html")
    page = browser.new_page(viewport={"width": width, "height": 800})
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    assert not messages
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert page.title() == EVIL
    images = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(images) == 3 + 3 + 1 + 1 + 1
    assert min(images) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('p, td, figcaption, dt, li')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 13
    page.close()
