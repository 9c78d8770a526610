"""A call that may hang, as on a file that a pipe or a lost mount stands for, in a thread that nobody has to wait for.

`asyncio.to_thread` is for calls that end: closing the loop waits for its threads, however long they take.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def apart(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What `call` gives or raises, from a daemon thread of its own.

    Who is cancelled leaves the thread behind; where it hangs, it ends with the process.
    """
    loop = asyncio.get_running_loop()
    # Not as the future's exception: Python 3.11 never frees one that is raised where its future is still known.
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def settle(given: T | None, raised: BaseException | None) -> None:
        if not ended.done():  # or nobody waits any more
            ended.set_result((given, raised))

    def run() -> None:
        given: T | None = None
        raised: BaseException | None = None
        try:
            given = call(*arguments, **named)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it is waited for
            raised = error
        try:
            loop.call_soon_threadsafe(settle, given, raised)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits any more
        finally:
            raised = None  # or its traceback, and all that `call` holds, would be a cycle

    threading.Thread(target=run, name=f"shadowproxy-{getattr(call, '__name__', 'apart')}", daemon=True).start()
    given, raised = await ended
    if raised is not None:
        raise raised
    return given  # type: ignore[return-value]  # with nothing raised it is what was given
