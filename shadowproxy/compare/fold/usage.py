"""What answers took, and why language models stopped: each arm alone, and both on the same requests."""

from dataclasses import dataclass, field

from shadowproxy.answers import Content
from shadowproxy.answers.finish import finish_in
from shadowproxy.answers.usage import usage_of
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.counts import Hist, WordCounts
from shadowproxy.compare.fold.measured import Totalled
from shadowproxy.compare.fold.sums import Sums
from shadowproxy.compare.fold.tables import Parts
from shadowproxy.compare.judge.standing import Standing
from shadowproxy.record import RecordedLeg
from shadowproxy.usage import NOTHING, Usage


@dataclass(slots=True)
class ArmUsage(Parts):
    """What one arm's answers took. `totals` has the sums of tokens, `costs` that of costs; the rest is by answer."""

    totals: WordCounts = field(default_factory=WordCounts)
    costs: Sums = field(default_factory=Sums)
    tokens_in: Hist = field(default_factory=Hist)
    tokens_out: Hist = field(default_factory=Hist)
    cached: Hist = field(default_factory=Hist)
    cost: Hist = field(default_factory=Hist)

    def add(self, block: int, usage: Usage) -> None:
        """Count one answer."""
        for name, count, counts in (
            ("tokens_in", usage.tokens_in, self.tokens_in),
            ("tokens_out", usage.tokens_out, self.tokens_out),
            ("cached", usage.cached, self.cached),
        ):
            if count is not None:
                self.totals[name] += count
                counts[bin_of(count)] += 1
        if usage.cost is not None:
            self.costs.add(block, usage.cost)
            self.cost[bin_of(usage.cost)] += 1


@dataclass(slots=True)
class PairUsage(Parts):
    """What both arms' answers took; from `tokens_in` on, on the requests for which both say it.

    finish: pairs by why both models stopped, `live shadow`; an answer that failed or refused stands as that.
    """

    live: ArmUsage = field(default_factory=ArmUsage)
    shadow: ArmUsage = field(default_factory=ArmUsage)
    tokens_in: Totalled = field(default_factory=Totalled)
    tokens_out: Totalled = field(default_factory=Totalled)
    cached: Totalled = field(default_factory=Totalled)
    cost: Totalled = field(default_factory=Totalled)
    finish: WordCounts = field(default_factory=WordCounts)

    def add(
        self,
        block: int,
        live: tuple[RecordedLeg, Content | None],
        shadow: tuple[RecordedLeg, Content | None],
    ) -> None:
        """Count what both answers to a request took; an answer that is not whole has no content."""
        one, other = _usage(*live), _usage(*shadow)
        if one is NOTHING and other is NOTHING:
            return
        self.live.add(block, one)
        self.shadow.add(block, other)
        self.tokens_in.add(block, one.tokens_in, other.tokens_in)
        self.tokens_out.add(block, one.tokens_out, other.tokens_out)
        self.cached.add(block, one.cached, other.cached)
        self.cost.add(block, one.cost, other.cost)

    def add_finish(self, live: Content, shadow: Content | None, one: Standing, other: Standing) -> None:
        """Count why both models stopped, if one of the two answers of a pair is a language model's."""
        first, second = _finish(live, one), _finish(shadow, other)
        if first is not None or second is not None:
            self.finish[f"{first or _without(one)} {second or _without(other)}"] += 1


def _usage(answer: RecordedLeg, content: Content | None) -> Usage:
    found = NOTHING if content is None else usage_of(content, answer.headers)
    events = answer.events
    if found.tokens_out is None and events is not None and events.counted == "usage":
        found = found._replace(tokens_out=events.tokens)  # of an answer that is not in the log, or not whole
    return NOTHING if found == NOTHING else found


def _finish(content: Content | None, standing: Standing) -> str | None:
    if content is None or standing != "good" or content.kind != "json":
        return None
    return finish_in(content.value)


def _without(standing: Standing) -> str:
    """What stands for an answer that is no language model's."""
    return standing if standing in ("failed", "refused") else "none"
