"""Reads single values: each function takes what YAML gave, and raises ValueError with one phrase on what is wrong.

The phrases follow the key's name, as in `drain: is not a duration`. They never quote a value that may be a secret.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import orjson

from shadowproxy.config import source
from shadowproxy.config.source import FromEnvironment
from shadowproxy.stateful import KINDS, read_into, read_learn
from shadowproxy.stores.addresses import AddressError, address_of

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 36525 * 86400.0  # 100 years: threads wait for 292 at most (threading.TIMEOUT_MAX)
SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_MOST = 1 << 63
_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[A-Za-z]+)")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")  # RFC 9110 section 5.5: no controls, CR and LF above all
_SHADOW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*)*")  # RFC 6901 section 3

REPEATABLE = ("GET", "HEAD", "POST", "OPTIONS")
"""Methods that are mirrored by default. GET, HEAD and OPTIONS change nothing (RFC 9110 section 9.2.1), and models are
called with POST; the others change or remove something, and a shadow would do it again."""

LIVE = "live"
RESERVED_NAMES = frozenset({LIVE, "control"})
"""Records and metrics use these names themselves, so no shadow may have them."""


def _plain(value: object) -> Any:
    """Text from the environment, read as YAML would read it in its place."""
    return source.retype(value) if isinstance(value, FromEnvironment) else value


def _quantity(value: object, units: Mapping[str, float], what: str, example: str) -> float:
    value = _plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found["unit"] not in units:
        raise ValueError(f"is not {what}: write {example}, or a plain number")
    return float(found["number"]) * units[found["unit"]]


def read_seconds(value: object) -> float:
    seconds = _quantity(value, _DURATION_UNITS, "a duration", "250ms, 30s, 5m, 12h or 7d")
    if seconds > _LONGEST:
        raise ValueError("is longer than 100 years")
    return float(max(seconds, -1.0))  # a whole number may be too far below 0 for a float


def read_bytes(value: object) -> int:
    size = _quantity(value, SIZE_UNITS, "a size", "256KiB, 5MB or 10GiB")
    if size >= _MOST:
        raise ValueError("is more than 64 bits can hold")
    size = max(size, -1)  # a whole number may be too far below 0 for a float
    if not math.isfinite(size) or size != int(size):
        raise ValueError("is not a whole number of bytes")
    return int(size)


def read_memory(value: object) -> int | str:
    """A size, or `auto`: the program's share of what its container allows."""
    if _plain(value) == "auto":
        return "auto"
    try:
        count = read_bytes(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from error
    if count <= 0:
        raise ValueError("must be greater than 0, or auto")
    return count


def written_memory(value: int | str) -> str | int:
    """The same as in a file."""
    return value if isinstance(value, str) else size(value)


def read_number(value: object) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


def read_range(value: object) -> object:
    """A share, or the lowest and the highest answer."""
    if not isinstance(value, list | tuple):
        share = read_number(value)
        if not 0 <= share <= 1:
            raise ValueError("must be a share from 0 to 1, or a list of the lowest and the highest answer")
        return share
    if len(value) != 2:
        raise ValueError("must be a share, or a list of the lowest and the highest answer")
    low, high = map(read_number, value)
    if not -math.inf < low <= high < math.inf:
        raise ValueError("must have the lower number first")
    return low, high


def read_count(value: object) -> int:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    if abs(value) >= _MOST:
        raise ValueError("is more than 64 bits can hold")
    return value


def read_flag(value: object) -> bool:
    value = _plain(value)
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def read_word(value: object) -> object:
    # A Literal takes no subclass of str.
    return str(value) if isinstance(value, FromEnvironment) else value


# Texts are kept unchanged, by a PlainValidator: `shown` must see whether they came from the environment.
# Addresses, URLs, names and paths of files are shown anyway: an operator must see them.


def read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    return value


def read_salt(value: object) -> str:
    text = read_text(value)
    if len(text.encode("utf-8", "surrogatepass")) > 64:
        raise ValueError("is longer than 64 bytes")  # the hash takes no longer key (RFC 7693 section 2.1)
    return text


def read_shadow_name(value: object) -> str:
    if not isinstance(value, str) or not _SHADOW_NAME.fullmatch(value):
        raise ValueError(
            "is not a name for a shadow: letters, digits, dots, - and _, at most 63, a letter or digit first"
        )
    if value.lower() in RESERVED_NAMES:
        raise ValueError("cannot be a shadow's name: records have a place of that name already")
    return value


def read_nullable(value: object) -> object:
    return None if _plain(value) is None else value


def read_json(value: object) -> Any:
    found = _any_json(value)
    try:
        orjson.dumps(found, default=float)
    except TypeError as error:
        raise ValueError(f"cannot be sent as JSON: {error}") from None
    return found


def _any_json(value: object) -> Any:
    match value:
        case dict():
            return {key: _any_json(item) for key, item in value.items()}
        case list():
            return [_any_json(item) for item in value]
        case _:
            plain = _plain(value)
            if isinstance(plain, float) and not math.isfinite(plain):
                raise ValueError("cannot be sent as JSON: it has no NaN and no infinity")
            return _marked(plain, value)


def _marked(plain: Any, value: object) -> Any:
    """`plain`, marked if `value` came from the environment, except true, false and null, which hide little."""
    if not isinstance(value, FromEnvironment) or isinstance(plain, bool):
        return plain
    match plain:
        case int():
            return source.IntFromEnvironment(plain)
        case float():
            return source.FloatFromEnvironment(plain)
        case _:
            return plain


def read_field_name(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("is not the name of a header field")
    if "*" in value:
        raise ValueError("has a * in it, which is no wildcard here: write each name out")
    return str(value)


def read_field_pattern(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("is not the name of a header field: one name, without a colon, with * for any characters")
    return value


def read_parameter_pattern(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    if not value or value != value.strip() or _CONTROL.search(value):
        raise ValueError("is not the name of a parameter: it is empty, or has blanks around it or a control character")
    if re.search(r"[=&;?]", value):
        raise ValueError("is not the name of a parameter: one name, without = & ; ?, with * for any characters")
    if unquote_plus(value) != value:
        raise ValueError("is percent-encoded: names are looked at decoded, as in user[id]")
    return value


def read_field_value(value: object) -> str:
    # Kept unchanged: `shown` must see whether it came from the environment. Never quoted: it may be a credential.
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    if not _FIELD_VALUE.fullmatch(value) or value != value.strip(" \t"):
        raise ValueError("has a line break, a control character, or blanks around it")
    return value


def _any_pointer(value: object) -> str:
    if not isinstance(value, str) or not _POINTER.fullmatch(value):
        raise ValueError('is not a JSON pointer: write "/a/b", with ~1 for a slash and ~0 for a tilde in a name')
    if _CONTROL.search(value):
        raise ValueError("is not a JSON pointer that is meant: it has a line break or another control character")
    return value


def read_pointer(value: object) -> str:
    pointer = _any_pointer(value)
    if "*" in pointer:
        raise ValueError("has a * in it, which is no wildcard here: write each place out")
    return pointer


def read_pointer_pattern(value: object) -> str:
    pattern = _any_pointer(value)
    if any("*" in name and name not in ("*", "**") for name in pattern.split("/")):
        raise ValueError(
            'has a * within a name: * stands for a whole one, as in "/items/*/name", and ** for any number'
        )
    return pattern


def read_field_pointer(value: object) -> str:
    pattern = read_pointer_pattern(value)
    if "**" in pattern.split("/"):
        raise ValueError("has ** in it, which cannot stand here: write each step, * for any one name or index")
    return pattern


def read_prediction(value: object) -> str | dict[str, str]:
    """One place for all endpoints, or a place for each by its name."""
    if not isinstance(value, Mapping):
        return read_field_pointer(value)
    places: dict[str, str] = {}
    for name, pointer in value.items():
        try:
            if name != LIVE:
                read_shadow_name(name)
            places[str(name)] = read_field_pointer(pointer)
        except ValueError as fault:
            raise ValueError(f"{name}: {fault}") from None
    if LIVE not in places:
        raise ValueError("names no place in live's answers: {live: /predictions, NAME: /outputs/0/data}")
    return places


def read_path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[\x21-\x7e]*", value) or "?" in value or "#" in value:
        raise ValueError("must be a path as it is on the wire: a slash first, percent-encoded, no query")
    if re.search(r"[*{}]", value):
        raise ValueError("has * or braces in it, which are no wildcard here: write each path out")
    return value


def read_path_glob(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("/", "*")):
        raise ValueError('must be a glob over the path: a slash or * first, as in "/v1/*"')
    if re.search(r"[\x00-\x20\x7f#]", value):
        raise ValueError("fits no path: a path on the wire has no space, # or control character")
    if re.search(r"\?[^/]*=", value):
        raise ValueError("fits no path: the query is no part of it, and ? stands for any one character")
    if re.search(r"\{[^{}]*,[^{}]*\}", value):
        raise ValueError("has braces, which stand for themselves: write each glob of its own")
    return _closed_glob(value)


def read_header_glob(value: object) -> str:
    return _closed_glob(read_field_value(value))


def _closed_glob(glob: str) -> str:
    # To fnmatch, a [ without its ] is a plain character, and a ] that comes first is one of the listed characters.
    if "[" in re.sub(r"\[!?+\]?+[^\]]*\]", "", glob):
        raise ValueError("has a [ without its ]: [ab] stands for one of these characters, [[] for the bracket itself")
    return glob


def read_method(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value) or value != value.upper():
        raise ValueError("is not a method: write it in capitals, as in POST")
    if "*" in value and value != "*":
        raise ValueError("has a * in it, which is no wildcard here: only a * alone stands for every method")
    return value


def read_methods(given: tuple[str, ...]) -> tuple[str, ...]:
    return given or REPEATABLE


def read_json_glob(value: object) -> str:
    """A glob over a value's text. A YAML number, true, false or null becomes its JSON text."""
    if isinstance(value, str):
        return _closed_glob(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    raise ValueError("must be a glob over the value's text, or a number, true, false or null")


def read_sampling_key(value: object) -> str:
    kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    sound = {
        "request_id": value == "request_id",
        "header": bool(_TOKEN.fullmatch(rest)),
        "cookie": bool(_TOKEN.fullmatch(rest)),
        "json": rest.startswith("/") and bool(_POINTER.fullmatch(rest)),
    }
    if not isinstance(value, str) or not sound.get(kind, False):
        raise ValueError("must be request_id, header:NAME, cookie:NAME or json:/pointer")
    if "*" in rest:
        raise ValueError("must be request_id, header:NAME, cookie:NAME or json:/pointer, where * is no wildcard")
    return value


def read_file(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("must be the path of a file")
    return Path(value)


def read_parameter_name(value: object) -> str:
    name = read_parameter_pattern(value)
    if "*" in name:
        raise ValueError("has a * in it, which is no wildcard here: write each name out")
    return str(name)


def read_readable_file(value: object) -> Path:
    path = read_file(value)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def read_log_path(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('must be a directory, or "-" for standard output')
    return str(value)


def read_store_folder(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be an address in an object store, such as s3://bucket/folder/dt={date}/")
    try:
        address = address_of(value)
    except AddressError as error:
        if "://" in value and not value.lower().startswith("file:"):
            raise ValueError(f"cannot be used: {error}") from None
        raise ValueError("must be a folder in an object store: s3://, gs:// or az://") from None
    if address.kind == "http" or address.is_pattern or _CONTROL.search(value):
        raise ValueError("must be a folder in an object store: s3://, gs:// or az://, without *, ? and [")
    rest = re.sub(r"\{(date|hour|host)\}", "", value)
    if "{" in rest or "}" in rest:
        raise ValueError("may name {date}, {hour} and {host} in braces, and nothing else")
    return value if value.endswith("/") else f"{value}/"


def read_token(value: object) -> str:
    # Kept unchanged, like a field's value, and never quoted.
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    if not _BEARER.fullmatch(value):
        raise ValueError("must be letters, digits and -._~+/ alone, as `openssl rand -hex 32` makes them")
    return value


def duration(seconds: float) -> str | float:
    """A duration as in a file, in the largest unit that is exact."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = round(seconds / _DURATION_UNITS[unit])
        if count and float(count) * _DURATION_UNITS[unit] == seconds:
            return f"{count}{unit}"
    return seconds


def size(count: int) -> str | int:
    """A size as in a file, in the largest binary unit that is exact."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % SIZE_UNITS[unit] == 0:
            return f"{count // SIZE_UNITS[unit]}{unit}"
    return count


def read_tolerance(value: object) -> object:
    value = _plain(value)
    return {"abs": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def read_state(value: object) -> object:
    """`auto` is a section in which everything is as by default."""
    value = _plain(value)
    if value is True or (isinstance(value, str) and value != "auto"):
        raise ValueError("must be auto, or a mapping with the places")
    return {} if value == "auto" else value


def read_learnt_place(value: object) -> str:
    place = read_text(_plain(value))
    read_learn(place)
    return place


def read_place_into(value: object) -> str:
    place = read_text(_plain(value))
    if place not in KINDS:
        read_into(place)
    return place
