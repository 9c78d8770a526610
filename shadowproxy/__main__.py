"""The program's entry: `python -m shadowproxy` and the console script are the same.

A healthcheck runs every few seconds for as long as the sidecar does, and scripts read the version, so both are answered
before click is imported. Not even typing is imported here: it costs half as much as starting Python.
"""

import os
import sys

from shadowproxy import version_text


def main() -> None:
    """The console script. Ends the process with an exit status."""
    match sys.argv[1:]:
        case ["--version" | "-V"]:
            try:
                os.write(1, f"shadowproxy {version_text()}\n".encode())
            except BrokenPipeError:
                sys.exit(141)  # as the other commands end where standard output has no reader any more
            except OSError as error:
                sys.exit(f"shadowproxy: cannot write to standard output: {error.strerror}")
            return
        case ["healthcheck", *words]:
            from shadowproxy import healthcheck

            status = healthcheck.run(words)
            if status is not None:
                sys.exit(status)
        case ["serve", *words]:
            from shadowproxy.serve.start import split

            sys.exit(split.main(words))
        case ["report" | "summarise", *_]:
            from contextlib import suppress

            with suppress(OSError):
                os.nice(10)  # it may run beside a sidecar, in its container
    from shadowproxy import cli

    cli.main()


if __name__ == "__main__":
    main()
