"""`raise_on_mismatch`, for tests: live's function and the candidate are called here, and their results compared."""

import asyncio
import contextvars
import functools
import inspect
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from shadowproxy.answers.texts import json_in
from shadowproxy.budget import Budget
from shadowproxy.call_json import failure_of, written
from shadowproxy.compare.judge.configured import rules_in
from shadowproxy.compare.judge.verdict import judge_values
from shadowproxy.compare.judge.visible import sides
from shadowproxy.config import Compare
from shadowproxy.exchange import Verdict
from shadowproxy.incode.errors import Mismatch, ShadowError
from shadowproxy.incode.functions import is_async, path_of, takes_self
from shadowproxy.incode.pickling import Unpicklable, arguments_pickle

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 1 << 30
"""Bytes of a call's arguments."""


def checked(function: F, candidate: Callable[..., Any], name: str, compare: Compare) -> F:
    """`function`, which calls the candidate too and raises Mismatch if its result differs from live's.

    What live raises is raised, if the candidate raises an exception of the same type.
    """
    check = _Check(function, candidate, name, compare)
    if is_async(function):

        @functools.wraps(function)
        async def awaiting(*arguments: Any, **named: Any) -> Any:
            copied = check.copy(arguments, named)
            result, error = None, None
            try:
                result = await function(*arguments, **named)
            except Exception as raised:  # noqa: BLE001 - it is raised below
                error = raised
            try:
                found = check.call(copied)
                check.compare(result, error, await found if inspect.isawaitable(found) else found, None)
            except Mismatch:
                raise
            except Exception as raised:  # noqa: BLE001 - the candidate's
                check.compare(result, error, None, raised)
            if error is not None:
                raise error
            return result

        return awaiting  # type: ignore[return-value]

    @functools.wraps(function)
    def calling(*arguments: Any, **named: Any) -> Any:
        copied = check.copy(arguments, named)
        result, error = None, None
        try:
            result = function(*arguments, **named)
        except Exception as raised:  # noqa: BLE001 - it is raised below
            error = raised
        try:
            found = check.call(copied)
            check.compare(result, error, _result_of(found) if inspect.isawaitable(found) else found, None)
        except Mismatch:
            raise
        except Exception as raised:  # noqa: BLE001 - the candidate's
            check.compare(result, error, None, raised)
        if error is not None:
            raise error
        return result

    return calling  # type: ignore[return-value]


class _Check:
    def __init__(
        self, function: Callable[..., Any], candidate: Callable[..., Any], name: str, compare: Compare
    ) -> None:
        self._path = path_of(function)
        self._skipped = 1 if takes_self(function) else 0
        self._candidate = candidate
        self._name = name
        self._rules = rules_in(compare, [name])

    def copy(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> bytes:
        try:
            return arguments_pickle(arguments[self._skipped :], named, _MOST)
        except Unpicklable as error:
            raise ShadowError(f"{self._path}: its arguments cannot be copied for {self._name}: {error}") from None

    def call(self, copied: bytes) -> Any:
        """Call the candidate with arguments of its own and no context of live's."""
        arguments, named = pickle.loads(copied)
        return contextvars.Context().run(self._candidate, *arguments, **named)

    def compare(self, result: Any, error: Exception | None, other: Any, other_error: Exception | None) -> None:
        """Raise Mismatch if the two differ."""
        if error is not None or other_error is not None:
            if type(error) is not type(other_error):
                lines = [f"  live: {_ending(error)}", f"  {self._name}: {_ending(other_error)}"]
                raise Mismatch(self._path, self._name, lines, ()) from other_error or error
            return
        texts = [written(each) for each in (result, other)]
        if not all(each.whole for each in texts):
            unwritable = [
                type(each).__qualname__ for each, text in zip((result, other), texts, strict=True) if not text.whole
            ]
            lines = [f"  not compared: a part of {' and of '.join(unwritable)} has no JSON"]
            raise Mismatch(self._path, self._name, lines, ())
        live, shadow = (json_in(each.text.decode()) for each in texts)
        judged = judge_values(live, shadow, self._rules, Budget())
        if judged.verdict in (Verdict.MATCH, Verdict.IGNORED):
            return
        lines = [f"  {judged.why}"] if judged.why else []
        for each in judged.differences:
            one, two = sides(each.kind, each.live, each.shadow)
            lines.append(f"  {each.path or 'the result'}: live {one}, {self._name} {two} ({each.kind})")
        raise Mismatch(self._path, self._name, lines, judged.differences)


def _ending(error: Exception | None) -> str:
    return "returned" if error is None else f"raised {failure_of(error)}"


def _result_of(awaitable: Any) -> Any:
    """The result of a candidate that is async where live is not, also while an event loop runs in this thread."""

    async def waiting() -> Any:
        return await awaitable

    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, waiting()).result()
