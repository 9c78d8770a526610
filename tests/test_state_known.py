"""The pairs that an exchange's answers say again."""

import pytest

from shadowproxy.exchange import Learnt, Reply, Translated
from shadowproxy.serve.state.known import LONGEST, MOST, known_pairs
from shadowproxy.serve.state.pairs import KNOWN, LOST, Pairs

LIVE, OWN = b"live-00000001", b"own-00000001"


def map_of(*pairs: tuple[bytes, bytes | None]) -> Pairs:
    made = Pairs(1000, 3600.0, lambda: 0.0)
    for live, own in pairs:
        entry = made.issue(live, b"", "record", "json:/id")
        assert entry is not None
        made.settle(entry, LOST if own is None else KNOWN, own or b"")
    return made


def reply(body: bytes, status: int = 200, *translated: Translated) -> Reply:
    return Reply(status, (), body, len(body), 1.0, 2.0, translated=translated)


@pytest.mark.parametrize("around", [b'["%b"]', b'{"u":"/items/%b?x=1"}', b"item %b, found", b'{"%b":{}}'])
def test_a_pair_is_named_where_both_answers_have_it(around: bytes) -> None:
    found = known_pairs(map_of((LIVE, OWN)), reply(around % LIVE), reply(around % OWN))
    assert found == (Learnt("json:", LIVE.decode(), OWN.decode()),)


@pytest.mark.parametrize(
    ("pairs", "live", "own"),
    [
        (map_of(), reply(LIVE), reply(OWN)),
        (map_of((LIVE, None)), reply(LIVE), reply(OWN)),
        (map_of((LIVE, OWN)), reply(LIVE), reply(b"another")),
        (map_of((LIVE, OWN)), reply(LIVE), reply(OWN, 404)),
        (map_of((LIVE, OWN)), reply(b"x" + LIVE), reply(OWN)),
        (map_of((LIVE, OWN)), reply(LIVE + b" " * LONGEST), reply(OWN)),
        (map_of((LIVE, OWN)), reply(LIVE), reply(OWN, 200, Translated("path", "r", LIVE.decode(), OWN.decode()))),
    ],
)
def test_nothing_is_named_without_a_pair_in_both(pairs: Pairs, live: Reply, own: Reply) -> None:
    assert known_pairs(pairs, live, own) == ()


def test_a_bounded_number_is_named() -> None:
    both = [(b"live-%08d" % n, b"own-%08d" % n) for n in range(MOST + 9)]
    live, own = (b" ".join(each) for each in zip(*both, strict=True))
    assert len(known_pairs(map_of(*both), reply(live), reply(own))) == MOST
