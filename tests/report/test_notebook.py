"""A script of the gallery as a notebook, run in a kernel."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRESS = """
from sklearn.callback import ProgressBar

distiller = LGMDistiller(nets["colours"], max_iter=3, random_state=0)
distiller.set_callbacks(ProgressBar()).fit(openmoji.images[::20], names[::20])
"""


def as_notebook(script):
    """Turn a script into a notebook: texts are comments below ``# %%``, or the docstring."""
    cells = [nbformat.v4.new_code_cell("%matplotlib inline")]
    for part in re.split(r"^# %%\n", script, flags=re.MULTILINE):
        text, code = re.fullmatch(r'((?:#[^\n]*\n|""".*?"""\n)*)(.*)', part, re.DOTALL).groups()
        cells.append(nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", text, flags=re.MULTILINE)))
        if code.strip():
            cells.append(nbformat.v4.new_code_cell(code.strip()))
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def outputs():
    """What the cells show, as one list of a dict by kind for each output."""
    script = (EXAMPLES / "plot_own_backbone.py").read_text(encoding="utf-8")
    quick = script
    for slow, fast in (
        ("max_iter=100", "max_iter=3"),
        ("fit(openmoji.images, names)", "fit(openmoji.images[::9], names[::9])"),
    ):
        assert slow in quick
        quick = quick.replace(slow, fast)
    notebook = as_notebook(quick)
    notebook.cells.append(nbformat.v4.new_code_cell(PROGRESS))
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()  # raises on an error
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in shown if out.get("name") == "stderr"]
    return [out["data"] for out in shown if "data" in out]


def test_figures_are_drawn(outputs):
    assert sum("image/png" in data for data in outputs) == 2


def test_prototypes_and_estimators_show_their_pictures(outputs):
    pages = [data["text/html"] for data in outputs if "text/html" in data]
    prototypes, estimator = (page for page in pages if 'class="sklgm-prototypes"' in page)
    assert "PrototypeSet(n_prototypes=8" in prototypes
    assert "sk-top-container" in estimator
    assert prototypes.count("data:image/png") == estimator.count("data:image/png") == 8


def test_progress_is_a_widget(outputs):
    assert any("application/vnd.jupyter.widget-view+json" in data for data in outputs)
