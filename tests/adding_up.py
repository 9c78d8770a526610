"""That summaries made apart add up to the one summary, and summaries of before a part of them was counted."""

import random
from typing import Any

from logs import report_json

from shadowproxy.compare.fold.summary import Summary, load, merge, save, summarise
from shadowproxy.compare.judge.rules import Rules
from shadowproxy.record import Record


def assert_adds_up(records: list[Record], source: random.Random) -> None:
    """Shuffle the records, cut them in two, save one part, and add both up in two ways."""
    whole = summarise(records, Rules())
    source.shuffle(records)
    cut = source.randrange(len(records))
    one, other = summarise(records[:cut], Rules()), load(save(summarise(records[cut:], Rules())))
    total = merge(other, one)
    absorbed = Summary()
    for part in (one, other):
        absorbed.absorb(part)
    assert save(total) == save(absorbed) == save(whole)
    assert report_json(total) == report_json(whole)


def without(value: Any, *names: str) -> Any:
    """A summary's JSON without the parts of these names."""
    if isinstance(value, dict):
        return {key: without(each, *names) for key, each in value.items() if key not in names}
    return value
