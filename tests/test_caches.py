"""What a serving process caches is bounded: each key, each cache, and all caches together."""

import ast
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from shadowproxy import credential_values, credentials, echoes, pointers, redaction
from shadowproxy.caches import (
    BUDGETS,
    IN_EACH_CONFIGURATION,
    KEYS_SEEN,
    REPEATED,
    SHARE,
    TOTAL,
    Cache,
    remembered,
)
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.recorder import heads
from shadowproxy.redaction import BLANK, Redaction
from shadowproxy.serve.http1 import framing
from shadowproxy.serve.policy import headers, query
from shadowproxy.serve.policy.edits import WRITERS, Edits

ROOT = Path(__file__).parent.parent
OTHERS = {
    "shadowproxy/redaction.py": 2,  # by what the configuration says, 64 of them
    "shadowproxy/recorder/line.py": 1,  # the last four seconds
    "shadowproxy/lines.py": 1,  # of a report's progress bar alone
    "shadowproxy/compare/judge/rules.py": 1,  # of reports alone
}
"""Caches of functools, and how many of them, in what a serving process runs: those that no peer can fill."""


def sources() -> list[Path]:
    """What a serving process runs."""
    readers = ("compare/fold", "compare/report", "selftest", "demo", "replay", "check", "cli")
    paths = sorted((ROOT / "shadowproxy").rglob("*.py"))
    return [path for path in paths if not str(path.relative_to(ROOT / "shadowproxy")).startswith(readers)]


def test_the_budgets_together_are_what_the_guarantees_say() -> None:
    held = sum(budget * (2 if name in IN_EACH_CONFIGURATION else 1) for name, budget in BUDGETS.items())
    assert held + len(REPEATED) * 8 * KEYS_SEEN <= TOTAL
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| caches of what was read ")]
    assert f"{TOTAL >> 20} MiB in all" in row


def test_each_budget_is_one_caches() -> None:
    """Two caches of one name would hold twice as much."""
    named = [
        ast.literal_eval(node.args[0])
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Cache", "remembered")
    ]
    assert sorted(named) == sorted(BUDGETS)


def test_nothing_else_is_cached() -> None:
    found = {
        str(path.relative_to(ROOT)): len(re.findall(r"\b(?:lru_cache|functools\.cache)\(", path.read_text()))
        for path in sources()
    }
    assert {path: count for path, count in found.items() if count} == OTHERS


def test_a_result_is_worked_out_once() -> None:
    worked: list[str] = []

    def work(key: str) -> str:
        worked.append(key)
        return key.upper()

    cache = remembered("content types", work)
    assert [cache["a"], cache["b"], cache["a"]] == ["A", "B", "A"]
    assert worked == ["a", "b"]


def test_a_key_that_comes_once_takes_no_place() -> None:
    """Or request IDs would push out the fields that come with every request."""
    worked: list[int] = []

    def work(key: int) -> int:
        worked.append(key)
        return -key

    cache = remembered("header lines", work, lambda key, value: 10)
    for once in range(1, KEYS_SEEN // 2):
        assert cache[once] == -once
    assert not cache
    assert [cache[5], cache[5]] == [-5, -5]
    assert list(cache) == [5]
    assert worked == [*range(1, KEYS_SEEN // 2), 5]


def test_two_keys_that_share_a_place_are_not_confused() -> None:
    cache: Cache[int, int] = remembered("header lines", lambda key: -key, lambda key, value: 10)
    first, second = 7, 7 + KEYS_SEEN
    assert [cache[first], cache[second], cache[first]] == [-first, -second, -first]
    assert not cache
    assert [cache[first], cache[first]] == [-first, -first]
    assert list(cache) == [first]


def test_what_is_too_large_is_worked_out_each_time() -> None:
    cache = remembered("content types", str.upper, lambda key, value: len(key))
    largest = BUDGETS["content types"] // SHARE
    assert cache["a" * largest] == "A" * largest
    assert cache["a" * (largest + 1)] == "A" * (largest + 1)
    assert list(cache) == ["a" * largest]


def test_what_raises_is_not_kept() -> None:
    cache = remembered("content types", int)
    with pytest.raises(ValueError, match="invalid literal"):
        cache["one"]
    assert not cache


def test_a_full_cache_forgets_all_and_counts_them() -> None:
    cache: Cache[int, int] = Cache("content types", lambda key, value: BUDGETS["content types"] // SHARE)
    assert [cache.keep(key, key) for key in range(SHARE + 2)] == [*[0] * SHARE, SHARE, 0]
    assert list(cache) == [SHARE, SHARE + 1]


# --- each cache holds what its budget says, whatever the keys are that a peer thinks of


EDITS = [Edits(host=None, own_host=b"h") for _ in range(WRITERS)]


def many_fields(number: int, size: int) -> bytes:
    lines = [b"%x.%x:%b" % (number, each, b"v" * (size - 11)) for each in range(2000 // size)]
    return b"\r\n".join([b"Host:", *lines])


def ask(number: int, size: int) -> None:
    """A request with all that its section may come to keep."""
    read = framing.parse_request_head(b"GET / HTTP/1.1\r\n" + many_fields(number, size))
    read.section.seen = 2
    for credentials_pass in (True, False):
        section, fields, _ = headers.section_for_shadow(read.section, (), "s", credentials=credentials_pass, record="r")
        for edits in EDITS:
            edits.write_head("GET", b"/", fields, section)
    for edits in EDITS:
        edits.write_head("GET", b"/", (), read.section)


def reply(number: int, size: int) -> None:
    assert framing.parse_response_head(b"HTTP/1.1 200 OK\r\n" + many_fields(number, size), "GET").section.fields


def record_head(number: int, size: int) -> None:
    HEADS._rest = 0  # it gives up once it was full of heads that came once
    fields = tuple((b"%x.%x" % (number, each), b"v" * (size - 11)) for each in range(2000 // size))
    assert HEADS.read(fields, Redaction()).headers


def echoed(number: int, size: int) -> None:
    secrets = tuple(f"{number}é{each}".ljust(size, "ß") for each in range(1900 // size))
    assert echoes.Echoes(secrets, lambda secret: BLANK).text(f"no {secrets[0]}!") == f"no {BLANK}!"


def place(number: int, size: int) -> None:
    """A place below another, each with a name of its own."""
    RULES.root.member(f"{number}" + "ж" * min(size // 2, 180)).member("b" * min(size, 180))


HEADS = heads.Heads()
RULES = Rules(ignore=("/**/a",))

FILLED: dict[str, tuple[Cache[object, object], Callable[[int, int], object]]] = {
    name: (cache, fill)  # type: ignore[misc]  # a cache is not covariant
    for name, cache, fill in [
        ("request heads", framing._requests, ask),
        ("response heads", framing._responses, reply),
        ("header lines", framing._lines, lambda n, size: framing._lines[b"N%d:%b" % (n, b"v" * size)]),
        (
            "fields with credentials",
            headers._with_credentials,
            lambda n, size: headers._with_credentials[(b"N%d" % n, b"v" * size)],
        ),
        (
            "fields without credentials",
            headers._without_credentials,
            lambda n, size: headers._without_credentials[(b"n%d" % n, b"https://a:b@h/" + b"v" * size)],
        ),
        (
            "targets without credentials",
            query._targets,
            lambda n, size: query.remove_credentials(b"/%d?token=abcdef12&a=%b" % (n, b"v" * size)),
        ),
        (
            "credential header names",
            credentials._headers,
            lambda n, size: credentials.is_credential_header(b"%d" % n + b"v" * size),
        ),
        (
            "credential parameter names",
            credentials._parameters,
            lambda n, size: credentials.is_credential_parameter(f"{n}" + "ж" * size),
        ),
        (
            "doubtful header names",
            credentials._doubtful_headers,
            lambda n, size: credentials.may_be_credential_header(b"%d" % n + b"v" * min(size, 50)),
        ),
        (
            "doubtful parameter names",
            credentials._doubtful_parameters,
            lambda n, size: credentials.may_be_credential_parameter(f"{n}" + "ж" * min(size, 50)),
        ),
        (
            "credentials in texts",
            credential_values._credentials,
            lambda n, size: credential_values.credentials_in(f"x{n} " + "sid=ab1;" * (size // 8)),
        ),
        ("plain field values", redaction._plain_values, lambda n, size: Redaction().value(f"x {n}" + "ж" * size)),
        ("echoed secrets", echoes.prepared, echoed),
        ("recorded heads", HEADS._known, record_head),
        (
            "recorded fields",
            HEADS.plain,
            lambda n, size: heads.read_head(((b"N%d" % n, b"v" * size),), Redaction(), HEADS.plain),
        ),
        (
            "recorded names",
            heads._names,
            lambda n, size: heads._names[(b"N%d" % n + b"v" * size, frozenset())],
        ),
        ("content types", heads._kinds, lambda n, size: heads._kinds[f"text/{n}" + "ж" * size]),
        ("places in answers", RULES._places, place),
        ("pointers", pointers._segments, lambda n, size: pointers.pointer_segments(f"/{n}" + "/a1" * (size // 3))),
    ]
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [12, 100, 900])
@pytest.mark.parametrize("name", BUDGETS)
def test_a_cache_holds_no_more_than_its_budget(name: str, size: int) -> None:
    cache, fill = FILLED[name]
    for other, _ in FILLED.values():
        other.forget()
    tracemalloc.start()
    try:
        before = len(cache)
        number = 0
        while len(cache) >= before:  # until it was full, and has forgotten the others
            before = len(cache)
            held, _ = tracemalloc.get_traced_memory()
            fill(number, size)
            fill(number, size)  # a key that came once may not be stored
            number += 1
            if not cache:
                break  # such an entry is too large to be kept
            assert number < 20_000
            for other, _ in FILLED.values():
                if other is not cache:
                    other.forget()
    finally:
        tracemalloc.stop()
        for other, _ in FILLED.values():
            other.forget()
    assert held <= BUDGETS[name], f"{held / number:.0f} bytes each, counted as {BUDGETS[name] / number:.0f}"
