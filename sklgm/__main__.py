"""``python -m sklgm`` is the ``sklgm`` command."""

import sys

from sklgm.utils.extras import needs_extra


def main() -> None:
    """Run the command, or say that the extra it needs is missing."""
    try:
        with needs_extra("cli", "The command sklgm"):
            from sklgm.cli.app import app
    except ImportError as error:
        sys.exit(str(error))
    app(prog_name="sklgm")


if __name__ == "__main__":
    main()
