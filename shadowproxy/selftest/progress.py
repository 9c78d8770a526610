"""A progress bar for measuring, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shadowproxy.selftest.run import Progress as Callback


@contextmanager
def measuring() -> Iterator[Callback | None]:
    """The function to call with the number of measured faults; None if standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("planting faults"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
