"""Where the command `watchdog` and `python -m watchdog` begin: Ctrl-C ends them without a traceback from here on."""

import sys
from typing import NoReturn

EXIT_INTERRUPTED = 130
"""As shells have it: 128 and the signal's number."""


def main() -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    try:
        # It imports for a third of a second.
        from watchdog.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
