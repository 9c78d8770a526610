"""What `shadowproxy judge` prints: first what it will send, where and how often, and at the end what came of it."""

from collections.abc import Iterator

from shadowproxy.compare.judge.visible import visible
from shadowproxy.compare.report.preferences import judged_figures
from shadowproxy.compare.report.words import percent
from shadowproxy.judge.draw import Survey
from shadowproxy.judge.humans import Agreement
from shadowproxy.judge.run import Plan, Result


def lines_before(plan: Plan, found: Survey, before: int) -> Iterator[str]:
    """What will be sent, to whom, and how often; `before` calls were made by earlier runs."""
    head = plan.head
    pairs = head.equal + head.differing
    yield _row("judge", f"{plan.target.model} at {plan.target.origin}")
    said = f"{pairs:,} of shadow {head.shadow}: {head.equal:,} equal, which are ties; {head.differing:,} differ"
    yield _row("pairs", said)
    for why, count in sorted(head.left_out.items()):
        yield _row("left out", f"{count:,}: {why}")
    for why, count in sorted(found.unreadable.items()):
        yield _row("unreadable", f"{count:,} {'line' if count == 1 else 'lines'} of the log: {why}")
    calls = max(0, plan.budget - before)
    earlier = f" (and {before:,} before)" if before else ""
    if head.drawn:
        what = f"the requests and both answers of up to {min(head.drawn, calls // 2):,} pairs"
        yield _row("sends", f"{what}, in up to {calls:,} calls{earlier}")


def lines_after(plan: Plan, result: Result, people: Agreement | None, logs: tuple[str, ...]) -> Iterator[str]:
    """What the judge said, and how sure it is."""
    figures = judged_figures(result.head, list(result.known.values()))
    yield _row("asked", f"{figures['asked']:,} pairs; {result.calls:,} calls now, {result.before:,} before")
    if figures["asked"]:
        decided = f"shadow {figures['shadow_better']:,}, live {figures['live_better']:,}, ties {figures['ties']:,}"
        swayed = f" ({figures['swayed']:,} as it preferred the same place twice)" if figures["swayed"] else ""
        yield _row("better", f"{decided}{swayed}")
    if count := figures["unreadable"]:
        yield _row("unreadable", f"{_pairs(count)}, left out")
    if failures := result.failures:
        yield _row("failed", f"{_pairs(len(failures))}, left out; the last: {failures[-1]}")
    between = f"{percent(figures['low'])} to {percent(figures['high'])}"
    value = figures["win_rate"]
    yield _row("win rate", f"{percent(value)}, surely {between}" if value is not None else f"surely {between}")
    yield _row("ended", _end(plan, result))
    if people is not None:
        kappa = f", kappa {people.kappa:.2f}" if people.kappa is not None else ""
        yield _row("people", f"agree with it on {percent(people.share)} of {people.n:,} pairs{kappa}")
    yield _row("file", f"{plan.output}; to use it: shadowproxy report {' '.join(logs)} --judged {plan.output}")


def _end(plan: Plan, result: Result) -> str:
    if result.stopped is not None:
        return result.stopped
    if result.ended == "settled" and plan.line is not None:
        side = "at least" if result.rate.low >= plan.line else "below"
        return f"settled: {side} {percent(plan.line)}"
    if result.ended == "spent":
        return f"the budget of {plan.budget:,} calls is spent"
    return "all drawn pairs were asked"


def _pairs(count: int) -> str:
    return f"{count:,} {'pair' if count == 1 else 'pairs'}"


def _row(name: str, text: str) -> str:
    return f"{name:<12}{visible(text)}"
