"""Where labels come from as they arrive: files, objects in stores, or a query to a database.

A query goes to any driver of Python's database interface (PEP 249): a module with `connect` and `paramstyle`. It is
written with `:since`, which stands for the newest value that an earlier look saw in its column `since` or, without one,
in `at`; it is replaced by what the driver's paramstyle asks for. What connecting needs may name variables of the
environment, `${NAME}`, and no part of it is ever shown.
"""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from shadowproxy.compare.fold.labels import Known, LabelError, add_row, columns_for, known_labels

BEGINNING: Final = "1970-01-01T00:00:00Z"
"""What `:since` stands for at the first look."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z")
_AT_ONCE: Final = 1000
_SHORTEST_SECRET: Final = 4
_TOKENS: Final = re.compile(
    r"'(?:[^']|'')*'"  # a literal
    r'|"(?:[^"]|"")*"'  # a quoted name
    r"|--[^\n]*|/\*.*?\*/"  # comments
    r"|::"  # PostgreSQL's cast
    r"|:since\b"
    r"|%",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Files:
    """Files and objects with labels, which are read again at every look. `key` is the field that they are joined by."""

    paths: tuple[str, ...]
    key: str | None = None

    def labels(self, since: Any) -> tuple[dict[str, Known], Any]:
        """All labels in them, and `since` as it was. Raises LabelError."""
        found: dict[str, Known] = {}
        for path in self.paths:
            for each, known in known_labels(path, self.key).items():
                mine = found.setdefault(each, {})
                for row, (at, label) in known.items():
                    if row not in mine or at >= mine[row][0]:
                        mine[row] = at, label
        return found, since


@dataclass(frozen=True, slots=True)
class Query:
    """A query for labels.

    Attributes:
        driver: the module that connects.
        connection: what its `connect` is given: a text, or keywords.
        sql: the query, with `:since` where it asks for new labels alone.
        first: what `:since` stands for at the first look.
        key: the field of the requests that the labels are joined by, if not their IDs.
        secrets: texts that no message may hold.
    """

    driver: str
    connection: str | Mapping[str, Any] = field(repr=False)
    sql: str
    first: Any = BEGINNING
    key: str | None = None
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def labels(self, since: Any) -> tuple[dict[str, Known], Any]:
        """The labels that the query gives, and what `:since` then stands for, as JSON. Raises LabelError."""
        value = self.first if since is None else restored(since)
        found: dict[str, Known] = {}
        newest = None
        try:
            module = importlib.import_module(self.driver)
            sql, parameters = written_for(str(module.paramstyle), self.sql, value)
            with closing(_connected(module.connect, self.connection)) as connection:
                cursor = connection.cursor()
                if parameters is None:
                    cursor.execute(sql)
                else:
                    cursor.execute(sql, parameters)
                names = [str(column[0]).lower() for column in cursor.description or ()]
                at = names.index("since") if "since" in names else names.index("at") if "at" in names else None
                wanted = columns_for(self.key)
                if not set(names).intersection(wanted) or "label" not in names:
                    raise LabelError(f"--labels-query must give the columns {wanted[0]} and label; it gives {names}")
                for number, row in enumerate(_rows(cursor), 1):
                    add_row(found, f"--labels-query, row {number}", _plain(names, row), wanted)
                    if at is not None and row[at] is not None:
                        newest = row[at] if newest is None or row[at] > newest else newest
        except LabelError as error:
            raise LabelError(self._without_secrets(str(error))) from None
        except ImportError:
            raise LabelError(f"--labels-query needs the driver {self.driver}, which is not installed") from None
        except Exception as error:  # noqa: BLE001  # each driver has its own errors
            raise LabelError(f"--labels-query: {self._said(error)}") from None
        return found, since if newest is None else kept(newest)

    def _said(self, error: Exception) -> str:
        name = f"{self.driver}'s {type(error).__name__}"
        text = " ".join(str(error).split())
        return f"{name}: {text:.160}" if text and self._without_secrets(text) == text else name

    def _without_secrets(self, text: str) -> str:
        return "it cannot be used" if any(secret in text for secret in self.secrets) else text


def query_of(target: str, sql: str, first: str | None, key: str | None) -> Query:
    """The query that the options name: `DRIVER:CONNECTION`, where the connection is a text or a JSON object.

    Variables of the environment are put into texts. Raises ValueError, whose text shows none of them.
    """
    driver, colon, text = target.partition(":")
    if not colon or not _MODULE.match(driver):
        raise ValueError("--labels-query is written DRIVER:CONNECTION SQL, such as sqlite3:labels.db 'SELECT …'")
    secrets: set[str] = set()
    connection: str | Mapping[str, Any]
    if text.startswith("{"):
        try:
            keywords = orjson.loads(text)
        except ValueError:
            raise ValueError("--labels-query: what follows DRIVER: begins like JSON and is not valid JSON") from None
        connection = {name: _filled(value, secrets) for name, value in keywords.items()}
        secrets.update(str(value) for value in connection.values())
    else:
        connection = filled = _filled_text(text, secrets)
        if text != filled or "@" in filled:
            secrets.update((filled, *re.split(r"[\s;&?/@:=]+", filled)))
        secrets.update(re.findall(r"(?i)(?:password|pwd|token|secret)=([^\s;&]+)", filled))
    number = _number(first)
    return Query(
        driver=driver,
        connection=connection,
        sql=sql,
        first=BEGINNING if first is None else first if number is None else number,
        key=key,
        secrets=frozenset(each for each in secrets if len(each) >= _SHORTEST_SECRET),
    )


def written_for(paramstyle: str, sql: str, since: Any) -> tuple[str, Any]:
    """The query as a driver of this paramstyle takes it, and its parameters; None where it has no `:since`.

    Raises LabelError for a paramstyle that PEP 249 does not know.
    """
    marks = {"qmark": "?", "numeric": ":1", "named": ":since", "format": "%s", "pyformat": "%(since)s"}
    mark = marks.get(paramstyle)
    if mark is None:
        raise LabelError(f"--labels-query: the driver's paramstyle is {paramstyle!r:.20}, which PEP 249 does not have")
    times = sum(found[0] == ":since" for found in _TOKENS.finditer(sql))
    if not times:
        return sql, None
    doubled = paramstyle in ("format", "pyformat")

    def replaced(found: re.Match[str]) -> str:
        if found[0] == ":since":
            return mark
        return found[0].replace("%", "%%") if doubled else found[0]

    text = _TOKENS.sub(replaced, sql)
    if paramstyle in ("named", "pyformat"):
        return text, {"since": since}
    return text, [since] if paramstyle == "numeric" else [since] * times


def kept(value: Any) -> Any:
    """A value of a column as JSON, from which `restored` makes the same."""
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, int) and abs(value) >= 2**63:
        return {"decimal": str(value)}
    if isinstance(value, str | int | float):
        return value
    raise LabelError(f"--labels-query: its column since (or at) holds a {type(value).__name__}, which cannot be kept")


def restored(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    if kind == "decimal":
        return Decimal(text)
    return datetime.fromisoformat(text) if kind == "datetime" else date.fromisoformat(text)


def _plain(names: list[str], row: Any) -> Mapping[str, Any]:
    """A row by its columns, with the values that a file of labels could have."""
    return {name: _value(value) for name, value in zip(names, row, strict=True)}


def _value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, str | int | float | datetime | list | None):
        return value
    return str(value)  # a UUID, for one


def _rows(cursor: Any) -> Iterator[Any]:
    while rows := cursor.fetchmany(_AT_ONCE):
        yield from rows


def _connected(connect: Callable[..., Any], connection: str | Mapping[str, Any]) -> Any:
    return connect(connection) if isinstance(connection, str) else connect(**connection)


def _filled(value: Any, secrets: set[str]) -> Any:
    return _filled_text(value, secrets) if isinstance(value, str) else value


def _filled_text(text: str, secrets: set[str]) -> str:
    """A text with the variables of the environment in it. Raises ValueError for one that is not set."""

    def found(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise ValueError(f"--labels-query: {match[1]} is not set in the environment")
        secrets.add(value)
        return value

    return _VARIABLE.sub(found, text)


def _number(text: str | None) -> int | float | None:
    for kind in (int, float):
        with suppress(ValueError, TypeError):
            return kind(text)  # type: ignore[arg-type]
    return None
