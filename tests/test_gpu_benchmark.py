"""The script that measures on a GPU: a trial of each of its parts on a CPU."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

FILE = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="not in a source distribution")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every = module.parts

    def few(seeds):
        return {
            name: (function, [cases[0], cases[-1]][: len(cases)], needs)
            for name, (function, cases, needs) in every(seeds).items()
        }

    monkeypatch.setattr(module, "parts", few)
    yield module
    for name in ("_data", "_gpu", "_gpu_details", "published_recipe"):
        sys.modules.pop(name, None)


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.delenv("SKLGM_WEIGHTS", raising=False)
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("one", "other"):
            folder = tmp_path / "imagewoof" / part / name
            folder.mkdir(parents=True)
            for i in range(3):
                picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
                picture.save(folder / f"{i}.jpg")
    shared = ["--photos", str(tmp_path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    return [*shared, "--quick", "--seeds", "1", "--commit", "abc"]


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch.compile
def test_each_part_gives_figures(script, options, tmp_path, monkeypatch):
    done = SimpleNamespace(stdout="FAILED tests/a.py::b\n1 failed, 2 passed", stderr="")
    monkeypatch.setattr(script.subprocess, "run", lambda *args, **settings: done)
    rows = script.main(options)
    assert list(dict.fromkeys(row["section"] for row in rows)) == list(script.parts(1))
    assert [row["error"] for row in rows if "error" in row] == []
    written = (tmp_path / "out" / "gpu.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == rows
    assert {(row["card"], row["commit"]) for row in rows} == {("cpu", "abc")}
    by_part = {row["section"]: row for row in rows}
    assert by_part["tests"]["failed"] == ["FAILED tests/a.py::b"]
    assert 0 <= by_part["accuracy"]["probe"] <= 1
    assert by_part["recipe"]["seconds_of_5000"] > 0
    text = (tmp_path / "out" / "gpu_cpu.md").read_text()
    assert all(f"\n## {name}\n" in text for name in script.parts(1))


def test_what_there_is_no_time_for_is_said(script, options):
    rows = script.main([*options, "--parts", "draws,waits", "--minutes", "-1"])
    assert [row["section"] for row in rows] == ["draws", "waits"]
    assert [row["no_time_for"] for row in rows] == ["2 of 2 cases", "2 of 2 cases"]


def test_an_error_ends_one_case_alone(script, options, monkeypatch):
    def broken(bench, n):
        """Divide by n."""
        return {"result": 1 / n}

    cases = {"draws": (broken, [{"n": 0}, {"n": 2}], 0)}
    monkeypatch.setattr(script, "parts", lambda seeds: cases)
    first, second = script.main(options)
    assert first["error"].startswith("ZeroDivisionError")
    assert second["result"] == 0.5


def test_a_later_run_adds_rows(script, options):
    first = script.main([*options, "--parts", "draws"])
    both = script.main([*options, "--parts", "waits"])
    assert both[: len(first)] == first
    assert {row["section"] for row in both} == {"draws", "waits"}


def test_the_ratio_is_of_the_fewest_steps_that_are_as_good(script):
    fits = [(5, 0.5, 1.0), (5, 0.6, 1.0), (10, 0.7, 2.0), (10, 0.8, 4.0), (50, 0.9, 9.0)]
    names = ("steps", "probe", "seconds")
    kind = {"section": "accuracy", "precision": "bfloat16"}
    rows = [{**kind, **dict(zip(names, fit, strict=True))} for fit in fits]
    snapshots = [(1, 0.6, 100), (2, 0.8, 300), (3, 0.7, 600)]
    scores = [dict(zip(names, snapshot, strict=True)) for snapshot in snapshots]
    found = script.ratio(SimpleNamespace(rows=rows), scores, "bfloat16")
    assert found == pytest.approx({"goal": 0.7, "seconds_to_it": 300, "ours_s": 3, "ratio": 100})


def test_an_unknown_part_is_refused(script, options, capsys):
    with pytest.raises(SystemExit):
        script.main([*options, "--parts", "nonsense"])
    assert "'nonsense' is none of net, tests" in capsys.readouterr().err
