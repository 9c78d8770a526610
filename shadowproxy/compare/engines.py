"""The fold over files: read, summarise, merge. A saved summary may stand wherever a log may."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from shadowproxy.compare.rules import Rules
from shadowproxy.compare.summary import Summary, load, merge
from shadowproxy.lines import Unreadable, lines
from shadowproxy.record import RecordError, decode

Progress = Callable[[int, int], None]
"""Told of bytes and records read since it was last told."""

_SAVED: Final = b'{"shadowproxy_summary"'
_TOLD_EVERY: Final = 200  # records


def summarise_files(
    paths: Iterable[str | Path], rules: Rules, *, shadow: str | None = None, progress: Progress | None = None
) -> Summary:
    """The summary of logs, directories of logs, `-` and saved summaries, together.

    Lines that are no records are counted under a reason, never fatal. Raises OSError where a path cannot be read,
    SummaryError where a saved summary is broken.
    """
    summary = Summary()
    saved: list[Summary] = []
    told = 0

    def on_bytes(count: int) -> None:
        if progress is not None:
            progress(count, 0)

    for line in lines(paths, on_bytes):
        if isinstance(line, Unreadable):
            summary.unreadable[line.why.partition(":")[0].partition(" than ")[0]] += 1
        elif line.raw.startswith(_SAVED):
            saved.append(load(line.raw))
        else:
            try:
                summary.add(decode(line.raw), rules, shadow=shadow)
            except RecordError as error:
                summary.unreadable["torn line" if line.torn else _reason(error)] += 1
            except ValueError:
                summary.unreadable["no time"] += 1
            told += 1
            if progress is not None and told % _TOLD_EVERY == 0:
                progress(0, _TOLD_EVERY)
    if progress is not None:
        progress(0, told % _TOLD_EVERY)
    for each in saved:
        summary = merge(summary, each)
    return summary


def _reason(error: RecordError) -> str:
    said = str(error)
    return "another schema" if said.startswith("a record of schema") else said.partition(":")[0]
