"""What a live process knows of the IDs of one stateful shadow: its places, and its pairs."""

from collections.abc import Callable
from time import monotonic

from shadowproxy.exchange import Request
from shadowproxy.serve.state.pairs import Pairs
from shadowproxy.serve.state.settings import Places, StateSettings
from shadowproxy.serve.state.translating import Found, find
from shadowproxy.serve.state.watching import Watch


class ShadowState:
    """One shadow's map and how it is used."""

    __slots__ = ("pairs", "places", "settings")

    def __init__(self, settings: StateSettings, clock: Callable[[], float] = monotonic) -> None:
        self.settings = settings
        self.places = Places(settings)
        self.pairs = Pairs(settings.pairs, settings.age, clock, sessions=self.places.sessions)

    def __repr__(self) -> str:
        return f"<ShadowState {self.pairs.counts}>"

    def find(self, request: Request) -> Found:
        """Live's IDs in a request."""
        return find(self.places, self.pairs, request)

    def watch(self, request: Request) -> Watch:
        """Begin to learn from this exchange."""
        return Watch(self.places, self.pairs, request.record, request.method, request.target)
