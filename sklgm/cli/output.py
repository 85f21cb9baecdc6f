"""What the commands print: results, and errors as one line."""

import json
import warnings
from contextlib import nullcontext
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

console = Console(emoji=False)
_errors = Console(stderr=True, emoji=False)


class Commands(TyperGroup):
    """All commands. Errors and warnings are printed as one line each; errors set the exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (ValueError, OSError, ImportError) as error:
            text = " ".join([str(error), *getattr(error, "__notes__", ())])
            message = f"[bold red]Error:[/] {escape(text)}"
            _errors.print(message, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as interrupt:
            _errors.print(str(interrupt) or "Interrupted.", markup=False, soft_wrap=True)
            raise typer.Exit(130) from interrupt


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    line = " ".join(str(message).split())
    _errors.print(f"[bold yellow]Warning:[/] {escape(line)}", highlight=False, soft_wrap=True)


def waiting(text: str, as_json: bool) -> Any:
    """Return a context in which a text is shown, unless the result is to be JSON."""
    return nullcontext() if as_json else console.status(text)


def give(as_json: bool, record: Any, *shown: Any, quiet: bool = False) -> None:
    """Print a result: the record as JSON, or else what is to be shown to people, unless quiet."""
    if as_json:
        # JSON has no NaN: null takes its place.
        record = json.loads(json.dumps(record), parse_constant=lambda name: None)
        print(json.dumps(record, indent=2))  # noqa: T201
    elif not quiet:
        for one in shown:
            # Names of files may hold what is no text.
            line = one.encode(errors="backslashreplace").decode() if isinstance(one, str) else one
            console.print(line, highlight=False, soft_wrap=isinstance(one, str))


def rich_table(result: Any) -> Table:
    """Return a result as a table that fits 80 columns."""
    titles, rows = result._table()
    table = Table(
        caption=escape(result._caption()), box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
    )
    widths = [max(map(len, column)) + 1 for column in zip(titles, *rows, strict=True)]
    # A name is broken before a number is, where it keeps a few letters to a line.
    whole = sum(widths[1:]) <= 80 - 14
    for i, heading in enumerate(titles):
        justify: Any = "right" if i else "left"
        table.add_column(escape(heading), justify=justify, no_wrap=whole and i > 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
