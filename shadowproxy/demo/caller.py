"""The demo's callers as a program: `shadowproxy demo caller URL`, or `python -m shadowproxy.demo.caller URL`."""

import argparse
import asyncio
import signal
import sys
from collections import Counter

from shadowproxy.demo.client import RATE, NoAnswer, send_all
from shadowproxy.demo.flights import SAMPLE, flights

UNANSWERED, ANSWERED = 1, 0
"""Exit statuses."""


async def call(url: str, requests: int, *, again: bool) -> int:
    """Send `requests` flights to `url`, 500 a second; with `again`, forever. SIGINT or SIGTERM ends it.

    Returns the exit status. Raises ValueError if `url` is not an http URL.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)  # a container's first process ignores signals without a handler
    sent = flights(requests)
    try:
        while True:
            answers = await send_all(url, sent, lambda: None, rate=RATE)
            statuses = Counter(answer.status for answer in answers)
            answered = ", ".join(f"{count:,} with {status}" for status, count in sorted(statuses.items()))
            sys.stdout.write(f"sent {len(sent):,} flights to {url}, answered: {answered}\n")
            sys.stdout.flush()
            if not again:
                return ANSWERED if set(statuses) == {200} else UNANSWERED
    except NoAnswer as error:
        sys.stderr.write(f"shadowproxy: no answer from {url}: {error}\n")
        return UNANSWERED
    except asyncio.CancelledError:
        return ANSWERED


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m shadowproxy.demo.caller", description="Send real flights.")
    parser.add_argument("url", help="the base URL: live's, or the proxy's")
    parser.add_argument("--requests", type=int, default=SAMPLE, choices=range(1, SAMPLE + 1), metavar="N")
    parser.add_argument("--again", action="store_true", help="start over at the end, until stopped")
    options = parser.parse_args()
    try:
        sys.exit(asyncio.run(call(options.url, options.requests, again=options.again)))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
