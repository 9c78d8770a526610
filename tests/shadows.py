"""A shadow as the configuration describes one, and a request for it: tests replace what they are about."""

from shadowproxy.exchange import Request
from shadowproxy.serve.mirror.shadow import ShadowSettings
from shadowproxy.serve.policy.rewrite import Rewrite
from shadowproxy.serve.policy.sampling import Match

SHADOW = ShadowSettings(
    name="s",
    percent=100.0,
    match=Match.of([], [], {}),
    rewrite=Rewrite.of({}, {}),
    timeout=10.0,
    in_flight=2,
    lane=3,
    breaker_failures=3,
    breaker_pause=30.0,
)
REQUEST = Request("r", "record", 0, "POST", b"/p", ((b"Host", b"h"), (b"Content-Length", b"2")), b"hi", 2)
