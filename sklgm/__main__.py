"""``python -m sklgm`` is the ``sklgm`` command."""

from sklgm.cli import app

app(prog_name="sklgm")
