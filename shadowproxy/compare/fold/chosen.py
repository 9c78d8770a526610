"""Which of the places of an exchange are counted."""

from typing import Final

from shadowproxy.compare.fold.places import PlaceValues, static_score
from shadowproxy.compare.fold.reading import Reading

_WELL_NAMED: Final = 3  # places, beside which others need not be counted
_MOST_REMEMBERED: Final = 512  # sets of places whose choice is cached
_LONGEST_REMEMBERED: Final = 4000  # characters of their keys
_GOOD_NAME: Final = 20  # the static score of a name that speaks for an answer


def counted_places(found: list[PlaceValues], reading: Reading) -> list[PlaceValues]:
    """The places of an exchange that are counted: all that were named; else those that no rule ignores.

    Beside three places that are named as answers are, a place named as an ID or a version would not be judged. So it
    is not counted either, in this exchange as in any other with the same places.
    """
    if reading.fields:
        return found
    keys = tuple([look.key for look in found])
    chosen = reading.chosen.get(keys)
    if chosen is None:
        chosen = _choose(found, reading)
        if sum(map(len, keys)) <= _LONGEST_REMEMBERED:
            if len(reading.chosen) >= _MOST_REMEMBERED:
                reading.chosen.clear()
            reading.chosen[keys] = chosen
    return found if len(chosen) == len(found) else [found[at] for at in chosen]


def _choose(found: list[PlaceValues], reading: Reading) -> tuple[int, ...]:
    chosen: list[int] = []
    for at, look in enumerate(found):
        if reading.at(look.live_place).ignored:
            continue
        if look.shadow_place != look.live_place and reading.at(look.shadow_place).ignored:
            continue
        enough = len(chosen) >= _WELL_NAMED and static_score(found[chosen[_WELL_NAMED - 1]].live_place) >= _GOOD_NAME
        if enough and static_score(look.live_place) < 0:
            continue
        chosen.append(at)
    return tuple(chosen)
