"""The recorder's side of uploading: a thread that looks for closed segments, and has a process send them.

The process is niced, gets nothing of the recorder's memory, and is killed if it takes too long: a store that is down,
slow or hung costs the recorder a waiting thread. Without segments to send there is no process.
"""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from shadowproxy.serve.journal.notices import Notice
from shadowproxy.serve.upload.job import Job, Waiting, waiting
from shadowproxy.serve.upload.statistics import UploadStatistics

LOOK: Final = 5.0
"""Seconds between two looks at the directory."""

RETRY_FIRST, RETRY_MOST = 5.0, 300.0
"""Seconds until a store that failed is tried again; the time doubles."""

SILENT: Final = 3 * 3600.0
"""Seconds without a word after which a process is taken for hung: a segment's last attempt has ended by then."""


class Uploads:
    """Owns a thread, from the first job on, and at most one process. `notify` gets notices, in that thread.

    `job` may be changed at any time; None: nothing is sent.
    """

    def __init__(self, *, notify: Callable[[Notice], object], look: float = LOOK, retry: float = RETRY_FIRST) -> None:
        self._notify = notify
        self._look_every = look
        self._retry_first = self._retry_after = retry
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._wake = threading.Event()
        self._until: float | None = None  # when closing must have ended
        self._retry_at = 0.0
        self._now = UploadStatistics()

    def __repr__(self) -> str:
        return f"<Uploads {self._now}>"

    @property
    def job(self) -> Job | None:
        return self._job

    @job.setter
    def job(self, job: Job | None) -> None:
        if job != self._job:
            self._retry_at = 0.0
        self._job = job
        if job is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadowproxy-uploads", daemon=True)
            self._thread.start()
        self._wake.set()

    def statistics(self) -> UploadStatistics | None:
        """None if nothing is to be sent."""
        return None if self._job is None else self._now

    def close(self, timeout: float) -> None:
        """Send what is left and end, within `timeout` seconds. What is not sent by then is sent after the next start.

        Call it when the log's last segment is closed. Blocks.
        """
        self._until = time.monotonic() + timeout
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if (process := self._process) is not None:
                process.kill()
            self._thread.join(1.0)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.clear()
            closing = self._until is not None
            left = self._step(forced=closing)
            if closing:
                return  # `close` came before this step began: it saw the last segment
            if self._until is None:
                self._wake.wait(self._look_every if not left else min(self._look_every, 0.5))

    def _step(self, *, forced: bool) -> bool:
        """Look, and send what waits if it is time. Returns whether more can be sent at once."""
        job = self._job
        if job is None:
            return False
        try:
            found = waiting(Path(job.directory), summaries=job.summaries)
        except OSError as error:
            self._note_trouble(f"{job.directory}: {error.strerror or error}", failed=False)
            return False
        self._note_waiting(found)
        if not (found.unsent or found.unsummarised) or (not forced and time.monotonic() < self._retry_at):
            return False
        trouble, done = self._round(job)
        with contextlib.suppress(OSError):
            self._note_waiting(waiting(Path(job.directory), summaries=job.summaries))
        if trouble is not None:
            self._note_trouble(trouble, failed=True)
            return False
        if self._now.trouble is not None:
            self._notify(Notice("upload_recovered", "segments are uploaded again"))
        self._now = self._now._replace(trouble=None)
        self._retry_after = self._retry_first
        return done > 0 and self._now.waiting > 0

    def _note_waiting(self, found: Waiting) -> None:
        self._now = self._now._replace(
            waiting=len(found.unsent),
            waiting_bytes=sum(each.size for each in found.unsent),
            oldest=min((each.ended for each in found.unsent), default=None),
        )

    def _note_trouble(self, trouble: str, *, failed: bool) -> None:
        before = self._now.trouble
        self._now = self._now._replace(trouble=trouble, failures=self._now.failures + failed)
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, RETRY_MOST)
        if trouble != before:
            line = f"segments cannot be uploaded; they are kept here, and it is tried again: {trouble}"
            self._notify(Notice("upload_trouble", line))

    def _round(self, job: Job) -> tuple[str | None, int]:
        """One process that sends what waits; what went wrong last, and how many segments it dealt with."""
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shadowproxy.serve.upload.work"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                process_group=0,
            )
        except OSError as error:
            return f"no process can be started: {error.strerror}", 0
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        trouble: str | None = None
        done = 0
        try:
            with contextlib.suppress(OSError):
                process.stdin.write(orjson.dumps(asdict(job), option=orjson.OPT_APPEND_NEWLINE))
                process.stdin.flush()
            rest = b""
            output = process.stdout.fileno()
            while select.select([output], [], [], SILENT)[0] and (more := os.read(output, 1 << 16)):
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    said = orjson.loads(line)
                    trouble = said.get("trouble", trouble)
                    done += "trouble" not in said
                    self._count(said)
        finally:
            process.kill()
            ended = process.wait()
            process.stdin.close()
            process.stdout.close()
            self._process = None
        if ended != 0 and self._until is None and trouble is None:
            trouble = "the process that uploads was ended" + (", perhaps for want of memory" if ended == -9 else "")
        return trouble, done

    def _count(self, said: dict[str, object]) -> None:
        now = self._now
        if "sent" in said:
            size = said["bytes"]
            assert isinstance(size, int)
            self._now = now._replace(
                sent=now.sent + 1,
                sent_bytes=now.sent_bytes + size,
                waiting=max(0, now.waiting - 1),
                waiting_bytes=max(0, now.waiting_bytes - size),
            )
        elif "summarised" in said:
            self._now = now._replace(summaries=now.summaries + 1)
