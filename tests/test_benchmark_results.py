"""Benchmarks that take hours write each run down as it comes, and go on after a break."""

import csv
import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "_results.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="not in a source distribution")


@pytest.fixture
def results(tmp_path):
    spec = importlib.util.spec_from_file_location("results", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.RESULTS = tmp_path
    return module


def run(results, todo, done, fails_at=None, **options):
    def one(net, seed):
        if (net, seed) == fails_at:
            raise KeyboardInterrupt
        done.append((net, seed))
        return {"accuracy": 0.1 * seed + 1 / 3}

    results.run_missing("trial", ("net", "seed"), todo, one, **options)


def test_an_interrupted_benchmark_goes_on(results):
    todo, done = [("a", 0), ("a", 1), ("b", 0)], []
    with pytest.raises(KeyboardInterrupt):
        run(results, todo, done, fails_at=("a", 1))
    assert len(results.read("trial")) == 1
    run(results, todo, done)
    assert done == todo
    with (results.RESULTS / "trial.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["net"], line["seed"]) for line in lines] == [("a", "0"), ("a", "1"), ("b", "0")]
    assert [float(line["accuracy"]) for line in lines] == [0.33333, 0.43333, 0.33333]
    assert {"device", "torch", "date"} < set(lines[0])


def test_a_trial_is_not_written(results):
    done = []
    run(results, [("a", 0)], done)
    run(results, [("a", 0), ("a", 1)], done, trial=True)
    assert done == [("a", 0), ("a", 0), ("a", 1)]
    assert len(results.read("trial")) == 1


def test_lines_of_other_columns_are_refused(results):
    results.append("trial", {"net": "a", "seed": 0})
    with pytest.raises(ValueError, match="has the columns"):
        results.append("trial", {"net": "a", "other": 0})
    assert len(results.read("trial")) == 1
