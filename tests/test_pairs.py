"""What the pairs of a log say: who failed, who refused, who never answered, and where it gathers."""

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from logs import answer, chosen, failed, record, report_json

from shadowproxy.compare.fold.summary import summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.report.build import exit_code
from shadowproxy.compare.report.gates import Gates
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, Record, RecordedRequest

pytestmark = pytest.mark.slow

SHARES = [0.03, 0.1, 0.3]
N = 6000

Answers = Callable[[random.Random, int], tuple[Any, Any]]


def figures_on(records: list[Record], gates: Gates | None = None) -> Any:
    return report_json(summarise(records, Rules()), gates)


def result_of(figures: Any, check: str) -> str:
    result: str = next(each["result"] for each in figures["shadows"]["s"]["checks"] if each["name"] == check)
    return result


def label(source: random.Random) -> dict[str, Any]:
    return {"label": source.choice("ab"), "score": source.random()}


def twin(source: random.Random, number: int) -> tuple[Any, Any]:
    said = label(source)
    return said, said


def in_share(share: float, live: Any, shadow: Any) -> Answers:
    """A share of the exchanges ends so (None: as every other does); all others are answered alike."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        said = label(source)
        if source.random() >= share:
            return said, said
        return said if live is None else live, said if shadow is None else shadow

    return answers


def error(status: int, said: str = "bad input") -> Any:
    return answer({"error": {"message": said}}, status=status)


def test_a_twin_is_ready() -> None:
    figures = figures_on(chosen(N, 1, twin))
    assert figures["shadows"]["s"]["verdict"]["headline"] == "READY", figures["shadows"]["s"]["verdict"]
    assert exit_code(figures) == 0


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("live", "shadow", "check"),
    [
        (error(400), error(500), "errors"),
        (error(404), error(503), "errors"),
        (error(422), answer()._replace(outcome=Outcome.TIMEOUT, status=None, body=None), "errors"),
        (error(401), None, "flips"),
        (error(422), None, "flips"),
        (None, error(422), "flips"),
        (None, error(500), "errors"),
        (None, failed(Outcome.CONNECT_ERROR), "errors"),
        (None, failed(Outcome.INCOMPLETE), "errors"),
        (None, failed(Outcome.ANSWER_OVERSIZE), "errors"),
        (None, answer({"error": "boom"}), "errors"),
    ],
)
def test_what_one_arm_fails_or_refuses_and_the_other_does_not(share: float, live: Any, shadow: Any, check: str) -> None:
    figures = figures_on(chosen(N, 1, in_share(share, live, shadow)))
    assert result_of(figures, check) == "fail"
    assert exit_code(figures) == 1


@pytest.mark.parametrize(("live", "shadow"), [(error(500), None), (error(500), error(502)), (error(400), error(404))])
def test_what_live_fails_or_refuses_as_well_is_not_held_against_the_shadow(live: Any, shadow: Any) -> None:
    figures = figures_on(chosen(N, 1, in_share(0.1, live, shadow)))
    assert {result_of(figures, "errors"), result_of(figures, "flips")} <= {"pass"}


@pytest.mark.parametrize("share", SHARES)
def test_callers_who_leave_excuse_no_error_of_the_shadow(share: float) -> None:
    """A tenth of the callers leave, which live never answered; the shadow fails as often on what live did answer."""

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        if source.random() < 0.1:
            return failed(Outcome.CALLER_LEFT), label(source)
        said = label(source)
        return said, error(500) if source.random() < share else said

    figures = figures_on(chosen(N, 1, answers))
    shadow = figures["shadows"]["s"]
    assert result_of(figures, "errors") == "fail"
    assert shadow["errors"]["live"]["value"] == 0
    assert shadow["errors"]["n"] == shadow["pairs"]["n"] == shadow["pairs"]["live_2xx"]
    assert shadow["coverage"]["chosen"] == N > shadow["pairs"]["n"]


@pytest.mark.parametrize("outcome", [Outcome.CALLER_LEFT, Outcome.TIMEOUT, Outcome.CONNECT_ERROR, Outcome.INCOMPLETE])
def test_what_live_never_answered_is_in_neither_arm(outcome: Outcome) -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        if number % 10 == 0:
            return failed(outcome), error(500)
        return twin(source, number)

    figures = figures_on(chosen(N, 1, answers))
    shadow = figures["shadows"]["s"]
    assert shadow["errors"]["shadow"]["value"] == shadow["errors"]["live"]["value"] == 0
    left = outcome is Outcome.CALLER_LEFT  # the shadow had no caller to leave it: it failed by itself
    assert result_of(figures, "errors") == ("inconclusive" if left else "pass")
    assert shadow["errors"]["unanswered"] == {
        "n": N // 10 if left else 0,
        "shadow_failed": N // 10 if left else 0,
        "begun": N,
    }
    assert {"live": str(outcome), "shadow": "500", "count": N // 10} in shadow["statuses"]


@pytest.mark.parametrize("status", [404, 401, 500])
def test_where_live_itself_never_answers_there_is_no_data(status: int) -> None:
    figures = figures_on(chosen(2000, 1, lambda source, number: (error(status), error(status))))
    shadow = figures["shadows"]["s"]
    assert shadow["pairs"] == {"n": 2000, "live_2xx": 0, "live_2xx_share": 0}
    assert shadow["verdict"]["headline"] == "NO DATA"
    assert "live hardly answered" in shadow["verdict"]["sentence"]
    assert exit_code(figures) == 3


@pytest.mark.parametrize("share", SHARES)
def test_a_stream_that_ends_in_an_error_has_failed_though_it_says_done(share: float) -> None:
    def stream(*events: Any) -> Any:
        lines = "".join(
            f"data: {each if isinstance(each, str) else orjson.dumps(each).decode()}\n\n" for each in events
        )
        return answer()._replace(headers={"content-type": "text/event-stream"}, body=Body("text", lines, len(lines)))

    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        words = [source.choice(["late", "on time", "perhaps"]) for _ in range(3)]
        chunks = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        broken = {"error": {"message": "CUDA out of memory", "code": 500}}
        live = stream(*chunks, end, "[DONE]")
        return live, stream(*chunks[:1], broken, "[DONE]") if source.random() < share else live

    figures = figures_on(chosen(N, 1, answers))
    shadow = figures["shadows"]["s"]
    assert result_of(figures, "errors") == "fail"
    (reason,) = shadow["errors"]["reasons"]["shadow"]
    assert "CUDA out of memory" in reason["reason"]
    assert reason["count"] == shadow["errors"]["shadow_only"]
    assert shadow["streams"]["shadow"]["finished"] < 1 - share / 2


# --- where ---------------------------------------------------------------------------------------------------------


def flights(count: int, shadow: Callable[[random.Random, str, Any], Any], batch: int = 1) -> list[Record]:
    """Requests of airlines of which UA has one in twenty."""
    source = random.Random(3)
    made = []
    for number in range(count):
        airlines = [source.choices(["AA", "DL", "B6", "UA"], (8, 6, 5, 1))[0] for _ in range(batch)]
        said = [source.choice(["late", "on time"]) for _ in airlines]
        live = {"predictions": said}
        if batch == 1:
            other = shadow(source, airlines[0], said[0])
            other = other if not isinstance(other, str | None) else {"predictions": [other]}
        else:
            other = {"predictions": [shadow(source, *each) for each in zip(airlines, said, strict=True)]}
        legs = [leg if not isinstance(leg, dict) else answer(leg) for leg in (live, other)]
        one, two = (
            leg._replace(total_ms=source.lognormvariate(1, 0.4)) if leg.outcome is Outcome.OK else leg for leg in legs
        )
        payload = {"instances": [{"carrier": each} for each in airlines]}
        request = RecordedRequest("POST", "/invocations", "", {}, Body("json", payload, 60))
        made.append(record(number, one, number, s=two)._replace(request=request))
    return made


def only_ua(share: float, otherwise: Any) -> Callable[[random.Random, str, Any], Any]:
    return lambda source, airline, said: otherwise if airline == "UA" and source.random() < share else said


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("otherwise", [None, error(500), error(422), failed(Outcome.TIMEOUT, 900.0)])
def test_a_loss_within_one_part_of_the_requests_fails_there(share: float, otherwise: Any) -> None:
    """One request in twenty: over all of them 1.5 points or more are lost, and in this part far more."""
    lost = otherwise if otherwise is not None else {"predictions": [None]}
    figures = figures_on(flights(N, only_ua(share, lost)), Gates(answered=None, errors=None, flips=None))
    assert result_of(figures, "slices") == "fail"
    row = figures["shadows"]["s"]["slices"][0]
    assert (row["path"], row["value"], row["fails"]) == ("/instances/*/carrier", '"UA"', True)
    assert row["lost"]["low"] > 0.05
    assert row["lost"]["points"] == pytest.approx(share, abs=0.1)


def test_a_loss_within_one_part_of_a_batch_fails_there() -> None:
    figures = figures_on(flights(2000, only_ua(0.5, None), batch=4), Gates(answered=None))
    row = figures["shadows"]["s"]["slices"][0]
    assert (row["path"], row["value"], row["fails"]) == ("/instances/*/carrier", '"UA"', True)
    assert row["requests"] == pytest.approx(400, abs=80)
    assert row["lost"]["points"] == pytest.approx(0.5, abs=0.1)


def test_what_live_loses_in_a_part_as_well_fails_no_part() -> None:
    def answers(source: random.Random, number: int) -> tuple[Any, Any]:
        said = label(source)
        return (error(500) if source.random() < 0.3 else said), (error(500) if source.random() < 0.3 else said)

    for seed in range(5):
        figures = figures_on(chosen(2000, seed, answers, country="NL"))
        assert result_of(figures, "slices") == "pass"


def test_disagreement_within_one_part_is_named_and_fails_nothing() -> None:
    figures = figures_on(flights(N, lambda source, airline, said: "late" if airline == "UA" else said))
    rows = figures["shadows"]["s"]["slices"]
    assert [(row["path"], row["value"], row["fails"]) for row in rows] == [("/instances/*/carrier", '"UA"', False)]
    assert result_of(figures, "slices") == "pass"


# --- why -----------------------------------------------------------------------------------------------------------


def test_errors_are_grouped_by_reason_with_an_example_and_where_they_gather() -> None:
    def shadow(source: random.Random, airline: str, said: str) -> Any:
        if airline == "UA":
            return answer({"detail": f"unknown carrier {source.randrange(1000)}"}, status=500)
        return failed(Outcome.TIMEOUT, 900.0) if source.random() < 0.05 else said

    records = flights(N, shadow)
    reasons = figures_on(records)["shadows"]["s"]["errors"]["reasons"]
    assert reasons["live"] == []
    by_reason = {row["reason"].partition(":")[0]: row for row in reasons["shadow"]}
    assert set(by_reason) == {"500", "timeout"}
    carrier = by_reason["500"]
    assert "unknown carrier" in carrier["reason"]
    assert carrier["where"]["path"] == "/instances/*/carrier"
    assert (carrier["where"]["value"], carrier["where"]["share"]) == ("UA", 1)
    assert carrier["where"]["share_of_requests"] == pytest.approx(0.05, abs=0.01)
    assert by_reason["timeout"]["where"] is None
    example = next(each for each in records if each.id == carrier["example"])
    assert example.shadows["s"].status == 500
    total = sum(row["count"] for row in reasons["shadow"])
    assert total == sum(each.shadows["s"].status != 200 for each in records)


def test_reasons_of_refusals_are_told_of_both_arms() -> None:
    figures = figures_on(chosen(1000, 1, lambda source, number: (error(404, "no such model"), error(404, "gone"))))
    reasons = figures["shadows"]["s"]["errors"]["reasons"]
    assert [row["count"] for arm in ("live", "shadow") for row in reasons[arm]] == [1000, 1000]
    assert "no such model" in reasons["live"][0]["reason"]
