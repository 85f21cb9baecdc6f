"""What works without the extras, and what is said by what does not."""

import subprocess
import sys

import numpy as np
import pytest

from sklgm.__main__ import main
from sklgm.plotting import AlignmentDisplay, ConvergenceDisplay

PACKAGES = {"cli": ("typer", "rich"), "plot": ("matplotlib",), "report": ("jinja2", "markupsafe")}
ALL = [*(name for names in PACKAGES.values() for name in names), "imblearn"]
FIT = """
import numpy as np
from sklgm import Backbone, ClassCentroids, FrozenBackboneProbe, LGMDistiller, PrototypeSampler
from sklgm.evaluation import compare_selections
from tests.tiny_backbones import TinyConvNet

X, y = np.random.default_rng(0).random((6, 16, 16, 3)), [0, 1] * 3
backbone = Backbone.from_module(TinyConvNet(), image_size=14)
for net, data in ((None, X.reshape(6, -1)), (backbone, X)):
    distiller = LGMDistiller(net, max_iter=2, random_state=0).fit(data, y)
    assert distiller.transform(data).shape == (6, 2)
    assert distiller._repr_html_()
    probe = FrozenBackboneProbe(net, n_views=2, max_epochs=2)
    assert 0 <= probe.set_params(distiller=distiller).fit(data, y).score(data, y) <= 1
    result = compare_selections(
        *(data, y, data, y),
        backbone=net,
        selections={"centroids": ClassCentroids(net)},
        probe=probe.set_params(distiller=None),
        n_probe_seeds=1,
        verbose=1,
    )
    assert result._repr_html_()

sampler = PrototypeSampler(LGMDistiller(backbone=None))
try:
    sampler.fit_resample(X.reshape(6, -1), y)
except ImportError as error:
    print(sampler, error)
"""


def test_estimators_and_protocols_need_no_extra():
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ALL}))\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + FIT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1: centroids: accuracy" in done.stdout
    assert 'pip install "sklgm[imblearn]"' in done.stdout  # that needs one


def block(monkeypatch, package, ours):
    """Let a package be missing where one of ours is imported anew."""
    for name in list(sys.modules):
        if name == ours or name.startswith(f"{ours}."):
            monkeypatch.delitem(sys.modules, name)
        if name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    "display",
    [
        ConvergenceDisplay(loss=np.arange(4.0)),
        AlignmentDisplay(values=np.eye(2), rows=["a", "b"], columns=["c", "d"]),
    ],
    ids=lambda display: type(display).__name__,
)
def test_a_display_says_what_it_needs(monkeypatch, display):
    block(monkeypatch, "matplotlib", "matplotlib")
    with pytest.raises(ImportError, match=r'needs the extra "plot": pip install "sklgm\[plot\]"'):
        display.plot()


@pytest.mark.parametrize("package", PACKAGES["report"])
def test_a_report_says_what_it_needs(monkeypatch, package):
    block(monkeypatch, package, "sklgm.report")
    with pytest.raises(ImportError, match=r'"report": pip install "sklgm\[report\]"'):
        from sklgm.report import HTMLReport  # noqa: F401


@pytest.mark.parametrize("package", PACKAGES["cli"])
def test_the_command_says_what_it_needs(monkeypatch, package):
    block(monkeypatch, package, "sklgm.cli")
    with pytest.raises(
        SystemExit, match=r'sklgm needs the extra "cli": pip install "sklgm\[cli\]"'
    ):
        main()


@pytest.mark.parametrize("package", ["matplotlib", *PACKAGES["report"]])
def test_the_command_report_says_what_it_needs(monkeypatch, capsys, package):
    block(monkeypatch, package, "sklgm.report")
    monkeypatch.setattr(sys, "argv", ["sklgm", "report", "nowhere", "--train", "nothing"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert 'pip install "sklgm[report]"' in said
    assert "Traceback" not in said
