"""A thousand-class run that is killed in each of its phases, and ends as if it never was.

The rows are those of ``benchmarks/thousand_classes.py``. A run distils them with ``memory=`` and
trains a probe on the prototypes. It is killed at a random moment of the pass over the rows, of the
steps, or of the probe, and started again. Its sums, prototypes and probe are compared with those of
a run that was left alone, bit for bit. What is kept is written every five seconds, so that
something is there to go on from.

Run: ``python benchmarks/killed_runs.py --work FOLDER``.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import joblib
import torch
from _results import run_missing
from thousand_classes import rows_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet
from tests.followers import Follower

PHASES = ("pass", "steps", "probe")


class Teller(Follower):
    """A callback that prints which phase begins."""

    phases = {"real-gradients": "pass", "synthesis": "steps"}

    def on_fit_task_begin(self, estimator, context):
        """Print the phase."""
        if context.task_name in self.phases:
            print(self.phases[context.task_name], flush=True)


def run(folder, n_classes, memory):
    """Distil and probe, and print a digest of what came out."""
    X, y, _, _ = rows_of(folder, n_classes)
    distiller = LGMDistiller(
        backbone=None, heads="zero", max_iter=200, memory=memory, random_state=0
    ).set_callbacks(Teller())
    with mock.patch("sklgm.utils.files._SECONDS", 5.0):
        distiller.fit(X, y)
    print("probe", flush=True)
    given = PrototypeSet.from_estimator(distiller)
    head = FrozenBackboneProbe(backbone=None, random_state=0).fit(given).head_.module_
    kept = next(memory.rglob("output.pkl"))
    found = {
        "sums": joblib.hash({k: v.numpy() for k, v in joblib.load(kept).tensors().items()}),
        "prototypes": joblib.hash([distiller.prototypes_, distiller.loss_curve_]),
        "probe": joblib.hash([part.detach().numpy() for part in head.parameters()]),
    }
    print(json.dumps(found), flush=True)


class Victim:
    """A run in a process of its own."""

    def __init__(self, arguments, memory):
        command = [sys.executable, __file__, "--run", str(memory)]
        command += ["--work", str(arguments.work), "--classes", str(arguments.classes)]
        command += ["--threads", str(arguments.threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.starts = {}

    def follow(self, phase=None):
        """Read until a phase begins, or to the end, and return what was read last."""
        for line in self.process.stdout:
            if line.strip() == phase:
                return None
            if line.startswith("{"):
                return json.loads(line)
            self.starts[line.strip()] = time.perf_counter()
        raise RuntimeError("The run ended before its time.")


def lengths(arguments):
    """Return what a run that is left alone finds, and the seconds of its phases."""
    victim = Victim(arguments, arguments.work / "whole")
    found = victim.follow()
    times = [*(victim.starts[phase] for phase in PHASES), time.perf_counter()]
    return found, {p: times[i + 1] - times[i] for i, p in enumerate(PHASES)}


def main():
    """Kill, go on, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5, help="kills in each phase")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        torch.set_num_threads(arguments.threads)
        run(arguments.work, arguments.classes, arguments.run)
        return
    shutil.rmtree(arguments.work / "whole", ignore_errors=True)
    expected, seconds = lengths(arguments)

    def kill(phase, number):
        memory = arguments.work / f"killed-{phase}-{number}"
        shutil.rmtree(memory, ignore_errors=True)
        moment = random.Random(f"{phase}-{number}").uniform(0, seconds[phase])
        victim = Victim(arguments, memory)
        victim.follow(phase)
        time.sleep(moment)
        victim.process.kill()
        victim.process.wait()
        kept = sorted(path.stem[:4] for path in memory.rglob("*.safetensors"))
        start = time.perf_counter()
        found = Victim(arguments, memory).follow()
        return {
            "after": moment,
            "of": seconds[phase],
            "kept": " ".join("sums" if name == "pass" else "steps" for name in kept),
            "rest": time.perf_counter() - start,
            **{f"same {name}": found[name] == expected[name] for name in expected},
        }

    todo = [(phase, number) for phase in PHASES for number in range(arguments.times)]
    run_missing("killed_runs", ("phase", "number"), todo, kill)


if __name__ == "__main__":
    main()
