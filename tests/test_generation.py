"""What one configuration builds."""

from collections.abc import Mapping

from shadowproxy import config
from shadowproxy.exchange import Exchange, Reply, Request, Verdict
from shadowproxy.serve import generation
from shadowproxy.serve.lane import Tally

REQUEST = Request("7f3c", "019c139e-6efb-7cc4-8d34-1f1f3a1f9a51", 0, "GET", b"/", (), b"", 0)
ANSWER = Reply(200, ((b"Content-Type", b"application/json"),), b"{}", 2, 1.0, 1.0)


async def test_a_record_can_be_looked_at_before_it_is_counted() -> None:
    """So that whoever sees that there is one more mismatch finds it."""
    tallies: dict[str, Tally] = {}
    counted: list[Mapping[Verdict, int]] = []
    values = {"live": {"url": "http://127.0.0.1:9001"}, "shadows": {"a": {"url": "http://127.0.0.1:9002"}}}
    built = generation.build(
        config.from_values(values),
        {},
        writer="h/0",
        append=lambda exchange, encode: encode(exchange),
        seen=lambda line, verdicts: counted.append(dict(tallies["a"].verdicts)),
        tallies=tallies,
        now=0.0,
    )
    built.plan.append(Exchange(REQUEST, ANSWER, {"a": ANSWER}))
    assert counted == [{}]
    assert tallies["a"].verdicts == {Verdict.MATCH: 1}
