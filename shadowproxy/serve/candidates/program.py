"""A candidate's process: it loads the callable, and answers one call after the other.

`python -m shadowproxy.serve.candidates.program CHANNEL`, an inherited socket. Messages both ways are a kind (1 byte), a
length (4 bytes, big-endian) and so many bytes. It imports next to nothing: the application's interpreter may be any.

The callable may print, fork, exit, raise, hang or eat memory: whoever started this watches it, and kills its process
group.
"""

import contextlib
import json
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

SETUP: Final = 1
"""To here: JSON with `path`, `directory`, `main`, `memory`, `most`, and behind its line the pickled callable."""

READY: Final = 2
"""From here: the callable is loaded."""

UNLOADABLE: Final = 3
"""From here: why it cannot be loaded, as one line."""

CALL: Final = 4
"""To here: the pickled arguments, positional ones and those by name."""

RESULT: Final = 5
"""From here: the result as JSON."""

LONG: Final = 6
"""From here: the beginning of a result that is longer than `most` bytes."""

HEAD: Final = struct.Struct(">BI")

VARIABLE: Final = "SHADOWPROXY_CANDIDATE"
"""Set in such a process: an application's module that is imported here shadows nothing."""

WATCHING: Final = 1.0
"""Seconds between two looks at whether the parent is there, where the kernel does not tell."""

_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    own = os.getpid()
    os.dup2(2, 1)  # what it prints is nobody's answer
    os.register_at_fork(after_in_child=channel.close)
    _outlive_signals()
    _end_with_parent()
    os.environ[VARIABLE] = "1"
    try:
        kind, content = _receive(channel)
        setup, _, pickled = content.partition(b"\n")
        given = json.loads(setup)
        _bound(given["memory"])
        try:
            call = _load(given, pickled)
        except BaseException as error:  # noqa: BLE001 - it is reported
            from shadowproxy.call_json import failure_of

            _send(channel, UNLOADABLE, failure_of(error).encode())
            return
        _send(channel, READY, b"")
        while True:
            kind, content = _receive(channel)
            if kind == CALL:
                kind, answer = _answer(call, content, given["most"])
                if os.getpid() != own:
                    os._exit(0)  # the callable has forked, and this is the other one
                _send(channel, kind, answer)
    except OSError:  # whoever started this has ended, or has enough
        os._exit(0)


def _answer(call: Callable[[bytes], bytes], pickled: bytes, most: int) -> tuple[int, bytes]:
    answer = call(pickled)
    return (RESULT, answer) if len(answer) <= most else (LONG, answer[: most + 1])


def _load(given: dict[str, Any], pickled: bytes) -> Callable[[bytes], bytes]:
    """What makes of pickled arguments the JSON of a result, or of a failure."""
    with contextlib.suppress(OSError):
        os.chdir(given["directory"])
    sys.path[:] = given["path"]
    if given["main"] and b"__main__" in pickled:
        from multiprocessing import spawn

        # As multiprocessing does for functions of a script: under the name __mp_main__, so that what is below
        # `if __name__ == "__main__"` does not run again.
        spawn._fixup_main_from_path(given["main"])  # type: ignore[attr-defined]
    import asyncio
    import inspect

    from shadowproxy.call_json import json_of, json_of_failure

    function = pickle.loads(pickled)
    runner: list[asyncio.Runner] = []

    def call(arguments: bytes) -> bytes:
        try:
            positional, named = pickle.loads(arguments)
            result = function(*positional, **named)
            if inspect.isawaitable(result):
                if not runner:
                    runner.append(asyncio.Runner())
                result = runner[0].run(_awaited(result))
            return json_of(result)
        except BaseException as error:  # noqa: BLE001 - it is the call's answer
            return json_of_failure(error)

    return call


async def _awaited(result: Any) -> Any:
    return await result


def _bound(memory: int) -> None:
    """The first to be ended where memory runs out; and no single allocation beyond the bound."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory * 2, memory * 2))


def _outlive_signals() -> None:
    """A service manager tells every process of a service to stop. This one is ended by whoever started it.

    What it starts itself takes them as ever.
    """

    numbers = (signal.SIGTERM, signal.SIGINT)

    def hold_back() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def take_by_default() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        release()

    for number in numbers:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(before=hold_back, after_in_parent=release, after_in_child=take_by_default)


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, also in the middle of a call that never returns."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import ctypes

            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
            return
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCHING)
    os.kill(os.getpid(), signal.SIGKILL)


def _receive(channel: socket.socket) -> tuple[int, bytes]:
    kind, length = HEAD.unpack(_read(channel, HEAD.size))
    return kind, _read(channel, length)


def _read(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        data = channel.recv(min(count, 1 << 20))
        if not data:
            raise OSError("the channel has ended")
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _send(channel: socket.socket, kind: int, content: bytes) -> None:
    channel.sendall(HEAD.pack(kind, len(content)) + content)


if __name__ == "__main__":
    main()
