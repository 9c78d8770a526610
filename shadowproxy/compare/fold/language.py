"""What language models wrote and called: each arm alone, and how alike both are on the same requests.

Scores are sums of millionths, so that they add up exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shadowproxy.answers import Content
from shadowproxy.answers.asked_for import AskedFor
from shadowproxy.answers.texts import UNREADABLE, dumped, json_in
from shadowproxy.answers.written import Call, Written, written_in
from shadowproxy.compare.fold.bins import bin_of
from shadowproxy.compare.fold.counts import Hist, Series, WordCounts
from shadowproxy.compare.fold.measured import Totalled
from shadowproxy.compare.fold.outputs import MILLION
from shadowproxy.compare.fold.requests import Asked
from shadowproxy.compare.fold.rouge import rouge_l
from shadowproxy.compare.fold.schemas import follows
from shadowproxy.compare.fold.tables import Parts
from shadowproxy.compare.fold.values import token_f1, words_of
from shadowproxy.compare.judge.standing import Standing


@dataclass(slots=True)
class ArmLanguage(Parts):
    """The answers of one arm's language models.

    counts: their number (`answers`), those that call tools (`calling`), their calls (`calls`), and those of the calls
    whose arguments are no JSON (`no_json`). refusals: answers that say that they refuse, by how.
    tools: calls by what the request's tools say of them: `valid`, `invalid`, `unknown` for a tool that the request does
    not have, or why they were not checked. output: the same of texts for which the request has a schema.
    """

    counts: WordCounts = field(default_factory=WordCounts)
    refusals: WordCounts = field(default_factory=WordCounts)
    tools: WordCounts = field(default_factory=WordCounts)
    output: WordCounts = field(default_factory=WordCounts)

    def add(self, said: Written, asked: AskedFor) -> str | None:
        """Count one answer. Returns whether its text follows the request's schema; None if that has none for it."""
        self.counts["answers"] += 1
        if said.calls:
            self.counts["calling"] += 1
            self.counts["calls"] += len(said.calls)
            self.counts["no_json"] += sum(call.arguments is UNREADABLE for call in said.calls)
        if said.refusal:
            self.refusals[said.refusal] += 1
        if asked.tools is not None:
            for call in said.calls:
                result_of_call = _call_result(call, asked)
                self.tools[result_of_call] += 1
        result = _output_result(said, asked)
        if result is not None:
            self.output[result] += 1
        return result


@dataclass(slots=True)
class PairTexts(Parts):
    """How alike the texts are of the requests for which both models wrote one, `n` of them.

    exact: the same characters. same_words: the same words, whatever their case, blanks and punctuation. f1 and rouge:
    token F1 and ROUGE-L, as sums; f1_each and rouge_each: of each request, in bins. length: of texts, in characters.
    """

    n: Series = field(default_factory=Series)
    exact: Series = field(default_factory=Series)
    same_words: Series = field(default_factory=Series)
    f1: Series = field(default_factory=Series)
    rouge: Series = field(default_factory=Series)
    f1_each: Hist = field(default_factory=Hist)
    rouge_each: Hist = field(default_factory=Hist)
    length: Totalled = field(default_factory=Totalled)

    def add(self, block: int, live: str, shadow: str) -> None:
        """Count two texts that are not empty."""
        self.n[block] += 1
        self.length.add(block, len(live), len(shadow))
        likeness = ordered = 1.0
        if live == shadow:
            self.exact[block] += 1
            self.same_words[block] += 1
        else:
            words, others = words_of(live), words_of(shadow)
            if words == others and words:
                self.same_words[block] += 1
            elif words or others:
                likeness, ordered = token_f1(words, others), rouge_l(words, others)
            else:  # signs without a word, and not the same
                likeness = ordered = 0.0
        self.f1[block] += round(likeness * MILLION)
        self.rouge[block] += round(ordered * MILLION)
        self.f1_each[bin_of(likeness)] += 1
        self.rouge_each[bin_of(ordered)] += 1


@dataclass(slots=True)
class PairLanguage(Parts):
    """The answers of both arms' language models to the same requests.

    both: requests that both answered as language models. one_text: those of them for which only one wrote a text
    (`live`, `shadow`). calling: those for which at least one calls a tool; same_names: both call the same ones, in any
    order; same_calls: with the same arguments, as JSON values. refusals: requests that `both`, or only `live` or only
    the `shadow`, refused by a field of its own. outputs: requests whose schema `both` texts, only one, or `neither`
    follow.
    """

    live: ArmLanguage = field(default_factory=ArmLanguage)
    shadow: ArmLanguage = field(default_factory=ArmLanguage)
    both: Series = field(default_factory=Series)
    texts: PairTexts = field(default_factory=PairTexts)
    one_text: WordCounts = field(default_factory=WordCounts)
    calling: Series = field(default_factory=Series)
    same_names: Series = field(default_factory=Series)
    same_calls: Series = field(default_factory=Series)
    refusals: WordCounts = field(default_factory=WordCounts)
    outputs: WordCounts = field(default_factory=WordCounts)

    def add(self, block: int, one: Written | None, other: Written | None, request: Asked) -> None:
        """Count what both wrote in answer to a request; None for an answer that is no language model's."""
        if one is None and other is None:
            return
        asked = request.asked_for()
        mine_follows = self.live.add(one, asked) if one is not None else None
        theirs_follow = self.shadow.add(other, asked) if other is not None else None
        if one is None or other is None:
            return
        if mine_follows in _CHECKED and theirs_follow in _CHECKED:
            self.outputs[_OUTPUTS[mine_follows == "valid", theirs_follow == "valid"]] += 1
        self.both[block] += 1
        if one.text and other.text:
            self.texts.add(block, one.text, other.text)
        elif one.text or other.text:
            self.one_text["live" if one.text else "shadow"] += 1
        if one.calls or other.calls:
            self.calling[block] += 1
            mine, theirs = _in_order(one.calls), _in_order(other.calls)
            same = [name for name, _ in mine] == [name for name, _ in theirs]
            self.same_names[block] += same
            self.same_calls[block] += same and mine == theirs
        if one.refusal or other.refusal:
            self.refusals["both" if one.refusal and other.refusal else "live" if one.refusal else "shadow"] += 1


_CHECKED: Final = ("valid", "invalid")
_OUTPUTS: Final = {
    (True, True): "both",
    (True, False): "live",
    (False, True): "shadow",
    (False, False): "neither",
}


def _call_result(call: Call, asked: AskedFor) -> str:
    """Whether a call is one of a tool of the request, with arguments that follow its schema."""
    tools = asked.tools
    if tools is None or call.name not in tools:
        return "unknown"
    if call.arguments is UNREADABLE:
        return "invalid"
    schema = tools[call.name]
    return "valid" if schema is None else follows(call.arguments, schema)


def _output_result(said: Written, asked: AskedFor) -> str | None:
    """Whether a text follows the request's schema; None where there is none, or the answer calls a tool or refuses."""
    if asked.schema is None or said.calls or said.refusal:
        return None
    value = json_in(said.text)
    if value is UNREADABLE:
        return "invalid"
    if asked.schema is True:
        return "valid" if isinstance(value, dict) else "invalid"
    return follows(value, asked.schema)


_NO_JSON: Final = "\0"
"""Stands for arguments that are no JSON: no JSON text begins like it."""


def _in_order(calls: Sequence[Call]) -> list[tuple[str, str]]:
    """Calls by name with their arguments as one text, sorted: models call several tools in any order."""
    return sorted((name, _NO_JSON if said is UNREADABLE else dumped(said)) for name, said in calls)


def written_by(content: Content | None, standing: Standing) -> Written | None:
    """What the language model wrote that gave an answer; None for one that failed, or is no language model's."""
    if content is None or standing != "good" or content.kind != "json":
        return None
    return written_in(content.value)
