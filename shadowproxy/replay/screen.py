"""What came of a replay, in words for its end."""

from collections.abc import Iterator

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.exchange import Outcome
from shadowproxy.replay.again import Unfit
from shadowproxy.replay.plan import LATE, Plan, Tally


def lines(plan: Plan, tally: Tally) -> Iterator[str]:
    """A screen of words. They name what was left out and hold no value of it."""
    rate = f", {tally.begun / tally.seconds:,.1f} a second" if tally.seconds > 0 and tally.begun else ""
    ended = " (ended early)" if tally.interrupted else ""
    yield f"{plan.name:<12}{_requests(tally.begun)} sent to {plan.shadow.url} in {tally.seconds:.1f} s{rate}{ended}"
    yield from _answers(tally)
    for why, count in sorted(tally.skipped.items()):
        yield f"{'not sent':<12}{_requests(count)}: {why}{_named(tally) if why is Unfit.METHOD else ''}"
    for said, count in sorted(tally.unreadable.items()):
        yield f"{'unreadable':<12}{count:,} {'line' if count == 1 else 'lines'} of the log: {said}"
    for name, count in sorted(tally.left_out.items()):
        what, hint = _left_out(name)
        yield f"{'left out':<12}{what}, redacted in the log, in {_requests(count)}{hint}"
    if tally.decoded:
        yield f"{'decoded':<12}{_requests(tally.decoded)} sent without the Content-Encoding of their body"
    if tally.inexact:
        yield f"{'inexact':<12}{_requests(tally.inexact)} whose body the log has in other bytes than it came in"
    if tally.not_rewritten:
        yield f"{'unchanged':<12}{_requests(tally.not_rewritten)} sent as they came: rewrite.json cannot read them"
    if tally.late:
        yield (
            f"{'late':<12}{_requests(tally.late)} sent over {LATE * 1000:.0f} ms after their time, at most "
            f"{tally.latest:.1f} s: a larger --in-flight may help"
        )
    if tally.marked and not plan.policy.redaction.json:
        yield (
            f"{'redacted':<12}live's answer, in {_requests(tally.marked)}: give -c the configuration it was logged "
            "with, or what was redacted counts as a difference"
        )
    if tally.begun:
        yield f"{'log':<12}{plan.output}; what it says: shadowproxy report {plan.output}"


def _named(tally: Tally) -> str:
    """The methods that were left out, and the options that would send them."""
    counts = ", ".join(f"{method} {count:,}" for method, count in sorted(tally.methods.items()))
    return f" ({counts}); to send them all the same: {' '.join(f'--method {name}' for name in sorted(tally.methods))}"


def _answers(tally: Tally) -> Iterator[str]:
    answered = tally.outcomes[Outcome.OK]
    if answered:
        statuses = ", ".join(f"{count:,} with status {status}" for status, count in sorted(tally.statuses.items()))
        median, p99 = (quantile(tally.times, q) or 0.0 for q in (0.5, 0.99))
        yield f"{'answered':<12}{answered:,} ({statuses}), median {median:.1f} ms, p99 {p99:.1f} ms"
    if tally.verdicts:
        verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(tally.verdicts.items()))
        yield f"{'beside live':<12}{verdicts}"
    failed = {outcome: count for outcome, count in sorted(tally.outcomes.items()) if outcome is not Outcome.OK}
    if failed:
        yield f"{'failed':<12}{', '.join(f'{outcome} {count:,}' for outcome, count in failed.items() if count)}"


def _left_out(name: str) -> tuple[str, str]:
    """A header field or a parameter in words, and how its value can be given."""
    sign, plain = name[:1], name[1:]
    if sign == ";":
        return f"{plain} in the path", ""
    if sign == "?":
        return (plain, f"; fill it in: --query '{plain}=${{NAME}}'") if plain else ("a part of the query", "")
    return name, f"; fill it in: --header '{name}: ${{NAME}}'"


def _requests(count: int) -> str:
    return f"{count:,} request" if count == 1 else f"{count:,} requests"
