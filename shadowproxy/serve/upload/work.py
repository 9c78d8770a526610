"""One round of uploading, as a process: `python -m shadowproxy.serve.upload.work` with a Job as JSON on its first line.

Its rules:

- It holds a segment's lock from before it reads the mark until it has written it. So of several proxies that share a
  directory one alone sends a segment, and after a kill the kernel has released the lock.
- The mark is written after the store has confirmed that it has as many bytes. A process that is killed before that
  sends the segment again, to the same place: the store has each segment once.
- A closed segment is compressed first, so it is sent in its last form.
- It says on standard output, a line of JSON for each, what it has done; it ends when its input ends.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from shadowproxy.serve.journal import marks, segments
from shadowproxy.serve.journal.marks import Mark
from shadowproxy.serve.journal.segments import Segment
from shadowproxy.serve.upload.job import SUMMARY, Job, lacks_summary, object_of, waiting
from shadowproxy.stores.addresses import address_of, is_address
from shadowproxy.stores.opening import Patience
from shadowproxy.stores.writing import SENDING, put

_MOST_FAILED: Final = 3
"""Segments in a row that fail: the store is the reason, and the others would fail too."""

Say = Callable[[dict[str, Any]], None]


class Round:
    """Sends what waits once. `say` gets what becomes of each segment."""

    def __init__(self, job: Job, say: Say, patience: Patience = SENDING) -> None:
        self._job = job
        self._say = say
        self._patience = patience
        self._failed = 0  # in a row

    def run(self) -> None:
        """Send all that waits, oldest first, and make the summaries that lack. Raises OSError for the directory."""
        directory = Path(self._job.directory)
        self._forget_marks(directory)
        unsent, unsummarised = waiting(directory, summaries=self._job.summaries)
        for segment in (*unsummarised, *unsent):
            if self._failed >= _MOST_FAILED:
                return
            try:
                self._take(segment)
            except OSError as error:
                self._failed += 1
                # Without the segment's name: the same reason is told to operators once, however many it holds up.
                what = self._job.to if is_address(error.filename) else error.filename or self._job.directory
                self._say({"trouble": f"{what}: {error.strerror or error}"})
            else:
                self._failed = 0

    def _forget_marks(self, directory: Path) -> None:
        """Remove the marks of segments that are gone. Marks first: a segment that is listed later was there before."""
        marked = marks.names(directory)
        there = {marks.stem(each.path) for each in segments.list_segments(directory)}
        for name in marked - there:
            marks.remove(directory / name)

    def _take(self, segment: Segment) -> None:
        path = segment.path
        if self._job.compress != "none" and not segment.compressed and marks.read(path) is None:
            if not segments.compress(path, self._job.compress, lambda: True):
                return  # another has it, or it is gone
            path = path.with_name(path.name + segments.ENDINGS[self._job.compress])
        with segments.locked(path) as file:
            if file is None:
                return
            size = os.fstat(file.fileno()).st_size
            mark = marks.read(path)
            if not marks.is_sent(mark, path.name, size):
                mark = self._send(path, file, size)
            if self._job.summaries and mark is not None and lacks_summary(mark) and mark.name == path.name:
                self._summarise(path, mark)

    def _send(self, path: Path, file: Any, size: int) -> Mark:
        address = address_of(object_of(self._job.to, path))
        etag = put(address, file, size, self._patience)
        mark = Mark(path.name, size, address.shown, etag)
        marks.write(path, mark)
        self._say({"sent": path.name, "bytes": size})
        return mark

    def _summarise(self, path: Path, mark: Mark) -> None:
        """Put the segment's summary beside it. What goes wrong here loses no record: a report reads the segment."""
        from shadowproxy.compare.fold.for_segment import summary_of
        from shadowproxy.compare.judge.rules import Rules, Tolerance

        rules = dict(self._job.rules)
        rules["tolerance"] = {place: Tolerance(*bounds) for place, bounds in rules.get("tolerance", {}).items()}
        for name in ("ignore", "unordered"):
            rules[name] = tuple(rules.get(name, ()))
        rules["predictions"] = {name: (live, shadow) for name, (live, shadow) in rules.get("predictions", {}).items()}
        marks.write(path, mark._replace(tries=mark.tries + 1))
        raw = summary_of(path, Rules(**rules), self._job.fields, mark.bytes, mark.etag)
        if raw is not None:
            address = address_of(object_of(self._job.to, path) + SUMMARY)
            try:
                put(address, raw, len(raw), self._patience)
            except OSError:
                marks.write(path, mark)  # the store's fault, not the summary's
                raise
        marks.write(path, mark._replace(summary=True))
        self._say({"summarised": path.name})


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a service manager signals every process; the recorder ends this one
    with contextlib.suppress(OSError):
        os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    given = orjson.loads(sys.stdin.buffer.readline())
    given["fields"] = tuple((live, shadow) for live, shadow in given["fields"])
    threading.Thread(target=_end_with_input, daemon=True).start()

    def say(what: dict[str, Any]) -> None:
        os.write(1, orjson.dumps(what, option=orjson.OPT_APPEND_NEWLINE))

    try:
        Round(Job(**given), say).run()
    except OSError as error:
        say({"trouble": f"{error.filename or given['directory']}: {error.strerror or error}"})
    os._exit(0)  # the store's client has threads that may still be in a call


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
