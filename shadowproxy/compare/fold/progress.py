"""A progress bar for reading a log, on a terminal only: the share that was read, records a second, the time left."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shadowproxy.compare.fold.engines import Progress as Callback
from shadowproxy.lines import weight_of
from shadowproxy.sources import sources_of


@contextmanager
def reading(paths: Sequence[str]) -> Iterator[Callback | None]:
    """The function to call with the bytes and records read; None if standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    sizes: list[int | None]
    try:
        sizes = [weight_of(source) for path in paths for source in sources_of(path)]
    except OSError:
        sizes = [None]  # whoever reads it says what is wrong
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total, rate="")
        records = 0

        def advance(size: int, count: int) -> None:
            nonlocal records
            records += count
            elapsed = bar.tasks[0].elapsed or 0.0
            rate = f"{records / elapsed:,.0f} records/s" if elapsed > 0.5 else ""
            bar.update(task, advance=size, rate=rate)

        yield advance
