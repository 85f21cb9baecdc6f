"""What ``sklgm distill`` says of a fit while it works."""

import io
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sklgm import LGMDistiller, RandomHeads, StandardAugmentation
from sklgm.cli import output, progress
from sklgm.cli.app import app
from sklgm.cli.progress import FitProgress, n_views_of_real, needed_bytes
from tests.image_checks import save_images, toy_images
from tests.tiny_backbones import counting_backbone, tiny_backbone

X, Y = toy_images()
DOCS = Path(__file__).parents[2] / "docs"
NET, POWER_OF_2 = tiny_backbone(), tiny_backbone(14)  # canvases of 18 and 16 pixels


@pytest.fixture
def half_minutes(monkeypatch):
    """Let half a minute pass between two looks at the clock."""
    clock = itertools.count(0, 30)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))


def distiller(net=NET, **params):
    settings = {"max_iter": 5, "heads": RandomHeads(4, 8), "batch_size": 6, "random_state": 0}
    return LGMDistiller(net, **{**settings, **params})


def fit(estimator):
    return estimator.set_callbacks(FitProgress(Path("out.work"), 1)).fit(X, Y)


def lines_of(capsys):
    return capsys.readouterr().out.splitlines()


@pytest.mark.real
def test_a_log_has_a_line_a_minute(tmp_path, half_minutes):
    for path, label in zip(save_images(X[:6], tmp_path), "ababab", strict=True):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Path(path).rename(tmp_path / "data" / label / Path(path).name)
    words = ("distill", tmp_path / "data", "--out", tmp_path / "out", "--set", "batch_size=1")
    net = ("--backbone", "efficientnet_lite0", "--image-size", 32, "--max-iter", 5)
    result = CliRunner().invoke(app, [str(word) for word in (*words, *net)])
    assert result.exit_code == 0, result.output
    first, memory, net_line, stop, *lines, _ = result.stdout.splitlines()
    assert first == (
        "6 images of 2 classes pass the net in 2 views each. Then 2 prototypes take 5 steps, each "
        "with 4 views of every one."
    )
    assert re.match(
        r"Prototypes, heads and gradients take about \d+\.\d MiB of memory, beside", memory
    )
    assert net_line == (
        "efficientnet_lite0 sees 32 pixels a side: mean 0.5, std 0.5, crop_pct 0.875, "
        "interpolation bicubic."
    )
    assert stop.startswith(f"Ctrl-C loses the work. --resume keeps it in {tmp_path / 'out'}.work")
    assert lines == [
        "real images: 2 of 6, 2 min left, then the steps",
        "real images: 4 of 6, 60 s left, then the steps",
        "real images: 6 of 6 in 4 min",
        "step 2 of 5, 90 s left",
        "step 4 of 5, 30 s left",
        "step 5 of 5 in 3 min",
    ]
    for option in ("--json", "--quiet"):
        silent = CliRunner().invoke(app, [*map(str, (*words, *net)), "--overwrite", option])
        assert silent.exit_code == 0, silent.output
        if option == "--json":
            assert json.loads(silent.output)["n_iter"] == 5
        else:
            assert silent.output == ""


def test_a_short_fit_tells_each_phase_once(capsys):
    fit(distiller())
    passed, stepped = lines_of(capsys)[4:]
    assert re.fullmatch(r"real images: 18 of 18 in \d+ s", passed)
    assert re.fullmatch(r"step 5 of 5 in \d+ s", stepped)


def test_several_nets_pass_one_after_the_other(capsys):
    fit(distiller([NET, tiny_backbone(seed=1)]))
    assert [line.split(" in ")[0] for line in lines_of(capsys)[5:]] == [
        "real images, net 1 of 2: 18 of 18",
        "real images, net 2 of 2: 18 of 18",
        "step 5 of 5",
    ]


class Interrupting(FitProgress):
    """Fail as by Ctrl-C at the end of a step."""

    def __init__(self, at):
        super().__init__(Path("out.work"), 1)
        self.at = at

    def on_fit_task_end(self, estimator, context, *, metadata):
        super().on_fit_task_end(estimator, context, metadata=metadata)
        if context.task_name == "step" and context.task_id == self.at:
            raise KeyboardInterrupt


def test_a_fit_that_goes_on_counts_from_where_it_was(tmp_path, capsys, at_every_step, half_minutes):
    estimator = distiller(memory=tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(Interrupting(at=2)).fit(X, Y)
    capsys.readouterr()
    fit(estimator)
    *_, kept, found, left, end = lines_of(capsys)
    assert kept.startswith(f"The work is kept in {tmp_path / 'work'}, about ")
    assert kept.endswith("every minute. To go on after Ctrl-C, give the same command again.")
    assert found == f"real images: 18 of 18, found in {tmp_path / 'work'}"
    assert left == "step 4 of 5, 30 s left"
    assert end.startswith("step 5 of 5 in ")


class Refreshing(FitProgress):
    """Draw the bars at the end of each task, and not twice a second."""

    def on_fit_task_end(self, estimator, context, *, metadata):
        super().on_fit_task_end(estimator, context, metadata=metadata)
        self._bars.refresh()


def test_a_terminal_shows_a_bar_for_each_phase(monkeypatch, half_minutes):
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    for module in (output, progress):
        monkeypatch.setattr(module, "console", screen)
    distiller().set_callbacks(Refreshing(Path("out.work"), 1)).fit(X, Y)
    shown = screen.file.getvalue()
    for text in ("12 of 18, 30 s left, then the steps", "step 4 of 5, 30 s left", "18 of 18 in "):
        assert text in shown
    assert "━" in shown
    assert "\x1b[1A" not in shown  # no line above is written over: a notebook cannot do that


@pytest.mark.parametrize("augmentation", ["blurred", StandardAugmentation(flip=0), None])
@pytest.mark.parametrize("n_real_views", [0, 1, 3])
def test_views_of_real_images_are_those_that_pass(augmentation, n_real_views):
    net = counting_backbone()
    estimator = distiller(net, augmentation=augmentation, n_real_views=n_real_views)
    estimator.compute_gradients(X, Y)
    assert net.module.n_images == n_views_of_real(estimator) * len(X)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_memory_is_by_the_formulas_of_the_documentation(n_processes):
    sizes = {"n_classes": 5, "n_prototypes": 15, "pool_size": 8, "n_heads": 4, "n_views": 2}
    sizes |= {"n_features": NET.n_features, "canvas": NET.canvas_size}
    table = (DOCS / "cost.rst").read_text(encoding="utf-8")
    prototypes, heads, features = (
        eval(re.search(rf"^{row} .*``(.+)``$", table, re.MULTILINE)[1], sizes)
        for row in ("prototypes while", "heads and real", "features of a step")
    )
    memory, _ = needed_bytes(distiller(prototypes_per_class=3, n_views=2), 5, n_processes)
    assert memory == prototypes / n_processes + heads + features


@pytest.mark.parametrize("nets", [POWER_OF_2, [POWER_OF_2, tiny_backbone(14, seed=1)]])
def test_the_disk_is_what_kept_work_takes(nets, tmp_path, at_every_step):
    estimator = distiller(
        nets, heads=RandomHeads(4, 512), prototypes_per_class=20, max_iter=9, memory=tmp_path
    )
    with pytest.raises(KeyboardInterrupt):
        estimator.set_callbacks(Interrupting(at=8)).fit(X, Y)
    taken = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert taken == pytest.approx(needed_bytes(estimator, 3)[1], rel=0.2)
