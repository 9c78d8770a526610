"""The second thread: encodes large exchanges, so that small ones do not wait. The writing thread writes their lines."""

import threading

from shadowproxy.serve.journal.notices import defect
from shadowproxy.serve.journal.queue import Queue

LOOK_EVERY = 60.0
"""Seconds at most that the thread sleeps; it is woken for each exchange, and at the end."""


class LargeEncoder:
    """Owns the thread. It ends once the queue is closed, and every large exchange of it is encoded or lost."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._encoding_thread = threading.Thread(target=self._run, name="shadowproxy-large", daemon=True)

    def start(self) -> None:
        self._encoding_thread.start()

    def _run(self) -> None:
        queue = self._queue
        while not queue.is_finished_with_large():
            item = queue.take_large(LOOK_EVERY)
            if item is None:
                continue
            try:
                item.encode_line()
            except Exception as error:  # noqa: BLE001 - encode's promise broken: one line lost, not the log
                queue.lose_large(item, "encode_error", defect(error))
            else:
                queue.put_encoded(item)
