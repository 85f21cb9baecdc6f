"""What works without the extras, and what is said by what does not."""

import subprocess
import sys

import pytest

PACKAGES = {"cli": ("typer", "rich"), "plot": ("matplotlib",), "report": ("jinja2", "markupsafe")}
ALL = [name for names in PACKAGES.values() for name in names]
FIT = """
import numpy as np
from sklgm import Backbone, ClassCentroids, FrozenBackboneProbe, LGMDistiller
from sklgm.evaluation import compare_selections
from tests.tiny_backbones import TinyConvNet

X, y = np.random.default_rng(0).random((6, 16, 16, 3)), [0, 1] * 3
backbone = Backbone.from_module(TinyConvNet(), image_size=14)
for net, data in ((None, X.reshape(6, -1)), (backbone, X)):
    distiller = LGMDistiller(net, max_iter=2, random_state=0).fit(data, y)
    assert distiller.transform(data).shape == (6, 2)
    assert distiller._repr_html_()
    probe = FrozenBackboneProbe(net, distiller=distiller).fit(data, y)
    assert 0 <= probe.score(data, y) <= 1
    result = compare_selections(
        data, y, data, y, backbone=net, selections={"centroids": ClassCentroids(net)}, verbose=1
    )
    assert result._repr_html_()
"""
DISPLAYS = """
import numpy as np
from sklgm.plotting import AlignmentDisplay, ConvergenceDisplay

said = []
displays = (
    ConvergenceDisplay(loss=np.arange(4.0)),
    AlignmentDisplay(values=np.eye(2), rows=["a", "b"], columns=["c", "d"]),
)
for display in displays:
    try:
        display.plot()
    except ImportError as error:
        said.append(str(error))
assert len(said) == 2
print(*said, sep="\\n")
"""
REPORT = """
try:
    from sklgm.report import HTMLReport
except ImportError as error:
    print(error)
"""
COMMAND = """
from sklgm.__main__ import main
main()
"""


def run(script, *missing, command=()):
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
    return subprocess.run(
        [sys.executable, "-c", blocked + script, *command],
        capture_output=True,
        text=True,
        check=False,
    )


def test_estimators_and_protocols_need_no_extra():
    done = run(FIT, *ALL)
    assert done.returncode == 0, done.stderr
    assert "1 of 1: centroids: accuracy" in done.stdout


@pytest.mark.parametrize(
    ("extra", "package", "script"),
    [
        ("plot", "matplotlib", DISPLAYS),
        ("report", "jinja2", REPORT),
        ("report", "markupsafe", REPORT),
    ],
    ids=["matplotlib", "jinja2", "markupsafe"],
)
def test_what_is_missing_is_named(extra, package, script):
    done = run(script, package)
    assert done.returncode == 0, done.stderr
    assert f'needs the extra "{extra}": pip install "sklgm[{extra}]"' in done.stdout


@pytest.mark.parametrize("package", PACKAGES["cli"])
def test_the_command_says_what_it_needs(package):
    done = run(COMMAND, package, command=["--version"])
    assert done.returncode == 1
    expected = 'The command sklgm needs the extra "cli": pip install "sklgm[cli]"\n'
    assert done.stderr == expected


@pytest.mark.parametrize("package", ["matplotlib", *PACKAGES["report"]])
def test_the_command_report_says_what_it_needs(package):
    done = run(COMMAND, package, command=["report", "nowhere", "--train", "nothing"])
    assert done.returncode == 1
    assert 'pip install "sklgm[report]"' in done.stderr
    assert "Traceback" not in done.stderr
