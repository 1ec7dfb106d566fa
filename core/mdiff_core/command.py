"""What the commands share: one line and an exit code for every error."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mdiff_core.errors import MdiffError, UsageError
from mdiff_core.extras import not_installed


def run_app(app: Callable[[], object]) -> None:
    """Run a command line; an :class:`MdiffError` becomes one line on stderr and its class's exit code.

    A package that an extra would install, or that cannot be loaded, is missed in one line too. Ctrl-C leaves with 130,
    as shells expect.
    """
    try:
        app()
    except MdiffError as error:
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        sys.exit(error.exit_code)
    except ImportError as error:
        if error.name is None or error.name.startswith("mdiff"):
            raise
        absent = isinstance(error, ModuleNotFoundError)
        told = not_installed(error.name) if absent else f"{error.name} cannot be loaded: {error.msg}"
        print("error:", " ".join(told.splitlines()), file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
