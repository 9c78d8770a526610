"""What was redacted in a request does not come back into the log by way of an answer that repeats it."""

import gzip
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_record import exchange, line_of

from shadowproxy.answers import About
from shadowproxy.budget import Budget
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.compare.judge.verdict import judge as compared
from shadowproxy.config import from_values
from shadowproxy.echoes import Echoes, prepared, taken_out
from shadowproxy.exchange import Exchange, Failure, Fields, Outcome, Reply, Verdict
from shadowproxy.record import Judgement, RecordedLeg
from shadowproxy.recorder.line import encode
from shadowproxy.redaction import BLANK, Redaction
from shadowproxy.serve.sidecar import recording, specify

SECRET = "alice@example.com"
JSON: Fields = ((b"Content-Type", b"application/json"),)
TEXT: Fields = ((b"Content-Type", b"text/plain; charset=utf-8"),)
LINES: Fields = ((b"Content-Type", b"application/x-ndjson"),)
PARTS: Fields = ((b"Content-Type", b"multipart/form-data; boundary=x-1"),)
MULTIPART = (
    b'--x-1\r\nContent-Disposition: form-data; name="email"\r\n\r\nalice@example.com\r\n'
    b'--x-1\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n--x-1--\r\n'
)
FORM: Fields = ((b"Content-Type", b"application/x-www-form-urlencoded"),)


def reply(body: bytes, fields: Fields = JSON, status: int = 422) -> Reply:
    return Reply(status, fields, body, len(body), 1.0, 2.0)


def judge(live: RecordedLeg, shadow: RecordedLeg, budget: Budget, about: About) -> Judgement:
    return compared(live, shadow, Rules())


def told(
    asked: Exchange, *answers: Any, redaction: Redaction | None = None, **policy: Any
) -> tuple[dict[str, Any], str]:
    """The record of a request that got these answers, from live, the shadow and the control; and its line."""
    live, shadow, control = (*answers, *answers[-1:] * 2)[:3]
    whole = Exchange(asked.request, live, {"b": shadow}, control)
    line = line_of(whole, judge, redaction=redaction or Redaction(json=("/**/email",)), **policy)
    return json.loads(line), line.decode()


def asking(value: Any = SECRET) -> Exchange:
    return exchange(json.dumps({"user": {"email": value, "n": 1}}).encode())


FASTAPI = {
    "detail": [
        {
            "type": "int_parsing",
            "loc": ["body", "user", "n"],
            "msg": "Input should be a valid integer",
            "input": {"email": SECRET, "n": "x"},
        }
    ]
}
MLFLOW = {
    "error_code": "BAD_REQUEST",
    "message": f"Failed to predict data '               email  n\n0  {SECRET}  1'. \nError: Failed to enforce schema",
}


@pytest.mark.parametrize("answer", [FASTAPI, MLFLOW], ids=["fastapi", "mlflow"])
def test_an_error_that_repeats_the_input_does_not_repeat_what_was_redacted(answer: Any) -> None:
    record, line = told(asking(), reply(json.dumps(answer).encode()))
    assert SECRET not in line
    for leg in (record["live"], record["shadows"]["b"], record["control"]):
        assert leg["body"] == json.loads(json.dumps(answer).replace(SECRET, BLANK))
        assert leg.get("verdict", "match") == "match"


@pytest.mark.parametrize(
    ("asked", "secret", "redaction"),
    [
        (exchange(target=f"/p?email={SECRET}".encode()), SECRET, Redaction(query=frozenset({"e*"}))),
        (exchange(target=f"/p?email={quote(SECRET)}".encode()), SECRET, Redaction(query=frozenset({"e*"}))),
        (exchange(target=b"/p?access_token=s3cr3t-v4lue"), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"X-Customer", SECRET.encode()),)), SECRET, Redaction(headers=frozenset({"X-*"}))),
        (exchange(fields=((b"Authorization", b"Bearer s3cr3t-v4lue"),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"Authorization", b"Bearer s3cr3t-v4lue"),)), "Bearer s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"Cookie", b"a=1; session=s3cr3t-v4lue"),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"Referer", b"http://h/p?a=1&token=s3cr3t-v4lue#b"),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"Referer", b"http://u:s3cr3t-v4lue@h/"),)), "u:s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"X-Up", b"Bearer s3cr3t-v4lue"),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"X-Config", b'{"api_key": "s3cr3t-v4lue", "n": 1}'),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"X-Config", b'{"token": {"a": "s3cr3t-v4lue"}}'),)), "s3cr3t-v4lue", Redaction()),
        (exchange(fields=((b"X-Config", b"eyJ0b2tlbiI6InMzY3IzdC12NGx1ZSJ9"),)), "s3cr3t-v4lue", Redaction()),
        (exchange(target=b"/p;jsessionid=s3cr3t-v4lue"), "s3cr3t-v4lue", Redaction()),
        (exchange(target=b"/p?q=Bearer%20s3cr3t-v4lue"), "s3cr3t-v4lue", Redaction()),
        (exchange(b"a=1&password=s3cr3t+v4lue", FORM), "s3cr3t v4lue", Redaction()),
        (asking([{"a": SECRET}]), SECRET, Redaction(json=("/user",))),
        (asking('ä"\\\n€ \u2028x'), 'ä"\\\n€ \u2028x', Redaction(json=("/user/email",))),
        (asking(7654321), 7654321, Redaction(json=("/user/email",))),
        (asking(7654321), 7654321.0, Redaction(json=("/user/email",))),
        (asking(7654321), "7654321", Redaction(json=("/user/email",))),
        (asking(0.765430), 0.76543, Redaction(json=("/user/email",))),
        (exchange(b'{"n": NaN, "email": "alice@example.com"}'), SECRET, Redaction(json=("/email",))),
        (exchange(b"email=alice%40example.com", FORM), SECRET, Redaction(json=("/email",))),
        (exchange(SECRET.encode(), TEXT), SECRET, Redaction(json=("/email",))),
        (exchange(b'{"n": 1, "email": "alice@example.com'), SECRET, Redaction(json=("/email",))),
        (exchange(b'{"email": "alice\\u0040example.com'), SECRET, Redaction(json=("/email",))),
        (exchange(b"{'email': 'alice@example.com'}"), SECRET, Redaction(json=("/email",))),
        (exchange(b"{email: alice@example.com, n: 1}"), SECRET, Redaction(json=("/email",))),
        (exchange(b'{"email": "alice@example.com"}\n{', LINES), SECRET, Redaction(json=("/email",))),
        (exchange(MULTIPART, PARTS), SECRET, Redaction(json=("/email",))),
        (exchange(MULTIPART.replace(b"\r\n", b"\n"), PARTS), SECRET, Redaction(json=("/email",))),
    ],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_whatever_was_redacted_is_masked_where_an_answer_has_it_as_a_leaf(
    asked: Exchange, secret: Any, redaction: Redaction, escaped: bool
) -> None:
    answers = [json.dumps({"echo": [secret, 1], "n": n}, ensure_ascii=escaped).encode() for n in range(3)]
    record, line = told(asked, *[reply(answer) for answer in answers], redaction=redaction)
    assert json.dumps(secret, ensure_ascii=False).strip('"') not in line
    assert json.dumps(secret).strip('"') not in line
    assert record["live"]["body"] == {"echo": [BLANK, 1], "n": 0}
    assert record["shadows"]["b"]["body"] == {"echo": [BLANK, 1], "n": 1}
    assert record["control"]["body"] == {"echo": [BLANK, 1], "n": 2}


def test_of_json_that_is_none_names_and_what_is_no_number_stay_in_its_answers() -> None:
    answer = {"echo": ["distance", "Infinity", "-Infinity", "alice@example.com"]}
    asked = exchange(b'{"distance": -Infinity, "n": Infinity, "email": "alice@example.com"')
    record, _ = told(asked, reply(json.dumps(answer).encode()))
    assert record["live"]["body"] == {"echo": ["distance", "Infinity", "-Infinity", BLANK]}


def test_the_verdict_is_given_before_anything_is_masked() -> None:
    live, shadow = reply(json.dumps({"a": SECRET}).encode()), reply(json.dumps({"a": BLANK}).encode())
    record, line = told(asking(), live, shadow)
    assert record["shadows"]["b"]["verdict"] == Verdict.MISMATCH
    assert record["live"]["body"] == record["shadows"]["b"]["body"] == {"a": BLANK}
    assert SECRET not in line


def test_differences_headers_and_errors_are_masked_too() -> None:
    fields: Fields = (*JSON, (b"X-Echo", SECRET.encode()), (b"Location", f"/?u={quote(SECRET)}".encode()))
    live = reply(json.dumps({"a": SECRET, "b": [SECRET, {"c": SECRET}], "n": 7654321}).encode(), fields)
    shadow = reply(b'{"a": 1, "n": 1}', fields)
    failed = Failure(Outcome.PROTOCOL_ERROR, f"the head has a line {SECRET}", 1.0)
    record, line = told(asking([SECRET, 7654321]), live, shadow, failed)
    assert SECRET not in line
    assert quote(SECRET) not in line
    assert "7654321" not in line
    assert record["live"]["headers"]["x-echo"] == BLANK
    assert record["live"]["headers"]["location"] == f"/?u={BLANK}"
    assert record["control"]["error"] == f"the head has a line {BLANK}"
    assert {each["path"]: each["live"] for each in record["shadows"]["b"]["differences"]} == {
        "/a": BLANK,
        "/b": [BLANK, {"c": BLANK}],
        "/n": BLANK,
    }


def test_a_difference_that_shows_part_of_a_text_shows_no_part_of_a_secret() -> None:
    long = f"{'x ' * 200}{SECRET} and then "
    # What is shown of the text begins 40 characters before the difference: in the middle of the secret.
    texts = [f"{long}{'-' * 30}{end}" for end in "ab"]
    record, line = told(asking(), *[reply(json.dumps({"m": text}).encode()) for text in texts])
    (difference,) = record["shadows"]["b"]["differences"]
    assert (difference["live"], difference["shadow"]) == (BLANK, BLANK)
    assert SECRET[4:] not in line


def test_every_other_byte_of_an_answer_stays() -> None:
    body = b'{"a" : 1.10,\t"alice@example.com": "ALICE@example.com", "b":["\\u00e4", "malice@example.comb", 1e2 , "x"]}'
    _, line = told(asking(), reply(body))
    assert body.decode() in line
    changed = body.replace(b'"x"', b'"alice\\u0040example.com"')
    _, line = told(asking(), reply(changed))
    assert body.replace(b'"x"', b'"[redacted]"').decode() in line


@pytest.mark.parametrize("value", ["short", "", 12345, True, None, [1, "two"]])
def test_what_is_shorter_than_six_characters_is_looked_for_nowhere(value: Any) -> None:
    body = json.dumps({"echo": value, "text": f"it is {value}"}).encode()
    record, _ = told(asking(value), reply(body))
    assert record["live"]["body"] == json.loads(body)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"not valid: {SECRET}.", f"not valid: {BLANK}."),
        (f"'{SECRET}'", f"'{BLANK}'"),
        (f"我的邮箱{SECRET}谢谢", f"我的邮箱{BLANK}谢谢"),
        (f"data: {json.dumps({'echo': SECRET})}\n\n", f"data: {json.dumps({'echo': BLANK})}\n\n"),
        (f"m{SECRET}", f"m{SECRET}"),
        (f"{SECRET}.5", f"{SECRET}.5"),
    ],
)
def test_within_a_text_a_secret_is_masked_where_it_stands_alone(text: str, shown: str) -> None:
    asked = exchange(fields=((b"X-Customer", SECRET.encode()),))
    redaction = Redaction(headers=frozenset({"x-customer"}))
    record, _ = told(asked, reply(text.encode(), TEXT), redaction=redaction)
    assert record["live"]["body_text"] == shown
    record, _ = told(asked, reply(json.dumps({"m": text}).encode()), redaction=redaction)
    assert record["live"]["body"] == {"m": shown}


def test_a_text_that_is_cut_ends_in_no_part_of_a_secret_and_has_no_hash() -> None:
    asked = exchange(fields=((b"X-Customer", SECRET.encode()),))
    redaction = Redaction(headers=frozenset({"x-customer"}))
    for body in (f"{'-' * 90}{SECRET} and more", f"{'-' * 150}{SECRET}"):
        record, line = told(asked, reply(body.encode(), TEXT), redaction=redaction, body_limit=100)
        assert SECRET[:6] not in line
        assert record["live"]["body_text"] == body.replace(SECRET, BLANK)[:100]
        assert "body_sha256" not in record["live"]
    record, _ = told(asked, reply(b"-" * 150, TEXT), redaction=redaction, body_limit=100)
    assert "body_sha256" in record["live"]
    for body, hashed in (("-" * 150, True), (f"{'-' * 150}{SECRET}", False)):
        coded = reply(gzip.compress(body.encode()), (*TEXT, (b"Content-Encoding", b"gzip")))
        record, _ = told(asked, coded, redaction=redaction, body_limit=100)
        assert ("body_sha256" in record["live"]) == hashed, "what is beyond the limit is searched too"


def test_a_whole_document_is_a_secret_too_and_takes_no_quadratic_time() -> None:
    document = "aaaaa " * 40_000 + "b"
    asked = exchange(document.encode(), TEXT)  # no JSON, so all of it is redacted
    echoes = Echoes([document], Redaction().mark)
    assert echoes.text(document) == BLANK
    assert echoes.text(f"you said: {document}!") == f"you said: {BLANK}!"
    cut = f"you said: {document[:200_000]}"
    assert echoes.beginning_at_the_end(cut) == len("you said: ")
    assert echoes.beginning_at_the_end(f"you said: {document[:9]}") == len("you said: ")
    assert echoes.beginning_at_the_end("nothing of it") == len("nothing of it")
    record, line = told(asked, reply(json.dumps({"echo": f"you said: {document}"}).encode()), body_limit=1 << 20)
    assert record["live"]["body"] == {"echo": f"you said: {BLANK}"}
    assert "aaaaa aaaaa" not in line


def test_bytes_with_a_secret_in_them_are_withheld() -> None:
    asked = exchange(fields=((b"X-Customer", SECRET.encode()),))
    redaction = Redaction(headers=frozenset({"x-customer"}))
    record, _ = told(asked, reply(b"\xff\x00" + SECRET.encode(), TEXT), redaction=redaction)
    assert record["live"]["body_redacted"] == "not text, and in it is something that was redacted in the request"
    assert "body_base64" not in record["live"]
    record, _ = told(asked, reply(b"\xff\x00", TEXT), redaction=redaction)
    assert "body_base64" in record["live"]


LONG = {"pad": "x" * 2000}


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        ({"user": {**LONG, "email": SECRET}}, ("/user/email",)),
        ({"user": {**LONG, "email": {"a": [1, SECRET]}}, "more": LONG}, ("/user/email/*/0",)),
        ({"users": [LONG, {"email": SECRET}]}, ("/**/email",)),
        ({**LONG, "email": {"a": SECRET}}, ("/email/**",)),
        ({**LONG, "a": {"email": SECRET}}, ("/a", "/b/email")),
        ({**LONG, "e/mail~": SECRET, "z": 1}, ("/e~1mail~0",)),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_beyond_the_limit_of_a_request_is_masked_in_its_answers_too(
    value: Any, pointers: tuple[str, ...], packed: bool
) -> None:
    raw = json.dumps(value).encode()
    fields: Fields = (*JSON, (b"Content-Encoding", b"gzip")) if packed else JSON
    asked = exchange(gzip.compress(raw) if packed else raw, fields)
    answer = {"input": SECRET, "msg": f"not valid: {SECRET}"}
    record, line = told(asked, reply(json.dumps(answer).encode()), redaction=Redaction(json=pointers), body_limit=1000)
    assert record["request"]["body_text"].startswith('{"')
    assert record["request"]["body_truncated"]
    assert record["live"]["body"] == {"input": BLANK, "msg": f"not valid: {BLANK}"}
    assert SECRET not in line


def test_of_a_request_over_the_limit_only_so_much_is_looked_at() -> None:
    redaction = Redaction(json=("/**/email",))
    many = b'{"email": 1},' * 5000
    assert len(list(redaction.behind_keys(many))) == 1000
    (long,) = redaction.behind_keys(b'{"email": [' + b"1," * 100_000)
    assert len(long) == 64 << 10
    assert list(redaction.behind_keys(b'["email", "email"  , {"email" :\n"a\\"b" , "email":5}]')) == [b'"a\\"b"', b"5"]
    assert list(redaction.behind_keys(b'"email": "cut off')) == [b'"cut off']


def test_no_hash_is_told_of_an_answer_with_a_secret_in_it() -> None:
    record, _ = told(asking(), reply(json.dumps({"a": SECRET}).encode()), reply(b'{"a": 1}'), bodies="hash")
    assert "body_sha256" not in record["live"]
    assert "body_sha256" in record["shadows"]["b"]


def test_the_mark_in_an_answer_joins_with_the_one_in_the_request() -> None:
    redaction = Redaction(json=("/user/email",), hash_key=b"k")
    record, _ = told(asking(), reply(json.dumps({"a": SECRET, "b": f"so {SECRET}"}).encode()), redaction=redaction)
    mark = redaction.mark(SECRET.encode())
    assert record["request"]["body"]["user"]["email"] == mark
    assert record["live"]["body"] == {"a": mark, "b": f"so {mark}"}


def test_a_thousand_secrets_are_masked_where_they_are_whole_leaves() -> None:
    secrets = [f"secret-{number:04}" for number in range(1000)]
    record, line = told(asking(secrets), reply(json.dumps({"echo": secrets}).encode()))
    assert record["live"]["body"] == {"echo": [BLANK] * 1000}
    assert "secret-" not in line


def test_the_first_64_secrets_are_masked_within_texts_too() -> None:
    secrets = [f"user-{number}@example.com" for number in range(65)]
    record, _ = told(asking(secrets), reply(json.dumps({"m": f"not {' nor '.join(secrets)}"}).encode()))
    assert record["live"]["body"] == {"m": f"not {' nor '.join([BLANK] * 64)} nor {secrets[64]}"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


def by_value(value: Any, secret: str) -> Any:
    if isinstance(value, dict):
        return {key: by_value(each, secret) for key, each in value.items()}
    if isinstance(value, list):
        return [by_value(each, secret) for each in value]
    return BLANK if value == secret else value


@given(values, st.text('ab"\\/\n\u00e4\u2028 ', min_size=6, max_size=8), st.booleans(), st.data())
def test_masking_text_says_the_same_as_masking_values(value: Any, secret: str, escaped: bool, data: Any) -> None:
    value = [value, secret, {"k": [secret, data.draw(values)]}]
    try:
        raw = json.dumps(value, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        assume(False)
    echoes = Echoes([secret], Redaction().mark)
    plain = json.loads(raw)
    assume(secret not in json.dumps(by_value(plain, secret), ensure_ascii=False))
    assert json.loads(echoes.json(raw, plain, Budget())) == by_value(plain, secret)
    assert echoes.met


@given(st.lists(st.tuples(st.sampled_from(["api_key", "a", "e-mail"]), st.text("abx%=+ ", min_size=1)), max_size=5))
def test_what_a_mark_took_the_place_of_is_known(parameters: list[tuple[str, str]]) -> None:
    redaction = Redaction(query=frozenset({"e*"}))
    text = "&".join(f"{name}={value}" for name, value in parameters)
    assert taken_out(text, redaction.parameters(text)) == [value for name, value in parameters if name != "a"]


def test_what_is_too_short_or_a_mark_is_no_secret() -> None:
    assert not Echoes(["short", BLANK, "[redacted:hmac:0765432189abcdef]"], Redaction().mark)


def test_the_proxys_own_credentials_are_masked_in_answers_too() -> None:
    config = from_values(
        {
            "live": {"url": "http://a", "headers": {"set": {"Authorization": "Bearer lives-token"}}},
            "shadows": {
                "b": {
                    "url": "http://b",
                    "headers": {"set": {"X-Team": "platform", "X-Api-Key": "b-s3cret", "X-Up": "Bearer b2-s3cret"}},
                    "query": {"set": {"token": "b3-s3cret", "region": "eu-west-1"}},
                }
            },
        }
    )
    policy = recording.policy(specify.recorder(config))
    secrets = ["Bearer lives-token", "b-s3cret", "b2-s3cret", "b3-s3cret"]
    body = json.dumps({"saw": [*secrets, "platform", "eu-west-1"]}).encode()
    whole = Exchange(exchange().request, reply(body), {"b": reply(body)})
    record = json.loads(encode(whole, proxy="h/0", policy=policy, judge=judge))
    assert (
        record["live"]["body"]
        == record["shadows"]["b"]["body"]
        == {"saw": [BLANK, BLANK, BLANK, BLANK, "platform", "eu-west-1"]}
    )
    assert "s3cret" not in repr(policy)


@pytest.mark.parametrize(
    ("secrets", "cached"), [((SECRET, "s3cret-token"), True), (tuple(f"s3cret{n}" for n in range(3000)), False)]
)
def test_the_secrets_that_are_cached_are_few(secrets: tuple[str, ...], cached: bool) -> None:
    assert Echoes(secrets, lambda secret: BLANK).text(f"no {secrets[0]}!") == f"no {BLANK}!"
    assert (secrets in prepared) is cached


def test_fields_that_hold_no_secret_of_one_request_are_searched_for_those_of_the_next() -> None:
    """They are the same object where a server sends the same fields again."""
    headers = {"content-type": "text/plain", "x-user": "bob@example.com"}
    alice, bob = (Echoes([name], Redaction().mark) for name in ("alice@example.com", "bob@example.com"))
    assert alice.headers(headers) is headers
    assert bob.headers(headers)["x-user"] != "bob@example.com"
    assert alice.headers(headers) is headers


@pytest.mark.parametrize("number", [123456, -123456.5, 123456.25, 1e300])
def test_a_number_that_was_redacted_is_hidden_in_a_difference(number: float) -> None:
    echoes = Echoes([repr(number)], Redaction().mark)
    assert echoes.difference(number) != number
    assert echoes.difference({"a": [number]}) != {"a": [number]}
    assert Echoes(["a secret text"], Redaction().mark).difference(number) == number
