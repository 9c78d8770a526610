"""What is done a second time: which requests a shadow and the control are asked, and how anyone learns which not."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Proxy, StartProxy
from fakes import Origin, always, answer
from program import Program
from test_cli import run
from test_metrics import samples, scrape

from shadowproxy import config
from shadowproxy.config.repeating import repeated
from shadowproxy.serve.policy.sampling import WINDOW
from shadowproxy.serve.sidecar.contexts import Contexts

OK = always(answer(b"{}"))
METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"PATCH", b"DELETE", b"TRACE", b"PURGE", b"post", b"M-SEARCH"]


def asked(method: bytes, target: bytes = b"/items/1", *fields: bytes, body: bytes = b"{}") -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return b"%b %b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (method, target, head, len(body), body)


async def send(running: Proxy, requests: Sequence[bytes]) -> None:
    async with await running.caller() as caller:
        for request in requests:
            await caller.ask(request)


def methods_at(origin: Origin) -> list[bytes]:
    return [request.method for request in origin.requests]


async def mirrored(proxy: StartProxy, requests: Sequence[bytes], **shadow: Any) -> list[bool]:
    """Of each request, whether the shadow was asked it. Live is asked every one."""
    async with proxy(OK, {"a": OK}, shadow_options=shadow) as running:
        await send(running, requests)
        live = methods_at(running.live)
        records = await running.records()
    assert len(live) == len(records) == len(requests)
    return ["a" in record.shadows for record in sorted(records, key=lambda record: record.at)]


# --- methods ---------------------------------------------------------------------------------------------------------


async def test_only_get_head_post_and_options_are_mirrored_unless_others_are_named(proxy: StartProxy) -> None:
    assert await mirrored(proxy, [asked(method) for method in METHODS]) == [True] * 4 + [False] * 7


async def test_a_copied_example_that_names_no_method_repeats_no_write(proxy: StartProxy) -> None:
    """Earlier examples had `methods: []`, which meant every method."""
    assert await mirrored(proxy, [asked(b"POST"), asked(b"DELETE")], match={"methods": []}) == [True, False]


async def test_a_method_that_is_named_is_mirrored(proxy: StartProxy) -> None:
    match = {"methods": ["PUT", "DELETE"]}
    assert await mirrored(proxy, [asked(b"PUT"), asked(b"DELETE"), asked(b"PATCH"), asked(b"GET")], match=match) == [
        True,
        True,
        False,
        False,
    ]


async def test_a_star_mirrors_every_method_as_it_was_once(proxy: StartProxy) -> None:
    assert all(await mirrored(proxy, [asked(method) for method in METHODS], match={"methods": ["*"]}))


@pytest.mark.parametrize(
    "field",
    [
        b"X-HTTP-Method-Override: DELETE",
        b"x-http-method-override: delete",
        b"X-HTTP-Method: PATCH",
        b"X-Method-Override: PUT",
        b"X-HTTP-Method-Override: GET, DELETE",
    ],
)
async def test_a_post_that_asks_to_be_taken_for_a_write_is_one(proxy: StartProxy, field: bytes) -> None:
    requests = [asked(b"POST", b"/", field), asked(b"POST", b"/", b"X-HTTP-Method-Override: GET")]
    assert await mirrored(proxy, requests, match={"methods": ["POST", "GET"]}) == [False, True]


async def test_a_post_that_names_its_method_in_the_query_is_one_too(proxy: StartProxy) -> None:
    requests = {
        asked(b"POST", b"/items/1?_method=DELETE"): False,
        asked(b"POST", b"/items/1?a=1&_method=put"): False,
        asked(b"POST", b"/items/1?%5Fmethod=DELETE"): False,
        asked(b"POST", b"/items/1?_method=POST"): True,
        asked(b"POST", b"/items/1?payment_method=card"): True,
        asked(b"POST", b"/_method=DELETE"): True,
        asked(b"GET", b"/items/1?_method=DELETE"): True,  # no framework takes a GET for another method
    }
    assert await mirrored(proxy, list(requests)) == list(requests.values())


async def test_a_write_is_counted_as_not_chosen_and_the_first_is_told(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with proxy(OK, {"a": OK}, admin="127.0.0.1:0") as running:
        await send(running, [asked(b"DELETE"), asked(b"PUT"), asked(b"POST")])
        found = samples(await scrape(running, written=3))
    assert found["shadowproxy_shadow_not_chosen_total", ("method", "a")] == 2
    assert found["shadowproxy_shadow_not_chosen_total", ("match", "a")] == 0
    assert found["shadowproxy_shadow_chosen_total", ("a",)] == 1
    (told,) = [each for each in caplog.records if each.__dict__.get("event") == "method_not_mirrored"]
    assert told.getMessage() == (
        "DELETE requests are not mirrored to a, because that could repeat their effects; "
        "to mirror them, add the method to shadows.a.match.methods"
    )


async def test_a_method_that_a_file_leaves_out_on_purpose_is_not_told(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with proxy(OK, {"a": OK}, shadow_options={"match": {"methods": ["POST"]}}) as running:
        await send(running, [asked(b"DELETE"), asked(b"GET")])
    assert not [each for each in caplog.records if each.__dict__.get("event") == "method_not_mirrored"]


# --- the control -----------------------------------------------------------------------------------------------------


async def test_live_is_not_asked_a_write_twice_though_a_shadow_is(proxy: StartProxy) -> None:
    options = {"match": {"methods": ["*"]}}
    async with proxy(OK, {"a": OK}, shadow_options=options, control={"percent": 100}) as running:
        await send(running, [asked(b"DELETE"), asked(b"POST")])
        records = await running.records()
    assert sorted(methods_at(running.live)) == [b"DELETE", b"POST", b"POST"]
    assert sorted(methods_at(running.shadows["a"])) == [b"DELETE", b"POST"]
    assert {each.request.method: each.control is not None for each in records} == {"DELETE": False, "POST": True}


async def test_live_is_asked_a_write_twice_where_control_names_it(proxy: StartProxy) -> None:
    control = {"percent": 100, "methods": ["DELETE"]}
    options = {"match": {"methods": ["*"]}}
    async with proxy(OK, {"a": OK}, shadow_options=options, control=control) as running:
        await send(running, [asked(b"DELETE"), asked(b"POST")])
        await running.records()
    assert sorted(methods_at(running.live)) == [b"DELETE", b"DELETE", b"POST"]


# --- what is left out ------------------------------------------------------------------------------------------------


async def test_any_one_part_of_not_leaves_a_request_out(proxy: StartProxy) -> None:
    leave_out = {
        "methods": ["OPTIONS"],
        "paths": ["/healthz", "/internal/*"],
        "headers": {"User-Agent": "kube-probe/*", "X-Synthetic": "*"},
        "json": {"/stream": True, "/model": "gpt-3*"},
    }
    requests = {
        asked(b"POST", b"/v1/chat", body=b'{"model":"gpt-4","stream":false}'): True,
        asked(b"OPTIONS", b"/v1/chat"): False,
        asked(b"GET", b"/healthz?full=1"): False,
        asked(b"GET", b"/healthz/deep"): True,
        asked(b"POST", b"/internal/reload"): False,
        asked(b"GET", b"/", b"user-agent: kube-probe/1.30"): False,
        asked(b"GET", b"/", b"User-Agent: curl/8"): True,
        asked(b"GET", b"/", b"X-Synthetic: 1"): False,
        asked(b"POST", b"/v1/chat", body=b'{"stream":true}'): False,
        asked(b"POST", b"/v1/chat", body=b'{"model":"gpt-3.5"}'): False,
        asked(b"POST", b"/upload", body=b"no json"): True,
        asked(b"POST", b"/", b"X-HTTP-Method-Override: OPTIONS"): False,
    }
    assert await mirrored(proxy, list(requests), match={"not": leave_out}) == list(requests.values())


async def test_a_match_looks_into_the_json(proxy: StartProxy) -> None:
    requests = {
        asked(b"POST", body=b'{"model":"gpt-4","messages":[{"role":"user"},{"role":"tool"}]}'): True,
        asked(b"POST", body=b'{"model":"gpt-4","messages":[{"role":"user"}]}'): False,
        asked(b"POST", body=b'{"model":"llama","messages":[{"role":"tool"}]}'): False,
        asked(b"POST", body=b'{"messages":[{"role":"tool"}]}'): False,
        asked(b"POST", body=b"model=gpt-4"): False,
        asked(b"GET", body=b""): False,
    }
    match = {"json": {"/model": "gpt-*", "/messages/*/role": "tool"}}
    assert await mirrored(proxy, list(requests), match=match) == list(requests.values())


async def test_a_body_that_cannot_be_read_is_left_out_counted_and_told_once(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    broken = asked(b"POST", b"/", b"Content-Encoding: gzip", body=b'{"stream":false}')
    options = {"match": {"not": {"json": {"/stream": "true"}}}}
    async with proxy(OK, {"a": OK}, shadow_options=options, admin="127.0.0.1:0") as running:
        await send(running, [broken, broken, asked(b"POST")])
        found = samples(await scrape(running, written=3))
    assert found["shadowproxy_shadow_not_chosen_total", ("unread_body", "a")] == 2
    assert found["shadowproxy_shadow_chosen_total", ("a",)] == 1
    (told,) = [each for each in caplog.records if each.__dict__.get("event") == "body_not_read"]
    assert "shadows.a.match" in told.getMessage()
    assert "it cannot be decoded: broken content coding" in told.getMessage()


# --- sampling keys that repeat ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "field", "words"),
    [
        ({}, b"X-Request-ID: constant", "sampling.key: request_id"),
        ({"key": "header:X-User"}, b"X-User: batch", "sampling.key: header:X-User"),
        ({"key": "cookie:uid"}, b"Cookie: uid=1", "sampling.key: cookie:uid"),
        ({"key": "json:/user"}, b"X-Any: 1", "sampling.key: json:/user"),
    ],
)
async def test_requests_that_all_have_one_sampling_key_are_warned_of_once_and_counted(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture, sampling: dict[str, str], field: bytes, words: str
) -> None:
    request = asked(b"POST", b"/", field, body=b'{"user":"u1"}')
    options = {"percent": 10}
    async with proxy(OK, {"a": OK}, shadow_options=options, sampling=sampling, admin="127.0.0.1:0") as running:
        await send(running, [request] * (2 * WINDOW + 1))
        found = samples(await scrape(running, written=2 * WINDOW + 1))
    (told,) = [each for each in caplog.records if each.__dict__.get("event") == "sampling_keys_repeated"]
    assert told.levelno == logging.WARNING
    assert f"the last {WINDOW} requests had one sampling key in all" in told.getMessage()
    assert words in told.getMessage()
    assert found["shadowproxy_sampling_keys_total", ("first",)] == 3
    assert found["shadowproxy_sampling_keys_total", ("again",)] == 2 * (WINDOW - 1)


@pytest.mark.parametrize(
    ("percent", "control", "field"),
    [
        (10, 0, b"X-Any: 1"),  # each request gets an ID of its own
        (100, 0, b"X-Request-ID: constant"),  # nothing is chosen by the key
        (0, 0, b"X-Request-ID: constant"),  # off
        (100, 100, b"X-Request-ID: constant"),
    ],
)
async def test_nothing_is_said_where_keys_differ_or_decide_nothing(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture, percent: float, control: float, field: bytes
) -> None:
    options = {"percent": percent}
    async with proxy(OK, {"a": OK}, shadow_options=options, control={"percent": control}) as running:
        await send(running, [asked(b"GET", b"/", field)] * (WINDOW + 1))
    assert not [each for each in caplog.records if each.__dict__.get("event") == "sampling_keys_repeated"]


async def test_a_control_that_is_chosen_by_one_key_is_warned_of_too(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(OK, {"a": OK}, control={"percent": 5}) as running:
        await send(running, [asked(b"GET", b"/", b"X-Request-ID: constant")] * WINDOW)
    assert [each for each in caplog.records if each.__dict__.get("event") == "sampling_keys_repeated"]


async def test_another_configuration_is_warned_of_for_itself(
    proxy: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(OK, {"a": OK}, shadow_options={"percent": 10}) as running:
        for _ in range(2):
            await send(running, [asked(b"GET", b"/", b"X-Request-ID: constant")] * WINDOW)
            mirror = running.sidecar.mirror
            running.sidecar.live.switch(running.sidecar.specs.live, Contexts())
            assert mirror.chooser.keys.again > 0
    assert len([each for each in caplog.records if each.__dict__.get("event") == "sampling_keys_repeated"]) == 2


# --- what people are told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            ["GET", "HEAD", "POST", "OPTIONS"],
            "repeats GET, HEAD, POST and OPTIONS requests, so changes by POST are made again; not PUT, PATCH or DELETE",
        ),
        (["GET"], "repeats GET requests; not PUT, PATCH or DELETE"),
        (
            ["POST", "PUT", "DELETE"],
            "repeats POST, PUT and DELETE requests, so changes by POST, PUT and DELETE are made again; not PATCH",
        ),
        (["*"], "repeats every request, so changes by POST, PUT, PATCH and DELETE are made again"),
    ],
)
def test_what_is_repeated_is_said_in_plain_words(methods: list[str], words: str) -> None:
    assert repeated(methods) == words


async def test_the_start_says_of_each_shadow_and_the_control_what_is_repeated(tmp_path: Path) -> None:
    async with Origin() as live:
        shadows = {"a": {"url": live.url}, "b": {"url": live.url, "match": {"methods": ["DELETE"]}}}
        values = {"live": {"url": live.url}, "shadows": shadows, "control": {"percent": 1}}
        async with Program(tmp_path, values) as program:
            await program.wait_said("control (live")
            assert await program.stop() == 0
    told = program.told("repeated")
    assert [(line["shadow"], line["methods"]) for line in told] == [
        ("a", ["GET", "HEAD", "POST", "OPTIONS"]),
        ("b", ["DELETE"]),
        ("control", ["GET", "HEAD", "POST", "OPTIONS"]),
    ]
    assert told[1]["message"] == (
        "shadow b repeats DELETE requests, so changes by DELETE are made again; not PUT or PATCH"
    )


def test_check_says_it_of_each_shadow_and_what_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    match = {
        "methods": ["POST", "DELETE"],
        "json": {"/model": "gpt-*", "/api_key": "hunter2"},
        "not": {"paths": ["/healthz"], "headers": {"X-Api-Key": "hunter2"}, "json": {"/stream": True}},
    }
    values = {
        "listen": "127.0.0.1:0", "admin": None, "log": {"path": str(tmp_path / "log")},
        "live": {"url": "http://127.0.0.1:1"}, "control": {"percent": 5},
        "shadows": {"a": {"url": "http://127.0.0.1:1"}, "b": {"url": "http://127.0.0.1:1", "match": match}},
    }  # fmt: skip
    file.write_text(json.dumps(values))
    said = " ".join(run("check", "-c", str(file), "--no-request").stdout.split())
    assert "hunter2" not in said.replace("match.json./api_key is a secret", "")
    for words in (
        "gets 5 % of the mirrored requests a second time (control)",
        "repeats GET, HEAD, POST and OPTIONS requests, so changes by POST are made again; not PUT, PATCH or DELETE",
        "repeats POST and DELETE requests, so changes by POST and DELETE are made again; not PUT or PATCH",
        "where the method is POST or DELETE, /model in the JSON is gpt-*, /api_key in the JSON is [redacted]",
        "except where the path is /healthz, or X-Api-Key is [redacted], or /stream in the JSON is true",
        "warning shadows.b.match.json./api_key is a secret written into the file",
        "warning shadows.b.match.not.headers.X-Api-Key is a secret written into the file",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    ("match", "problem"),
    [
        ({"methods": ["put"]}, "shadows.a.match.methods.0: is not a method"),
        ({"not": {"path": []}}, 'shadows.a.match.not.path: unknown key (did you mean "paths"?)'),
        ({"not_": {}}, 'shadows.a.match.not_: unknown key (did you mean "not"?)'),
        ({"not": {"paths": ["healthz"]}}, "shadows.a.match.not.paths.0: must be a glob over the path"),
        ({"json": {"model": "x"}}, "shadows.a.match.json.model: is not a JSON pointer"),
        ({"json": {"/a/**": "x"}}, "shadows.a.match.json./a/**: has ** in it, which cannot stand here"),
        ({"json": {"/a": ["x"]}}, "shadows.a.match.json./a: must be a glob over the value's text"),
    ],
)
def test_a_match_that_cannot_be_used_is_one_line_with_its_place(match: dict[str, Any], problem: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.from_values({"live": {"url": "http://a"}, "shadows": {"a": {"url": "http://b", "match": match}}})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(problem)


def test_what_is_shown_of_a_match_makes_the_same_again_and_no_secret_is_shown() -> None:
    match = {"json": {"/model": "m*", "/n": 5}, "not": {"paths": ["/healthz"], "json": {"/stream": True}}}
    values = {"live": {"url": "http://a"}, "shadows": {"a": {"url": "http://b", "match": match}}}
    made = config.from_values(values)
    assert config.from_values(config.shown(made)) == made
    match["not"]["headers"] = {"X-Api-Key": "hunter2"}  # type: ignore[index]
    match["json"]["/token"] = "hunter2"  # type: ignore[index]
    assert "hunter2" not in json.dumps(config.shown(config.from_values(values)))
