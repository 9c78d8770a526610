"""Figures as people read them: shares, points, milliseconds, counts."""

from typing import Final

_MANY_TIMES: Final = 10
_PROMPT_LENGTH: Final = "@prompt_length"
_MODEL: Final = "/model"


def percent(share: float | None) -> str:
    """A share as per cent, with a digit more where it is near nothing or everything."""
    if share is None:
        return "–"
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    digits = 1 if 0.01 <= share <= 0.99 else 2
    text = f"{share * 100:.{digits}f}"
    if 0.99 < share < 1 and float(text) == 100:
        return "> 99.99 %"
    if 0 < share < 0.00005:
        return "< 0.01 %"
    return f"{text.removesuffix('.00').removesuffix('.0')} %"


def points(difference: float) -> str:
    """A difference of two shares, in points of a hundred, without a sign."""
    return f"{number(abs(difference) * 100)} point{'' if round(abs(difference) * 100, 6) == 1 else 's'}"


def number(value: float) -> str:
    """A number for reading: four digits, no trailing zeros."""
    text = f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.3e}"
    return text if "e" in text else f"{value:,.0f}" if abs(value) >= 1000 else text


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def change(ratio: float) -> str:
    """A ratio as the change that it is: 1.2 is +20 %; a great one as so many times."""
    if ratio >= _MANY_TIMES:
        return f"{ratio:,.0f} times"
    return f"{(ratio - 1) * 100:+.0f} %"


def requests(count: int) -> str:
    return f"{count:,} request{'' if count == 1 else 's'}"


def about(count: int) -> str:
    """A count that is only an estimate, to two digits."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"


def part_name(path: str, value: str) -> str:
    """Which part of the requests it is, by a field and its value."""
    if path == _PROMPT_LENGTH:
        return f"prompt length {value} characters"
    return f"model = {value}" if path == _MODEL else f"{path} {value}"


def where_part(path: str, value: str) -> str:
    """The same within a sentence."""
    if path == _PROMPT_LENGTH:
        return f"where the prompt has {value} characters"
    return f"where {field_name(path)} is {value}"


def field_name(path: str) -> str:
    """What a part of the requests is taken by."""
    return {_PROMPT_LENGTH: "characters of the prompt", _MODEL: "model"}.get(path, path)


def about_time(seconds: float) -> str:
    """A length of time in its largest whole unit."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = seconds / unit
        if count >= 1 and count == int(count):
            return f"{count:,.0f} {name}{'' if count == 1 else 's'}"
    return f"{number(seconds)} second{'' if seconds == 1 else 's'}"
