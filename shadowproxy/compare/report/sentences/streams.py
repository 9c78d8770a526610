"""How answers were streamed, by arm."""

from typing import Final

from shadowproxy.compare.report.figures.types import StreamArm, StreamFigures
from shadowproxy.compare.report.words import milliseconds, percent

STREAM_HEADS: Final = ("first byte p50", "p90", "tokens/s p50", "p90", "complete")


def stream_rows(streams: StreamFigures) -> list[tuple[str, ...]]:
    """For each arm its name, and its figures under STREAM_HEADS."""
    return [_row("live", streams["live"]), _row("shadow", streams["shadow"])]


def _row(name: str, arm: StreamArm) -> tuple[str, ...]:
    first, rates = arm["first_byte_ms"], arm["tokens_per_second"]
    times = (milliseconds(each[at]) for each in (first, rates) for at in ("p50", "p90"))
    return name, *times, f"{percent(arm['finished'])} of {arm['streams']:,}"
