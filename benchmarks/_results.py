"""Where the benchmarks write what they measured."""

import csv
import datetime
import os
import platform
import threading
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import torch

import sklgm
from sklgm.utils.tables import spread

RESULTS = Path(__file__).parent / "results"


def machine(processes):
    """Return what figures depend on besides code and seeds."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "processes": processes,
        # joblib shares the cores out among its processes.
        "threads": torch.get_num_threads() if processes == 1 else os.cpu_count() // processes,
        "torch": torch.__version__,
        "sklgm": sklgm.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def save(name, records, tables, processes=1, script=None):
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
    script : str, optional
        Name of the script, where it is another one.
    """
    facts = machine(processes)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        fields = dict.fromkeys(key for record in records for key in record)
        writer = csv.DictWriter(file, [*fields, *facts], restval="")
        writer.writeheader()
        writer.writerows({**_rounded(record), **facts} for record in records)
    origin = ", ".join(f"{key} {value}" for key, value in facts.items())
    _write_tables(name, tables, origin, script or name)


def append(name, record):
    """Add a line to a CSV, with the facts of the machine; make the file if it is not there.

    Parameters
    ----------
    name : str
        Of the file, without an ending.
    record : dict
        The line; of the same keys as the others.
    """
    line = {**_rounded(record), **machine(1)}
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(line)
    with path.open(newline="") as file:
        columns = next(csv.reader(file))
    if set(columns) != set(line):
        raise ValueError(f"{path} has the columns {columns}, the new line {list(line)}.")
    with path.open("a", newline="") as file:
        csv.DictWriter(file, columns).writerow(line)


def run_missing(name, keys, todo, run, trial=False):
    """Do the runs that have no line in a CSV yet, and add the line of each as soon as it is there.

    Parameters
    ----------
    name : str
        Of the file, without an ending.
    keys : sequence of str
        Columns that tell one run from another.
    todo : iterable of tuple
        Values of these, of each run.
    run : callable
        Takes these values, and returns the other columns as a dict.
    trial : bool, default=False
        Whether to do all runs and print the records only.
    """
    done = set() if trial else {tuple(line[key] for key in keys) for line in read(name)}
    for values in todo:
        if tuple(map(str, values)) not in done:
            record = {**dict(zip(keys, values, strict=True)), **run(*values)}
            print(record, flush=True)
            if not trial:
                append(name, record)


def keep(path, make):
    """Return what a file holds; where there is none, make that and write it first.

    Parameters
    ----------
    path : Path
        The file, of joblib.
    make : callable
        Takes no arguments.
    """
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")  # what has its name is whole
        joblib.dump(made, half)
        half.replace(path)
    return joblib.load(path)


def memory(pid="self"):
    """Return the sizes in a process's status on Linux, such as "RssAnon", in MiB by their names."""
    fields = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {field[0][:-1]: int(field[1]) / 1024 for field in fields if field[-1] == "kB"}


@contextmanager
def watching(read):
    """Yield a list whose only item is the largest value that a function returned meanwhile."""
    peak, ended = [read()], threading.Event()

    def watch():
        while not ended.wait(0.02):
            peak[0] = max(peak[0], read())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def mean_and_error(values):
    """Return the mean of some values and its standard error, if there are several, as text."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return spread(np.mean(values), error)


def read(name):
    """Return the lines of a CSV as dicts of strings, none if there is no such file."""
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save_tables(name, tables, script=None):
    """Write tables of a CSV that came line by line, each line with the facts of its machine.

    Parameters
    ----------
    name, tables
        As in :func:`save`.
    script : str, optional
        Name of the script, where it is another one.
    """
    origin = f"machines, versions and dates are in `{name}.csv`"
    _write_tables(name, tables, origin, script or name)


def _write_tables(name, tables, origin, script):
    sections = [f"## {heading}\n\n{table}" for heading, table in tables.items()]
    text = "\n\n".join([f"# {name}", f"By `benchmarks/{script}.py`; {origin}.", *sections])
    (RESULTS / f"{name}.md").write_text(text + "\n")


def _rounded(record):
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
