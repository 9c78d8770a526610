"""Who may look and who may change, as a table: where it listens, whether there is a token, and what the head says."""

import pytest

from shadowproxy.serve.admin.access import Access, Kind

TOKEN = "0123456789abcdef"
HERE = [(b"host", b"127.0.0.1:9901")]
MARK = [(b"x-shadowproxy-admin", b"1")]
BEARER = [(b"authorization", b"Bearer " + TOKEN.encode())]
WRONG = [(b"authorization", b"Bearer 0123456789abcdeF")]
REBOUND = [(b"host", b"evil.example:9901")]

LOOPBACK, TOKENED = Access("127.0.0.1"), Access("127.0.0.1", TOKEN)
BEYOND, BEYOND_TOKENED = Access("0.0.0.0"), Access("0.0.0.0", TOKEN)
SOCKET = Access(None)


@pytest.mark.parametrize(
    ("access", "kind", "fields", "refused"),
    [
        (LOOPBACK, Kind.OPEN, REBOUND, None),
        (LOOPBACK, Kind.STATE, HERE, None),
        (LOOPBACK, Kind.STATE, REBOUND, (421, "host_not_known")),
        (LOOPBACK, Kind.STATE, [], (421, "host_not_known")),
        (LOOPBACK, Kind.STATE, HERE + REBOUND, (421, "host_not_known")),
        (LOOPBACK, Kind.PRIVATE, HERE, None),
        (LOOPBACK, Kind.PRIVATE, REBOUND, (421, "host_not_known")),
        (LOOPBACK, Kind.CHANGE, HERE, (403, "header_needed")),
        (LOOPBACK, Kind.CHANGE, HERE + MARK, None),
        (LOOPBACK, Kind.CHANGE, [*HERE, (b"x-shadowproxy-admin", b"0")], (403, "header_needed")),
        (LOOPBACK, Kind.CHANGE, REBOUND + MARK, (421, "host_not_known")),
        (LOOPBACK, Kind.CHANGE, REBOUND + MARK + BEARER, (421, "host_not_known")),
        (TOKENED, Kind.STATE, HERE, None),
        (TOKENED, Kind.PRIVATE, HERE, (401, "token_needed")),
        (TOKENED, Kind.PRIVATE, HERE + WRONG, (401, "token_wrong")),
        (TOKENED, Kind.PRIVATE, HERE + BEARER, None),
        (TOKENED, Kind.PRIVATE, REBOUND + BEARER, None),
        (TOKENED, Kind.PRIVATE, REBOUND + WRONG, (421, "host_not_known")),
        (TOKENED, Kind.PRIVATE, HERE + BEARER + BEARER, (401, "token_wrong")),
        (TOKENED, Kind.CHANGE, HERE + MARK, (401, "token_needed")),
        (TOKENED, Kind.CHANGE, HERE + BEARER, (403, "header_needed")),
        (TOKENED, Kind.CHANGE, HERE + MARK + BEARER, None),
        (BEYOND, Kind.STATE, HERE, None),
        (BEYOND, Kind.PRIVATE, HERE, (403, "token_not_configured")),
        (BEYOND, Kind.CHANGE, HERE + MARK, (403, "token_not_configured")),
        (BEYOND, Kind.CHANGE, HERE + MARK + BEARER, (403, "token_not_configured")),
        (BEYOND_TOKENED, Kind.PRIVATE, HERE, (401, "token_needed")),
        (BEYOND_TOKENED, Kind.CHANGE, HERE + MARK + BEARER, None),
        (SOCKET, Kind.CHANGE, REBOUND + MARK, None),
        (SOCKET, Kind.PRIVATE, [], None),
    ],
)
def test_the_table_holds(
    access: Access, kind: Kind, fields: list[tuple[bytes, bytes]], refused: tuple[int, str] | None
) -> None:
    error = access.error(kind, fields)
    assert (error and (error.status, error.reason)) == refused
    assert error is None or len(error.detail) > 40


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (b"127.0.0.1", True),
        (b"10.1.2.3:9901", True),
        (b"[::1]:9901", True),
        (b"[fd00::1]", True),
        (b"localhost:80", True),
        (b"LocalHost", True),
        (b"Ops.Internal:9901", True),
        (b"ops.internal.evil.example", False),
        (b"localhost.evil.example", False),
        (b"127.0.0.1.evil.example", False),
        (b"[127.0.0.1", True),
        (b"2130706433", False),
        (b"evil.example@127.0.0.1", False),
        (b"\xff", False),
        (b"", False),
    ],
)
def test_a_host_is_an_address_or_a_name_of_ones_own(host: bytes, known: bool) -> None:
    error = Access("ops.internal").error(Kind.STATE, [(b"host", host)])
    assert (error is None) == known


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        (None, True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("ops.internal", False),
    ],
)
def test_loopback_is_only_what_other_hosts_cannot_reach(host: str | None, loopback: bool) -> None:
    error = Access(host).error(Kind.PRIVATE, HERE)
    assert (error is None) == loopback


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (f"bearer {TOKEN}", True),
        (f"Bearer  {TOKEN} ", True),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer ", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
    ],
)
def test_a_bearer_is_right_or_it_is_not(value: str, right: bool) -> None:
    error = TOKENED.error(Kind.PRIVATE, [*HERE, (b"authorization", value.encode())])
    assert (error is None) == right


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(TOKENED)
