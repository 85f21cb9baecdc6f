"""The ``sklgm`` command."""
