"""The script that makes the paper's tables: every table on random pictures and nets."""

import argparse
import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sklgm import LGMDistiller, list_backbones

FILE = Path(__file__).parents[1] / "benchmarks" / "reproduce_paper.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="not in a source distribution")
NETS = ("CLIP", "DINO-v2", "EVA-02", "MoCo-v3")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reproduce_paper", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published():
    text = FILE.with_name("published_figures.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("table", ["1", "2", "3", "4", "5", "6", "B.1"])
def test_every_figure_of_a_table_is_made(script, table, capsys):
    last = script.DATA[table][-1]
    found = script.main([table, "--dry-run", "--only", last])
    rows = {row["row"] for row in published() if (row["table"], row["data"]) == (table, last)}
    assert found.keys() == {(row, net) for row in rows for net in NETS}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        assert all(cells[::2])
        assert not any(cells[1::2])


@pytest.mark.parametrize("data", ["imagenet-100", "spawrious", "stanford-dogs", "flowers-102"])
def test_the_other_data_sets_are_read(script, data, tmp_path):
    X, y, X_test, y_test = script.dry_run(tmp_path).split(data)
    assert len(X) == len(y) > 0 < len(X_test) == len(y_test)
    assert len(np.unique(y)) == (6 if data in ("stanford-dogs", "flowers-102") else 4)


def test_published_settings(script):
    arguments = argparse.Namespace(data=None, memory=None, seeds=5, settings="published")
    run = script.published_run(arguments)
    assert set(run.nets.values()) <= set(list_backbones())
    steps, few = (run.make_distiller(d, "clip") for d in ("imagenet-100", "imagenet-1k"))
    assert (steps.max_iter, steps.learning_rate, steps.n_views, few.n_views) == (5000, 2e-3, 10, 3)
    assert run.make_probe(np.arange(1000)).learning_rate == pytest.approx(1e-3 * 100 / 256)
    assert run.make_probe(np.arange(4)).learning_rate == pytest.approx(1e-3 * 4 / 256)
    arguments.settings = "sklgm"
    own = script.published_run(arguments).make_distiller("imagenet-1k", "clip")
    assert (own.max_iter, own.n_views) == (LGMDistiller().max_iter, LGMDistiller().n_views)


def test_published_figures_are_copied_well(script):
    assert len(script.IMAGENET_100) == len(set(script.IMAGENET_100)) == 100
    for row in published():
        if row["average"]:
            mean = np.mean([float(row[net].split(" ")[0]) for net in NETS])
            assert mean == pytest.approx(float(row["average"]), abs=0.1), row  # all are rounded


def test_what_cannot_be_done_is_said(script, capsys):
    for arguments in (["1"], ["1", "--dry-run", "--only", "food-101"]):
        with pytest.raises(SystemExit):
            script.main(arguments)
    assert "table 1 has imagenet-100 and imagenet-1k" in capsys.readouterr().err
