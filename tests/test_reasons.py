"""Why a leg failed: out of what real servers answer, masked so that equal failures are one line."""

from typing import Any

import pytest
from logs import said as answered

from shadowproxy.answers import reason_of
from shadowproxy.answers.masking import LONGEST, masked
from shadowproxy.exchange import Outcome
from shadowproxy.record import Body, RecordedLeg


def said(value: Any, status: int = 500, content_type: str = "application/json") -> RecordedLeg:
    return answered(value, content_type, status)


TRACEBACK = """Traceback (most recent call last):
  File "/app/server.py", line 17, in predict
    return model.predict(rows)
ValueError: could not convert string to float: 'n/a 17'
"""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        # MLflow
        (
            said({"error_code": "BAD_REQUEST", "message": "Missing inputs ['petal_width']", "stack_trace": "T"}),
            "500: BAD_REQUEST: Missing inputs […]",
        ),
        (
            said(
                {
                    "error_class": "SCHEMA_ENFORCEMENT_FAILED",
                    "error_code": "BAD_REQUEST",
                    "message": "Failed to enforce schema of data '   a  b\n0  1  x' with schema '['a': long]'. "
                    "Error: Can not safely convert 'x'",
                },
                400,
            ),
            "400: BAD_REQUEST: Failed to enforce schema of data '…' with schema '…'. Error: Can not safely convert '…'",
        ),
        # MLServer: a traceback as text
        (said(TRACEBACK, content_type="text/plain"), "500: ValueError: could not convert string to float: '…'"),
        (said({"error": TRACEBACK}), "500: ValueError: could not convert string to float: '…'"),
        (said("x\n" + TRACEBACK + "\nKilled.\n", content_type="text/plain"),
         "500: ValueError: could not convert string to float: '…'"),
        # KServe, BentoML, LitServe
        (said({"error": "ValueError : input row 17: 'abc'"}), "500: ValueError : input row #: '…'"),
        (said({"error": {"message": "boom", "type": "server_error", "code": 500}}), "500: server_error: boom"),
        (said({"error": {"code": "model_not_found"}}, 404), "404: model_not_found"),
        # Triton under text/plain
        (said('{"error":"Request for unknown model: \'iris\' is not found"}', 404, "text/plain"),
         "404: Request for unknown model: '…' is not found"),
        # Seldon
        (said({"status": {"code": -1, "info": "row 3 is bad", "reason": "MICROSERVICE_BAD_DATA", "status": "FAILURE"}}),
         "500: row # is bad"),
        # FastAPI
        (
            said(
                {
                    "detail": [
                        {"loc": ["body", "rows", n, "x"], "msg": "Not a number", "input": "s3cret"}
                        for n in range(3)
                    ]
                },
                422,
            ),
            "422: body.rows.#.x: Not a number",
        ),
        (
            said({"detail": [{"loc": ["body", "a"], "msg": "missing"}, {"loc": ["body", "b"], "msg": "missing"}]}, 422),
            "422: body.a: missing; body.b: missing",
        ),
        (said({"detail": "Not Found"}, 404), "404: Not Found"),
        # Spring, problem+json, Lambda, a gateway's gRPC, GraphQL
        (said({"timestamp": 1, "status": 500, "error": "Internal Server Error", "message": "pool is empty"}),
         "500: Internal Server Error: pool is empty"),
        (said({"type": "https://e.example/limit", "title": "Too many rows", "detail": "at most 100, got 212"}, 400),
         "400: at most #, got #"),
        (said({"errorMessage": "Task timed out after 3.01 seconds", "errorType": "Sandbox.Timedout"}),
         "500: Sandbox.Timedout: Task timed out after # seconds"),
        (said({"code": 13, "message": "internal", "details": []}), "500: internal"),
        (said({"errors": [{"message": "no field y"}, {"message": "no field z"}]}, 400), "400: no field y; no field z"),
        # plain text, HTML, nothing
        (said("Internal Server Error", content_type="text/plain"), "500: Internal Server Error"),
        (said("<html><head><title>502 Bad Gateway</title></head><body>nginx</body>", 502, "text/html"),
         "502: # Bad Gateway"),
        (said("<h1>Server Error &amp; more</h1>", 500, "text/html"), "500: Server Error & more"),
        (said("", 503), "503: Service Unavailable, no reason given"),
        (said({"a": 1}, 500), "500: Internal Server Error, no reason given"),
        (said(b"\x00\x01".decode(), 599), "599: no reason given"),
        # an answer that failed with 200
        (said('data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"error":{"message":"upstream 7 died"}}\n\n', 200,
              "text/event-stream"), "200: upstream # died"),
        # legs without an answer
        (RecordedLeg(Outcome.TIMEOUT, error="no answer within 2000 ms"), "timeout: no answer within # ms"),
        (RecordedLeg(Outcome.CONNECT_ERROR, error="[Errno 111] Connection refused"),
         "connect_error: [Errno #] Connection refused"),
        (RecordedLeg(Outcome.TIMEOUT, error="timeout"), "timeout"),
        (RecordedLeg(Outcome.PROTOCOL_ERROR), "protocol_error"),
    ],
)  # fmt: skip
def test_the_reason_in_one_line(answer: RecordedLeg, reason: str) -> None:
    assert reason_of(answer) == reason


def test_what_the_log_has_of_a_cut_body_still_tells_the_reason() -> None:
    cut = Body(
        "text", '{"error_code": "BAD", "message": "row 7 is \\"x\\"", "stack_trace": "Tra', 900_000, truncated=True
    )
    assert reason_of(said("")._replace(body=cut)).startswith("500: row # is")
    hashed = Body("none", None, 900, truncated=True, sha256="00")
    assert reason_of(said("")._replace(body=hashed)) == "500: its body is not in the log"
    assert reason_of(said("")._replace(body=None)) == "500: its body is not in the log"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("input row 17: 'abc'", "input row #: '…'"),
        ("can't read it, don't know 'why'", "can't read it, don't know '…'"),
        ('got "x \\" y" and `z` and ‘q’', 'got "…" and `…` and ‘…’'),
        ("an unclosed 'quote goes on", "an unclosed '…'"),
        ("row [1.0, 2.0, [3]] or {'x': {'y': 1}}, [1, 2", "row […] or {…}, […"),
        ("[Errno 111] refused", "[Errno #] refused"),
        ("-1.5e-7 of 1,024 at 10.0.0.3:8080, 12:30:59", "# of # at #, #"),
        ("float32, not datetime64[ns]; utf-8 in layer3", "float32, not datetime64[ns]; utf-8 in layer#"),
        ("request 123e4567-e89b-12d3-a456-426614174000", "request #"),
        ("at 0x7f3a2b1c4d5e, digest d41d8cd98f00b204e9800998ecf8427e", "at #, digest #"),
        ("deployment-7d9f8b6c5d-x2k4p is gone", "… is gone"),
        ("jane.doe@example.com is unknown", "…@… is unknown"),
        ("see https://user:pw@host.example/a?token=abc#x now", "see https://host.example/a now"),
        ("Bearer abc.def1 is bad", "Bearer … is bad"),
        ("authorization: Bearer abc.def", "authorization: Bearer …"),
        ("password=hunter2, api_key: k7", "password=…, api_key: …"),
        ("Incorrect key: sk-abcdefghij", "Incorrect key: …"),
        ("AKIAIOSFODNNEXAMPLE has no right", "… has no right"),
        ("a token limit of 4096", "a token limit of #"),
        ("boom \x1b[31mred\x1b[0m\x00\n\tline", "boom red line"),
        ("shape (3, 4) against (12,)", "shape (#, #) against (#,)"),
        ("no /tmp/folderWh6uCq/1/model.py or /var/tmp/tmpx8_a3/w", "no /tmp/…/#/model.py or /var/tmp/…/w"),
        ("read (/tmp/tmpab_cdefg), /srv/tmp/kept", "read (/tmp/…), /srv/tmp/kept"),
    ],
)
def test_what_is_of_one_request_only_is_masked(message: str, line: str) -> None:
    assert masked(message) == line


def test_a_reason_is_short_however_long_its_body() -> None:
    for answer in (said({"error": "many words " * 100_000}), RecordedLeg(Outcome.TIMEOUT, error="many words " * 100)):
        assert LONGEST - 5 < len(reason_of(answer)) <= LONGEST


@pytest.mark.parametrize(
    "unit", ["a", "'", '"\\', "[", "{[", "a@", "0x", "1:", "http://", "token ", "aA1-", "'a ", "<", "<h1>", "/tmp/"]
)
def test_no_text_takes_long(unit: str) -> None:
    """Only a bounded part is looked at, so a hostile megabyte costs what a kilobyte does."""
    long, longer = unit * 20_000, unit * 40_000
    assert masked(long) == masked(longer)
    assert reason_of(said(long, content_type="text/html")) == reason_of(said(longer, content_type="text/html"))
