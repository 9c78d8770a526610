"""Whether a value follows a JSON Schema that a caller sent: by the package jsonschema, if it is installed.

Callers choose the schemas, so they are bounded:

- a schema has at most MOST_BYTES as JSON, and following it takes at most STEPS: few lines can ask for 2^40 steps;
- nothing is fetched: a `$ref` to another document makes a schema unusable;
- regular expressions are not tried, since one of them can take hours: `pattern`, `patternProperties`, and what depends
  on the latter count as followed. So do `format`, `unevaluatedProperties` and `unevaluatedItems`. Within a keyword for
  which that would turn the result round, such as `not`, they make a schema unusable.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, Literal

import orjson

MOST_BYTES: Final = 1 << 16
STEPS: Final = 100_000

Result = Literal["valid", "invalid", "no package", "too large", "unusable schema", "too costly", "needs a pattern"]
"""`valid` and `invalid`; the others say why it could not be checked."""

_UNTRIED: Final = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems")
_EITHER_WAY: Final = ("not", "if", "oneOf", "contains")
"""Keywords that may fail because something within them is followed."""

_MOST_KNOWN: Final = 128  # schemas that are remembered


class _TooCostly(Exception):
    """A schema asks for more steps than it may take."""


class _Untried(Exception):
    """Whether a value follows the schema depends on a keyword that is not tried."""


class _Steps:
    """How many steps are left of following one schema, and within how many keywords that may fail either way."""

    left: int = 0
    within: int = 0

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooCostly


_steps: Final = _Steps()


def follows(value: Any, schema: Any) -> Result:
    """Whether a value follows a schema. Never raises, whatever both are."""
    try:
        raw = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError):  # nested too deeply, half a pair of surrogates, an integer of over 64 bits
        return "unusable schema"
    if len(raw) > MOST_BYTES:
        return "too large"
    if _classes() is None:
        return "no package"
    _steps.left, _steps.within = STEPS, 0
    try:
        validator = _validator(raw)
        return "valid" if next(validator.iter_errors(value), None) is None else "invalid"
    except (_TooCostly, RecursionError):
        return "too costly"
    except _Untried:
        return "needs a pattern"
    except _errors():
        return "unusable schema"


@lru_cache(maxsize=_MOST_KNOWN)
def _validator(raw: bytes) -> Any:
    """What looks at values by a schema, with the package."""
    made = _classes()
    assert made is not None
    schema = orjson.loads(raw)
    draft = schema.get("$schema") if isinstance(schema, dict) else None
    older = isinstance(draft, str) and any(name in draft for name in ("draft-07", "draft-06", "draft-04"))
    registry = import_module("referencing").Registry()  # without it jsonschema itself would fetch a `$ref`
    return made[older](schema, registry=registry)


@lru_cache(maxsize=1)
def _classes() -> tuple[Any, Any] | None:
    """The package's validators of the drafts 2020-12 and 7, which spend steps; None if it is not installed."""
    try:
        package = import_module("jsonschema")
    except ImportError:
        return None
    return _bounded_class(package, "Draft202012Validator"), _bounded_class(package, "Draft7Validator")


def _bounded_class(package: Any, name: str) -> Any:
    plain = getattr(package, name)
    return package.validators.extend(plain, {each: _bounded(each, check) for each, check in plain.VALIDATORS.items()})


@lru_cache(maxsize=1)
def _errors() -> tuple[type[Exception], ...]:
    """The exceptions of validators for an invalid schema. Validating it first by its meta-schema would take longer."""
    unknown = import_module("jsonschema").exceptions.UnknownType
    missing = import_module("referencing").exceptions.Unresolvable
    return unknown, missing, TypeError, AttributeError, ValueError, LookupError, ArithmeticError


Check = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


def _bounded(name: str, check: Check) -> Check:
    """One keyword's check, which spends steps by the sizes of the value and of what the keyword says."""

    def bounded(validator: Any, said: Any, value: Any, schema: Any) -> Iterator[Any]:
        size = _size(value)
        _steps.spend(1 + size + _size(said))
        if name in _UNTRIED or (name == "additionalProperties" and "patternProperties" in schema):
            if _steps.within:
                raise _Untried
            return
        if name == "uniqueItems":
            _steps.spend(size * size // 16)  # each with each, if they cannot be sorted
        either = name in _EITHER_WAY
        _steps.within += either
        try:
            yield from check(validator, said, value, schema) or ()
        finally:
            _steps.within -= either

    return bounded


def _size(value: Any) -> int:
    return len(value) if type(value) is dict or type(value) is list else 0
