"""Where the benchmarks write what they measured."""

import csv
import datetime
import os
import platform
from pathlib import Path

import torch

import sklgm

RESULTS = Path(__file__).parent / "results"


def machine(processes):
    """Return what figures depend on besides code and seeds."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "processes": processes,
        # joblib shares the cores out among its processes.
        "threads": torch.get_num_threads() if processes == 1 else os.cpu_count() // processes,
        "torch": torch.__version__,
        "sklgm": sklgm.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def save(name, records, tables, processes=1):
    """Write records as CSV and tables as Markdown, each with the facts of the machine.

    Parameters
    ----------
    name : str
        Of the files, without an ending; they replace older ones.
    records : list of dict
        Lines of the CSV.
    tables : dict of str to str
        Markdown tables, by heading.
    processes : int
        That ran at the same time.
    """
    facts = machine(processes)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        fields = dict.fromkeys(key for record in records for key in record)
        writer = csv.DictWriter(file, [*fields, *facts], restval="")
        writer.writeheader()
        writer.writerows({**_rounded(record), **facts} for record in records)
    sections = [f"## {heading}\n\n{table}" for heading, table in tables.items()]
    line = ", ".join(f"{key} {value}" for key, value in facts.items())
    text = "\n\n".join([f"# {name}", f"By `benchmarks/{name}.py`; {line}.", *sections])
    (RESULTS / f"{name}.md").write_text(text + "\n")


def _rounded(record):
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
