"""Looks at intervals until it is to stop, and posts what has changed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Final

from shadowproxy.compare.fold.summary import SummaryError
from shadowproxy.compare.report.history import Look
from shadowproxy.compare.report.html import to_html
from shadowproxy.compare.report.words import about_time
from shadowproxy.watch.history import HistoryFile
from shadowproxy.watch.look import Looking
from shadowproxy.watch.state import StateError
from shadowproxy.watch.webhook import PostError, Webhook

STATE: Final = ".state"
"""What is added to the history's name for the file beside it."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a look goes: `say` prints a line, `html` is the page to write, `webhook` where changes are posted."""

    say: Callable[[str], None]
    html: Path | None = None
    webhook: Webhook | None = None


class Stopping:
    """Whether the program is to end; a signal says so. Waits are cut short."""

    def __init__(self) -> None:
        self._event = Event()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def stop(self, *_: Any) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; True once the program is to end."""
        return self._event.wait(seconds)

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """SIGTERM ends the waiting, and a look under way is finished first."""
        before = signal.signal(signal.SIGTERM, self.stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def look_once(looking: Looking, history: HistoryFile, outputs: Outputs, *, strict: bool = False) -> Look:
    """Look, write it down, post what has changed, and write the page.

    Raises what `Looking.look` raises, and OSError where the history or the page cannot be written.
    """
    look, report = looking.look(history.held.words, history.add, strict=strict)
    for fault in look["faults"]:
        outputs.say(fault)
    for name, seen in look["shadows"].items():
        outputs.say(f"{look['at']} {name}: {seen['headline']}: {seen['sentence']}")
        for window in seen["windows"]:
            if window["differ"]:
                within = f"labels known within {about_time(window['seconds'])}"
                outputs.say(f"{name}: {within} are not a fair sample: {window['rest']}")
    if not look["shadows"]:
        outputs.say(f"{look['at']} NO DATA: no request was chosen for a shadow")
    post(history, outputs)
    if outputs.html is not None:
        page = to_html(report, looks=history.held.looks)
        part = outputs.html.with_name(f".{outputs.html.name}.part")
        part.write_text(page, encoding="utf-8")
        part.replace(outputs.html)
    return look


def post(history: HistoryFile, outputs: Outputs) -> None:
    """Post the changes that were not posted, in their order; after the first that fails the others wait too."""
    if outputs.webhook is None:
        return
    for look, change in list(history.held.pending.values()):
        try:
            outputs.webhook.post(look, change)
        except PostError as error:
            outputs.say(str(error))
            return
        history.add_posted(change, datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def run(looking: Looking, history: HistoryFile, outputs: Outputs, every: float, stopping: Stopping) -> None:
    """Look now, and again each time `every` seconds have passed, until the program is to end.

    The first look raises what `look_once` raises. A later failure is printed, and the next look tries again.
    """
    begun = monotonic()
    looks = 0
    while not stopping.requested:
        try:
            look_once(looking, history, outputs, strict=not looks)
        except (OSError, StateError, SummaryError) as error:
            if not looks:
                raise
            outputs.say(f"this look failed: {error}")
        looks = max(looks + 1, int((monotonic() - begun) / every) + 1)
        stopping.wait(begun + looks * every - monotonic())
