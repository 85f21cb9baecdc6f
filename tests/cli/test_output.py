"""What the command prints."""

import io

from rich.console import Console

from sklgm.cli.output import rich_table
from sklgm.evaluation import SelectionComparison


def lines_of(names):
    """Return the lines of a table whose rows have these names."""
    facts = {"selection_seed": None, "n_images": 1000, "select_seconds": 1.0, "train_seconds": 99.0}
    scores = dict.fromkeys(("accuracy", "top_5_accuracy", "balanced_accuracy"), 0.125)
    records = [{"selection": name, "seed": i, **facts, **scores} for name in names for i in (0, 1)]
    console = Console(width=80, file=io.StringIO())
    console.print(rich_table(SelectionComparison(tuple(records))))
    return console.file.getvalue().splitlines()


def test_brackets_in_names_are_printed_as_they_are():
    assert any(line.split()[:1] == ["[b]"] for line in lines_of(["[b]"]))


def test_a_table_breaks_names_before_numbers():
    lines = lines_of(["random", "prototypes", "prototypes, soft labels"])
    assert sum(line.count("0.125 ± 0.000") for line in lines) == 9
    assert max(map(len, lines)) <= 80
    first = " ".join(line[:12] for line in lines)
    assert "prototypes, soft labels" in " ".join(first.split()).replace(" ,", ",")
