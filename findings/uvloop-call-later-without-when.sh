#!/usr/bin/env bash
# uvloop 0.23.0 on CPython 3.11: `call_later` and `call_at` return a handle without `when()` if the delay rounds to 0 ms.
#
# asyncio documents a TimerHandle with `when()` for both. uvloop rounds the delay to whole milliseconds, and makes a plain
# Handle of one that rounds to zero, as `call_soon` does. So code that reads `handle.when()` to see which of two timers is
# due first works, until a moment that is half a millisecond away or has passed is planned: then it is an AttributeError,
# and inside a callback one that only the loop's exception handler sees. A program that keeps the moment itself is safe.
#
# Exits 0 while the handles of 0, 0.4 ms and a moment that has passed lack `when()` and that of 10 ms has it, 1 when that
# has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check uvloop==0.23.0
cd "$place"
cat >plan.py <<'PYTHON'
import asyncio
import sys

import uvloop


async def has_when() -> dict[str, bool]:
    loop = asyncio.get_running_loop()
    handles = {
        "call_later(0)": loop.call_later(0, print),
        "call_later(0.0004)": loop.call_later(0.0004, print),
        "call_at(a second ago)": loop.call_at(loop.time() - 1, print),
        "call_later(0.01)": loop.call_later(0.01, print),
    }
    for handle in handles.values():
        handle.cancel()
    return {name: hasattr(handle, "when") for name, handle in handles.items()}


def seen_by(loop_factory) -> list[bool]:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        found = runner.run(has_when())
    print(loop_factory.__module__, found)
    return list(found.values())


sys.exit(not (seen_by(asyncio.SelectorEventLoop) == [True] * 4 and seen_by(uvloop.new_event_loop) == [False] * 3 + [True]))
PYTHON
venv/bin/python plan.py
