"""What both arms say at one place, as labels are compared with it."""

from collections.abc import Sequence
from typing import NamedTuple

from shadowproxy.compare.fold.gist import Gist, gist_of
from shadowproxy.compare.fold.places import PlaceValues


class PlaceGists(NamedTuple):
    """The gists of both arms' values at one place; `shadow` is None if it failed."""

    key: str
    live: Sequence[Gist]
    shadow: Sequence[Gist] | None


def gists_at(look: PlaceValues) -> PlaceGists:
    live = list(map(gist_of, look.live))
    return PlaceGists(look.key, live, None if look.shadow is None else list(map(gist_of, look.shadow)))
