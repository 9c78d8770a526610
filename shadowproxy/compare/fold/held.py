"""What both arms say at one place, as labels are held to it."""

from collections.abc import Sequence
from typing import NamedTuple

from shadowproxy.compare.fold.gist import Gist, gist_of
from shadowproxy.compare.fold.places import Look


class Held(NamedTuple):
    """The values of both arms at the places of a field; `shadow` is None where it failed."""

    key: str
    live: Sequence[Gist]
    shadow: Sequence[Gist] | None


def held(look: Look) -> Held:
    live = list(map(gist_of, look.live))
    return Held(look.key, live, None if look.shadow is None else list(map(gist_of, look.shadow)))
