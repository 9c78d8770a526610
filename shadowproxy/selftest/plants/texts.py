"""Texts and calls of tools that are not what they should be."""

import re
from typing import Any, Final

from shadowproxy.answers import answer_value
from shadowproxy.compare.fold.places import extract
from shadowproxy.selftest.plants.edit import all_rows, each_row
from shadowproxy.selftest.plants.fault import Case, Fault, Known, of_kinds

CALL: Final = re.compile(r"(?s)\A([\w.-]{1,200})\((.*)\)\Z")
"""A call of a tool, as the judged text has it."""

_REFUSAL: Final = "I'm sorry, but I can't help with that."


def _truncated(case: Case, value: Any) -> Any:
    return value[: len(value) // 2] if isinstance(value, str) else value


def _of_another(case: Case, rows: list[Any]) -> list[Any] | None:
    others = extract(answer_value(case.another), case.known.place or "")
    return others[: len(rows)] if len(others) >= len(rows) else None


def _another_tool(case: Case, value: Any) -> Any:
    found = CALL.match(value) if isinstance(value, str) else None
    return value if found is None else f"{found[1]}_legacy({found[2]})"


def _other_arguments(case: Case, value: Any) -> Any:
    found = CALL.match(value) if isinstance(value, str) else None
    return value if found is None else f"{found[1]}({{}})"


def _calls(known: Known) -> bool:
    return known.calls


_text = of_kinds("text")

FAULTS: Final = (
    Fault("the text is cut off in its middle", "unexplained", _text, each_row(_truncated)),
    Fault("a refusal in place of the text", "unexplained", _text, each_row(lambda case, value: _REFUSAL)),
    Fault("the text of another request", "related", _text, all_rows(_of_another)),
    Fault("another tool is called", "unexplained", _calls, each_row(_another_tool)),
    Fault("the tool is called with other arguments", "unexplained", _calls, each_row(_other_arguments)),
)
