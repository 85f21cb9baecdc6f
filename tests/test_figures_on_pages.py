"""Figures on pages: each is found in a file of results that the page names."""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst"))]
PAGES = [page for page in PAGES if page.name != "sg_execution_times.rst"]
# With fewer digits, a number is as often a setting or a size as a measurement.
FIGURE = re.compile(r"(?<![\w.])\d*\.\d{2,}(?!\w|\.\d)(?: ± (\.\d+|\d+\.\d+))?")
pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="not in a source distribution")


def prose(page):
    """Return the text of a page without code, formulas, links and versions of Python."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^\.\. (?:code-block|math)::.*\n(?: .*\n|\n)+", "", text)
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    text = re.sub(r"``.+?``|`.+?`", "", text, flags=re.DOTALL)
    return re.sub(r"Python 3\.\d+", "Python", text)


@cache
def rounded(text, n_digits):
    """Return the numbers of a text, without signs, with so many digits."""
    numbers = re.findall(r"(?<![\w.])\d*\.?\d+(?:e-?\d+)?(?![\w.])", text)
    return {f"{float(number):.{n_digits}f}" for number in numbers}


@pytest.fixture(scope="module")
def made_tables():
    """Return the tables that the documentation makes of results when it is built."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "_figures.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [*sys.path]):  # it adds the folder of benchmarks
        spec.loader.exec_module(module)
    return module.tables()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_those_of_the_results_that_a_page_names(page, made_tables):
    text = page.read_text(encoding="utf-8")
    stems = set(re.findall(r"benchmarks/(?:results/)?(\w+)\.(?:md|csv|py)", text))
    files = [f for stem in sorted(stems) for f in RESULTS.glob(f"{stem}.*") if f.suffix != ".png"]
    sources = [f.read_text(encoding="utf-8") for f in files]
    sources += [made_tables[name] for name in re.findall(r"generated/(tr\w+)\.inc", text)]
    missing = []
    for found in FIGURE.finditer(prose(page)):
        for figure in filter(None, found[0].split(" ± ")):
            n_digits = len(figure.partition(".")[2])
            if not any(f"{float(figure):.{n_digits}f}" in rounded(s, n_digits) for s in sources):
                missing.append(found[0])
    assert not missing, f"not in {[file.name for file in files]}"
