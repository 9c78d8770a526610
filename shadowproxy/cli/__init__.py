"""The commands: texts and exit statuses, no logic.

Exit status: 0 success; 1 a negative result (an endpoint cannot be reached, a check failed, no such record); 2 a wrong
command line, configuration or input; 3 too little data for a result; 130 Ctrl-C. An error that the user can correct is
one line on standard error, never a traceback.

Rooms are imported inside the commands: `shadowproxy --help` must not wait for an HTTP stack to load.
"""

import errno
import sys
from typing import NoReturn

import click

from shadowproxy.cli.completion import completion
from shadowproxy.cli.demo import demo
from shadowproxy.cli.environment import blamed
from shadowproxy.cli.erase import erase
from shadowproxy.cli.export import export
from shadowproxy.cli.group import EXIT_INTERRUPTED, EXIT_USAGE, commands, forget_output, print_error
from shadowproxy.cli.init import init
from shadowproxy.cli.judge import judge
from shadowproxy.cli.records import show, tail
from shadowproxy.cli.replay import replay
from shadowproxy.cli.report import report, summarise
from shadowproxy.cli.selftest import selftest
from shadowproxy.cli.sidecar import Start, check, healthcheck, schema, serve
from shadowproxy.cli.verdict import verdict
from shadowproxy.cli.version import version
from shadowproxy.cli.watch import watch

__all__ = ["commands", "main"]

# The order of --help.
for command in (
    *(init, serve, check, healthcheck, schema),
    *(report, summarise, verdict, watch, selftest, judge, show, tail, export, erase, replay),
    *(demo, completion, version),
):
    commands.add_command(command)


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""The errors of writing to standard output when it is a file on a full or broken disk."""


def main(start: "Start | None" = None) -> NoReturn:
    """Run a command. Every kind of failure becomes a message and an exit status. `serve` calls `start`."""
    try:
        status = commands.main(prog_name="shadowproxy", standalone_mode=False, obj=start)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = EXIT_USAGE
    except click.UsageError as error:
        hint = f' (see "{error.ctx.command_path} --help")' if error.ctx is not None else ""
        name = blamed(error) if isinstance(error, click.BadParameter) else None
        print_error((error.format_message() if name is None else f"{name}: {error.message}") + hint)
        status = EXIT_USAGE
    except click.ClickException as error:
        print_error(error.format_message())
        status = EXIT_USAGE
    except click.Abort:
        status = EXIT_INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        forget_output()
        print_error(f"cannot write to standard output: {error.strerror}")
        status = EXIT_USAGE
    sys.exit(status)
