"""Runs a call that may hang, as reading a pipe or a file on a lost mount may, in a thread that nobody has to wait for.

`asyncio.to_thread` is for calls that end: closing the loop waits for its threads, however long they take.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def apart(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What `call` returns or raises, from a daemon thread of its own.

    Cancelling leaves the thread behind; if it hangs, it ends with the process.
    """
    loop = asyncio.get_running_loop()
    # Not as the future's exception, and given up below: else what is raised would hold itself and its callers.
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def run(ended: asyncio.Future[tuple[T | None, BaseException | None]]) -> None:
        given: T | None = None
        raised: BaseException | None = None
        try:
            given = call(*arguments, **named)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
            raised = error
        try:
            loop.call_soon_threadsafe(_settle, ended, (given, raised))
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits any more
        finally:
            raised = None  # or its traceback, and all that `call` holds, would be a cycle

    name = f"shadowproxy-{getattr(call, '__name__', 'apart')}"
    threading.Thread(target=run, args=(ended,), name=name, daemon=True).start()
    given, raised = await ended
    del ended
    try:
        if raised is not None:
            raise raised
    finally:
        del raised
    return given  # type: ignore[return-value]  # with nothing raised it is what was given


def _settle(ended: asyncio.Future[T], given: T) -> None:
    if not ended.done():  # or nobody waits any more
        ended.set_result(given)
