"""How answers were streamed, as rows of a table: each arm's streams, and the ratio on the same requests."""

from typing import Final

from shadowproxy.compare.report.figures.basic_types import Quantiles
from shadowproxy.compare.report.figures.measure_types import PairedMeasure, StreamArm, StreamFigures
from shadowproxy.compare.report.sentences.usage import ratio
from shadowproxy.compare.report.words import milliseconds, percent

STREAM_HEADS: Final = ("live", "shadow", "shadow / live", "pairs")

STREAM_NOTE: Final = (
    "In milliseconds. TTFT: until the first token. TPOT: per output token after the first. ITL: the gap between one "
    "token and the next; each answer has a median and a 99th percentile of its own, and the median of all answers' is "
    "shown. E2E: until the end of the answer. Tokens a second leave the time to the first token out. The ratio is of "
    "the requests that both streamed, with its 95 % interval. A stream that broke off, ran into its deadline or "
    "reported an error is not complete. The latency check judges E2E of all answers, and a longer answer takes longer; "
    "nothing judges TTFT and TPOT."
)


def stream_rows(streams: StreamFigures) -> list[tuple[str, ...]]:
    """A row's name, and its figures under STREAM_HEADS; none for what neither arm has."""
    live, shadow, paired = streams["live"], streams["shadow"], streams["paired"]
    rates = [arm["tokens_per_second"] for arm in (live, shadow)]
    return [
        *_rows("TTFT", "to first token", live["ttft_ms"], shadow["ttft_ms"], paired["ttft_ms"]),
        *_rows("TPOT", "per output token", live["tpot_ms"], shadow["tpot_ms"], paired["tpot_ms"]),
        *_rows("ITL p50", "", live["itl_p50_ms"], shadow["itl_p50_ms"], paired["itl_p50_ms"]),
        *_rows("ITL p99", "", live["itl_p99_ms"], shadow["itl_p99_ms"], paired["itl_p99_ms"]),
        *_rows("E2E", "whole answer", live["e2e_ms"], shadow["e2e_ms"], paired["e2e_ms"]),
        *_without_ratio("tokens/s p50", [milliseconds(each["p50"]) for each in rates]),
        ("complete", *(f"{percent(arm['finished'])} of {arm['streams']:,}" for arm in (live, shadow)), "", ""),
    ]


def stream_notes(streams: StreamFigures) -> list[str]:
    """What is measured less exactly, as the log has no times of tokens."""
    notes = []
    for name, arm in (("live's", streams["live"]), ("the shadow's", streams["shadow"])):
        notes += [f"{each} of {arm['streams']:,} of {name} streams" for each in _less_exact(arm)]
    return notes


def _less_exact(arm: StreamArm) -> list[str]:
    found = []
    for source, words in (
        ("byte", "TTFT is the time to the first byte in"),
        ("event", "TTFT is the time to the first event in"),
    ):
        if count := arm["ttft_from"].get(source, 0):
            found.append(f"{words} {count:,}")
    if count := arm["tpot_from_bytes"]:
        found.append(f"TPOT is from the first byte to the end in {count:,}")
    return found


def _rows(
    name: str, words: str, live: Quantiles, shadow: Quantiles, paired: PairedMeasure | None
) -> list[tuple[str, ...]]:
    """The rows of a measure. Without words it is itself a quantile of each answer, and its median is shown."""
    if live["p50"] is None and shadow["p50"] is None:
        return []
    count = f"{paired['requests']:,}" if paired is not None else "0"
    return [
        (
            f"{name} {q}, {words}" if words else f"{name}, gap between tokens",
            milliseconds(live[q]),
            milliseconds(shadow[q]),
            ratio(paired["ratio"][q] if paired is not None else None),
            count,
        )
        for q in (("p50", "p99") if words else ("p50",))
    ]


def _without_ratio(name: str, cells: list[str]) -> list[tuple[str, ...]]:
    return [(name, *cells, "", "")] if set(cells) != {"–"} else []
