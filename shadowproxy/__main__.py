"""The program's door: `python -m shadowproxy` and the console script are the same.

A healthcheck runs every few seconds for as long as the sidecar does, so it goes in before click is imported.
"""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    if sys.argv[1:2] == ["healthcheck"]:
        from shadowproxy import healthcheck

        status = healthcheck.run(sys.argv[2:])
        if status is not None:
            sys.exit(status)
    from shadowproxy import cli

    cli.main()


if __name__ == "__main__":
    main()
