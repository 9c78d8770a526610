"""Which JSON values only say that something failed. failed.py has the whole rule as a table."""

import re
from collections.abc import Mapping
from typing import Any, Final

_ERRORS: Final = (
    "error",
    "errors",
    "errorMessage",
    "error_message",
    "error_msg",
    "errorCode",
    "error_code",
    "error_class",
    "exception",
    "traceback",
    "stack_trace",
    "stackTrace",
)
"""Members whose name says error. An `error_code` counts if it is text; a number there is a code, often 0."""

_NO_ERROR: Final = frozenset({"", "none", "null", "nil", "no", "false", "ok", "0", "success", "no error", "n/a"})

_ABOUT: Final = re.compile(
    r"(?i)(?:\w{0,40}_)?(?:request|trace|span|correlation|session|conversation|response|event|run|job|transaction)[_-]?id\Z"
    r"|(?:id|uuid|model|model_?name|model_?version|version|object|created|created_at|time|timestamp|date|took|duration"
    r"|latency|\w{0,40}_(?:ms|time|seconds)|retry_?after|type|code|status|status_?code|status_?text|success|ok|message"
    r"|msg|detail|details|reason|param|hint|path|url|uri|method|instance|title|name|description|info|jsonrpc|meta"
    r"|metadata|usage|warnings?|help|documentation|done|isError|is_error|content_?type)\Z"
    r"|\w{0,40}(?:error|exception|stack_?trace|traceback)\w{0,40}\Z"
)
"""Names of members that describe the request, the server or the failure, and are no answer."""

_FAILED_STATUS: Final = re.compile(r"(?i)(?:error|fail(?:ed|ure)?|exception|fatal|crashed|internal_server_error)\Z")
_WORDS: Final = ("message", "msg", "detail", "details", "reason", "info", "description")


def error_in(value: Any, depth: int = 0) -> Any:
    """What a value says about its failure if it says only that it failed; None if it is an answer.

    A list says so if all its elements do.
    """
    if isinstance(value, list):
        found = [error_in(each, depth + 1) for each in value[:_MOST]] if depth < _DEEPEST else []
        return found[0] if found and all(each is not None for each in found) else None
    if not isinstance(value, dict) or _SIGNS.isdisjoint(value):
        return None
    if _only_reports_failure(value):
        return value
    return None


_MOST: Final = 1000  # elements of a list that are looked at
_DEEPEST: Final = 16  # lists within lists
_MOST_MEMBERS: Final = 100  # of an object: one that only reports a failure has fewer
_SIGNS: Final = frozenset({*_ERRORS, "status", "success", "ok", "code", "detail", "isError", "result", "type"})


def says_error(error: Any, depth: int = 0) -> bool:
    """Whether the value of a member named `error` reports a failure: text, `true`, or an object or array of these.

    Null, "", `false`, an empty array or object and "none" do not; nor does a number: a prediction's error is one.
    """
    if isinstance(error, str):
        return error.strip().lower() not in _NO_ERROR
    if isinstance(error, bool):
        return error
    if isinstance(error, list):
        return depth < _DEEPEST and any(says_error(each, depth + 1) for each in error[:_MOST])
    if isinstance(error, dict):
        return any(isinstance(each, str | dict | list) and bool(each) for each in error.values()) or "code" in error
    return False


def _only_reports_failure(value: Mapping[str, Any]) -> bool:
    result = value.get("result")
    if isinstance(result, dict) and result.get("isError") is True:  # a tool's failure in the Model Context Protocol
        return True
    if len(value) > _MOST_MEMBERS or any(_is_answer(name, each) for name, each in value.items()):
        return False
    if value.get("type") == "error" or value.get("isError") is True:
        return True
    if any(says_error(value.get(name)) for name in _ERRORS):
        return True
    worded = any(isinstance(value.get(name), str) and value[name] for name in _WORDS)
    return _status_says_so(value, worded) or _is_refused_input(value.get("detail"))


def _status_says_so(value: Mapping[str, Any], worded: bool) -> bool:
    status = value.get("status")
    if isinstance(status, dict):  # Seldon: {"status": {"code": -1, "info": …, "reason": …, "status": "FAILURE"}}
        return isinstance(status.get("status"), str) and _FAILED_STATUS.match(status["status"]) is not None
    if not worded and not isinstance(value.get("error"), int):
        return False
    if isinstance(status, str) and _FAILED_STATUS.match(status):
        return True
    if any(value.get(name) is False for name in ("success", "ok")) or value.get("error") is True:
        return True
    codes = [value.get(name) for name in ("code", "status", "status_code", "statusCode", "error", "error_code")]
    if any(_lies_in(code, 400, 599) for code in codes):
        return True
    return "details" in value and _lies_in(value.get("code"), 1, 16)  # a gRPC status as JSON, as gateways write it


def _lies_in(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_refused_input(detail: Any) -> bool:
    """Whether this is FastAPI's list of what was wrong with the input."""
    return (
        isinstance(detail, list)
        and bool(detail)
        and all(isinstance(each, dict) and "msg" in each and "loc" in each for each in detail[:_MOST])
    )


def _is_answer(name: str, value: Any) -> bool:
    """Whether a member holds an answer: it is not empty, and its name is none of `_ABOUT`."""
    if value is None or (isinstance(value, str | list | dict) and not value):
        return False
    return len(name) > 60 or _ABOUT.match(name) is None
