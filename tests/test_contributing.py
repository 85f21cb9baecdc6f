"""The examples of the page on contributing, run as they stand there."""

import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from sklgm.backbones._registry import REGISTRY

PAGE = Path(__file__).parents[1] / "docs" / "contributing.rst"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in a source distribution")


def examples():
    """Return the Python blocks of the page, by the title above each."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    found = {}
    for title, body in re.findall(r"^To add (.+)\n-+\n((?:.*\n(?!.*\n---))*)", text, re.MULTILINE):
        (block,) = re.findall(r"^\.\. code-block:: python\n\n((?: .*\n|\n)+)", body, re.MULTILINE)
        found[title] = textwrap.dedent(block)
    return found


def n_lines(code):
    return sum(bool(line.strip()) for line in code.splitlines())


EXAMPLES = examples()


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_runs(title):
    before = dict(REGISTRY)
    plt.switch_backend("agg")
    try:
        exec(compile(EXAMPLES[title], f"{PAGE.name}, {title}", "exec"), {"__name__": "example"})
    finally:
        REGISTRY.clear()
        REGISTRY.update(before)
        plt.close("all")


@pytest.mark.skipif(not PAGE.exists(), reason="not in a source distribution")
def test_every_way_to_extend_is_shown():
    assert all(n_lines(code) < 20 for code in EXAMPLES.values())
    assert list(EXAMPLES) == ["a backbone", "a parametrisation", "an objective", "a display"]
