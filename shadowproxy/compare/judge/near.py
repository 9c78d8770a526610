"""When two numbers are equal though they are not the same, and which places hold numbers of answers.

One model in two runtimes (scikit-learn 1.9.1 beside onnxruntime 1.32) is up to 5e-7 apart, and 14-71 % of its rows are
beyond 1 part in a million. So numbers of answers are equal within 1 part in 100,000, and numbers from 0 to 1, which may
be probabilities, within 1e-6: those near 0 differ relatively by much. All other numbers are amounts that are passed on.
"""

import math
import re
from typing import Any, Final

RELATIVE: Final = 1e-5
ABSOLUTE: Final = 1e-6

_LEAST: Final = 1e-9  # as all floats

ANSWER_NAME: Final = re.compile(
    r"(?i)predict|label|class|score|prob|output|result|answer|content|text|categor|decision|rank|recommend|value|price"
    r"|embedding|response"
)
"""In the names of members that hold answers."""

OTHER_NAME: Final = re.compile(
    r"(?i)(?:\A|_)(?:id|ids|uuid|model|version|trace|span|request|created|object|usage|tokens|time|timestamp|ms|latency"
    r"|duration|took|elapsed|fingerprint|role|index|shape|datatype|meta|metadata)(?:\Z|_)|(?:name|tokens)\Z"
)
"""In those of members that hold none."""


def names_answer(key: str, *, above: bool) -> bool:
    """Whether a member of this name holds an answer, or a part of one: `above` is whether what holds it does."""
    return (above or ANSWER_NAME.search(key) is not None) and OTHER_NAME.search(key) is None


def near_floats(one: float, other: float, relative: float) -> bool:
    """Whether two numbers of answers are equal; `relative` is at least `RELATIVE`. Not for NaN and infinity."""
    gap = abs(one - other)
    if gap <= relative * max(abs(one), abs(other)) or gap <= _LEAST:
        return True
    return gap <= ABSOLUTE and min(one, other) >= -ABSOLUTE and max(one, other) <= 1 + ABSOLUTE


def near(one: Any, other: Any, relative: float = RELATIVE) -> bool:
    """The same for numbers of any type: integers of 309 digits have no float, and are equal to none."""
    try:
        left, right = float(one), float(other)
    except OverflowError:
        return False
    return math.isfinite(left) and math.isfinite(right) and near_floats(left, right, relative)
