"""Callables that misbehave, for a candidate's process: it finds them by their names."""

import asyncio
import ctypes
import dataclasses
import os
import signal
import sys
import time
from typing import Any


@dataclasses.dataclass
class Point:
    x: int
    y: list[float]


def misbehave(how: str, more: Any = None) -> Any:
    """Do as `how` says."""
    match how:
        case "echo":
            return more
        case "print":
            print("this is nobody's answer")
            os.write(1, b"nor is this\n")
            return 1
        case "raise":
            raise LookupError("there is\nno such thing")
        case "leave":
            sys.exit(3)
        case "exit":
            os._exit(3)
        case "abort":
            os.abort()
        case "sleep":
            time.sleep(60)
        case "spin":
            while True:
                pass
        case "hold":
            ctypes.PyDLL(None).usleep(int(more * 1e6))
            return "held"
        case "fork":
            return "child" if os.fork() == 0 else "parent"
        case "fork and hang":
            if os.fork() == 0:
                time.sleep(60)
            return os.getpid()
        case "eat":
            held = []
            while True:
                held.append(bytearray(b"x" * (1 << 20)))
        case "ask for too much":
            return len(bytes(more))
        case "answer too much":
            return "x" * more
        case "own":
            return Point(1, [2.5])
        case "unwritable":
            return object()
        case "told to stop":
            os.kill(os.getpid(), signal.SIGTERM)
            if (child := os.fork()) == 0:
                time.sleep(60)
            os.kill(child, signal.SIGTERM)
            return ["told", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
        case "close":
            os.closerange(3, 100)
            return "closed"
        case "where":
            return [os.getcwd(), os.environ.get("SHADOWPROXY_CANDIDATE"), os.getpid()]
    raise ValueError(how)


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


class Unloadable:
    """It is pickled, and fails to load."""

    def __reduce__(self) -> Any:
        return fail_to_load, ()


def fail_to_load() -> Any:
    raise ImportError("no module named\n'model'")


class Slow:
    """A callable that takes its time to be loaded, and to answer "hang"."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> Any:
        return load_slowly, (self.seconds,)

    def __call__(self, value: Any) -> Any:
        if value == "hang":
            time.sleep(60)
        return value


def load_slowly(seconds: float) -> Slow:
    time.sleep(seconds)
    return Slow(seconds)
