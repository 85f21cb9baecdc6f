"""Figures on pages: each is found in a file of results that the page names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst"))]
NUMBER = r"(?<![\w.])-?\d*\.\d{2,}(?![\w.]\d)"
PAIR = rf"({NUMBER}) ± ({NUMBER})"
pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="not in a source distribution")


def prose(page):
    """Return the text of a page without code, formulas and versions."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^\.\. (?:code-block|math)::.*\n(?:[ ].*\n|\n)+", "", text)
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    text = re.sub(r"``(?:.|\n)+?``|:math:`(?:.|\n)+?`|`[^`]+`", "", text)
    return re.sub(r"Python 3\.\d+", "Python", text)


def named_results(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"benchmarks/(?:results/)?(\w+)\.(?:md|csv|jsonl|py|png|\*)", text))
    return [file for name in names for file in sorted(RESULTS.glob(f"{name}.[mcj]*"))]


def rounded(number, digits):
    return f"{float(number):.{digits}f}"


def test_all():
    for page in PAGES:
        text = prose(page)
        files = named_results(page)
        known = "\n".join(f.read_text(encoding="utf-8") for f in files)
        numbers = re.findall(r"(?<![\w.])-?\d*\.?\d+(?:e-?\d+)?", known)
        miss = []
        for x in re.findall(NUMBER, text):
            d = len(x.partition(".")[2])
            if not any(rounded(n, d).lstrip("-") == rounded(x, d).lstrip("-") for n in numbers):
                miss.append(x)
        print(page.name, [f.name for f in files], len(re.findall(NUMBER, text)), miss)
