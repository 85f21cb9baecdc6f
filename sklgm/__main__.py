"""``python -m sklgm`` is the ``sklgm`` command."""

from sklgm.cli.app import app

app(prog_name="sklgm")
