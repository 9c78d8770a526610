"""What a replay prints at its end."""

from collections.abc import Iterator

from shadowproxy.compare.fold.bins import quantile
from shadowproxy.exchange import Outcome
from shadowproxy.replay.plan import LATE, Plan, ReplayCounts
from shadowproxy.replay.request import NotSent


def lines(plan: Plan, counts: ReplayCounts) -> Iterator[str]:
    """The lines of the screen. They name what was left out, without its value."""
    rate = f", {counts.begun / counts.seconds:,.1f} a second" if counts.seconds > 0 and counts.begun else ""
    ended = " (ended early)" if counts.interrupted else ""
    yield f"{plan.name:<12}{_requests(counts.begun)} sent to {plan.shadow.url} in {counts.seconds:.1f} s{rate}{ended}"
    yield from _answers(counts)
    for why, count in sorted(counts.skipped.items()):
        yield f"{'not sent':<12}{_requests(count)}: {why}{_named(counts) if why is NotSent.METHOD else ''}"
    for reason, count in sorted(counts.unreadable.items()):
        yield f"{'unreadable':<12}{count:,} {'line' if count == 1 else 'lines'} of the log: {reason}"
    for name, count in sorted(counts.left_out.items()):
        what, hint = _left_out(name)
        yield f"{'left out':<12}{what}, redacted in the log, in {_requests(count)}{hint}"
    if plan.state is not None:
        unknown = counts.outcomes[Outcome.STATE_UNKNOWN]
        yield f"{'state':<12}{_requests(counts.translated)} translated, {unknown:,} unknown"
    if counts.decoded:
        yield f"{'decoded':<12}{_requests(counts.decoded)} sent without the Content-Encoding of their body"
    if counts.inexact:
        yield f"{'inexact':<12}{_requests(counts.inexact)} whose recorded body is not byte for byte the received one"
    if counts.not_rewritten:
        yield f"{'unchanged':<12}{_requests(counts.not_rewritten)} sent without rewrite.json: it cannot read their body"
    if counts.late:
        yield (
            f"{'late':<12}{_requests(counts.late)} sent more than {LATE * 1000:.0f} ms late, at most "
            f"{counts.latest:.1f} s: a larger --in-flight may help"
        )
    if counts.marked and not plan.policy.redaction.json:
        yield (
            f"{'redacted':<12}live's answer, in {_requests(counts.marked)}: give -c the configuration of that "
            "log, or redacted values count as differences"
        )
    if counts.begun:
        yield f"{'log':<12}{plan.output}; to read it: shadowproxy report {plan.output}"


def _named(counts: ReplayCounts) -> str:
    """The methods that were not sent, and the options that send them."""
    methods = ", ".join(f"{method} {count:,}" for method, count in sorted(counts.methods.items()))
    return f" ({methods}); to send them: {' '.join(f'--method {name}' for name in sorted(counts.methods))}"


def _answers(counts: ReplayCounts) -> Iterator[str]:
    answered = counts.outcomes[Outcome.OK]
    if answered:
        statuses = ", ".join(f"{count:,} with status {status}" for status, count in sorted(counts.statuses.items()))
        median, p99 = (quantile(counts.times, q) or 0.0 for q in (0.5, 0.99))
        yield f"{'answered':<12}{answered:,} ({statuses}), median {median:.1f} ms, p99 {p99:.1f} ms"
    if counts.verdicts:
        verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(counts.verdicts.items()))
        yield f"{'compared':<12}{verdicts}"
    failed = {outcome: count for outcome, count in sorted(counts.outcomes.items()) if outcome is not Outcome.OK}
    if failed:
        yield f"{'failed':<12}{', '.join(f'{outcome} {count:,}' for outcome, count in failed.items() if count)}"


def _left_out(name: str) -> tuple[str, str]:
    """A header field or a parameter in words, and the option that fills it in."""
    sign, plain = name[:1], name[1:]
    if sign == ";":
        return f"{plain} in the path", ""
    if sign == "?":
        return (plain, f"; fill it in: --query '{plain}=${{NAME}}'") if plain else ("a part of the query", "")
    return name, f"; fill it in: --header '{name}: ${{NAME}}'"


def _requests(count: int) -> str:
    return f"{count:,} request" if count == 1 else f"{count:,} requests"
