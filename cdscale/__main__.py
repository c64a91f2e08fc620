"""The command ``cdscale`` from its first moment: Ctrl-C may come while its modules load."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line, and run it."""
    try:
        from cdscale.cli import INTERRUPTED, main
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
