"""What one configuration builds."""

import json
from typing import Any, cast

from shadowproxy import config
from shadowproxy.exchange import Exchange, Reply, Request, Verdict
from shadowproxy.redaction import Redaction
from shadowproxy.serve.mirror.shadow import ShadowSettings
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.policy.sampling import Match, bucket
from shadowproxy.serve.sidecar import generation, recording, specify
from shadowproxy.serve.sidecar.contexts import Contexts
from shadowproxy.serve.sidecar.generation import Generation
from shadowproxy.serve.sidecar.recorder import RecorderSide

REQUEST = Request("7f3c", "019c139e-6efb-7cc4-8d34-1f1f3a1f9a51", 0, "GET", b"/", (), b"", 0)
ANSWER = Reply(200, ((b"Content-Type", b"application/json"),), b"{}", 2, 1.0, 1.0)


def test_each_record_can_be_looked_at_with_its_verdicts() -> None:
    seen: list[tuple[bytes, dict[str, Verdict | None]]] = []
    encode = recording.encoder(
        specify.recorder(configured()), "h/0", seen=lambda line, verdicts: seen.append((line, dict(verdicts)))
    )
    line, verdicts, failed = encode(Exchange(REQUEST, ANSWER, {"a": ANSWER}))
    assert seen == [(line, {"a": Verdict.MATCH})]
    assert verdicts == {"a": Verdict.MATCH}
    assert not failed


def configured(**values: Any) -> config.Config:
    given: dict[str, Any] = {
        "live": {"url": "http://127.0.0.1:9001"},
        "shadows": {"a": {"url": "http://127.0.0.1:9002"}},
    }
    return config.from_values(given | values)


def built(**values: Any) -> Generation:
    return generation.build(
        specify.live(configured(**values)), Contexts(), append=lambda exchange: None, counts={}, now=0.0
    )


def line(exchange: Exchange, **values: Any) -> Any:
    encode = recording.encoder(specify.recorder(configured(**values)), "h/0", seen=lambda line, verdicts: None)
    return json.loads(encode(exchange)[0])


def test_all_that_is_said_of_a_shadow_reaches_its_lane() -> None:
    said = {
        "url": "http://127.0.0.1:9002",
        "percent": 12.5,
        "match": {"methods": ["POST"], "paths": ["/v1/*"], "headers": {"X-Tenant": "a*"}},
        "rewrite": {"path": {"/p": "/q"}, "json": {"/model": "new"}},
        "timeout": "1.5s",
        "in_flight": 3,
        "lane": 4,
        "breaker": {"failures": 5, "pause": "6s"},
        "budget": {"requests": 7, "duration": "8s", "tokens": 9, "cost": 10},
        "forward_credentials": True,
    }
    shadow = ShadowSettings(
        name="b",
        percent=12.5,
        match=Match.of(["POST"], ["/v1/*"], {"X-Tenant": "a*"}),
        rewrite=Rewrite.of({"/p": "/q"}, {"/model": "new"}),
        timeout=1.5,
        in_flight=3,
        lane=4,
        breaker_failures=5,
        breaker_pause=6.0,
        budget_requests=7,
        budget_duration=8.0,
        budget_tokens=9,
        budget_cost=10.0,
        forward_credentials=True,
    )
    plan = built(shadows={"a": {"url": "http://127.0.0.1:9002"}, "b": said}).plan
    assert plan.lanes[1].shadow == shadow
    untouched = plan.lanes[0].shadow
    assert (untouched.budget_requests, untouched.budget_duration, untouched.forward_credentials) == (None, None, False)


def test_control_is_live_asked_within_its_time_and_with_its_credentials() -> None:
    plan = built(live={"url": "http://127.0.0.1:9001", "timeout": "7s"}, control={"percent": 2.5}).plan
    assert plan.control is not None
    shadow = plan.control.shadow
    assert (shadow.percent, shadow.timeout, shadow.forward_credentials) == (2.5, 7.0, True)


def test_the_file_says_what_of_a_request_decides_and_with_which_salt() -> None:
    plan = built(sampling={"key": "header:X-User", "salt": "s"}).plan
    request = REQUEST._replace(fields=((b"X-User", b"u1"),))
    assert plan.position(request) == bucket("s", "u1")
    # A place of its own: else a shadow's 5 % would be the very 5 % that control asks again.
    assert plan.control_position(request) == bucket("control/s", "u1") != plan.position(request)


def test_all_that_is_said_of_the_log_reaches_its_lines() -> None:
    redact = {"headers": ["X-Tenant"], "query": ["user"], "json": ["/ssn"], "hash_key": "k" * 32}
    fields = ((b"X-Tenant", b"secret"), (b"Content-Type", b"application/json"))
    body = b'{"ssn":"secret"}'
    request = REQUEST._replace(target=b"/?user=secret", fields=fields, body=body, body_bytes=len(body))
    redacted = line(Exchange(request, ANSWER, {}), log={"redact": redact})["request"]
    cut = line(Exchange(request, ANSWER, {}), log={"body_limit": len(body) - 1})["request"]
    without = line(Exchange(request, ANSWER, {}), log={"bodies": "none"})["request"]
    mark = Redaction(hash_key=b"k" * 32).mark(b"secret")
    assert (redacted["query"], redacted["headers"]["x-tenant"]) == (f"user={mark}", mark)
    assert redacted["body"] == {"ssn": mark}
    assert cut["body_text"] == body[:-1].decode()
    assert not {"body", "body_text"} & without.keys()


async def test_a_recorder_forgets_no_configuration_while_a_live_process_may_still_hold_exchanges_of_it() -> None:
    """The second one is not connected yet: it may hold some from before the recorder was started again."""
    first = specify.specify(configured())
    second = first.numbered(first.recorder.generation + 1)
    commands = cast(Any, None)
    side = RecorderSide(second.recorder, name="h", commands=commands, lives=2, earlier=[first.recorder])
    side._note_oldest("0", second.recorder.generation)
    assert side.oldest == first.recorder.generation
    side._note_oldest("1", second.recorder.generation)
    assert side.oldest == second.recorder.generation
