"""Clients that ask while something else is measured, in a process of their own: `python -m bench.background`.

Each client has one connection. It asks for every path in turn and then waits until its next round is due. On SIGTERM
the process prints how many answers the clients have read, in all.
"""

import argparse
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.processes import HOST, BenchError

ENDS_WITHIN = 15.0


@dataclass(slots=True)
class Asked:
    """How many answers the clients have read. Known once they have stopped."""

    answers: int = 0


@contextlib.contextmanager
def asking(port: int, paths: Sequence[str], *, clients: int, every: float) -> Iterator[Asked]:
    """While the block runs, `clients` ask for all `paths` `every` seconds. It begins when each has read first answers.

    Raises BenchError if any answer is not 200.
    """
    words = [sys.executable, "-m", "bench.background", str(port), str(clients), str(every), *paths]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    asked = Asked()
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield asked
    finally:
        process.terminate()
        try:
            printed, errors = process.communicate(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, errors = process.communicate()
    if process.returncode:
        raise BenchError(f"a client of port {port} failed: {errors.strip()[-200:]}")
    asked.answers = int(printed)


class _Clients:
    def __init__(self, port: int, paths: Sequence[str], every: float) -> None:
        self.port = port
        self.paths = paths
        self.every = every
        self.answers = 0
        self._lock = threading.Lock()

    def ask(self, begun: threading.Semaphore) -> None:
        """Never returns. A failure ends the process: a thread's exception alone would not."""
        try:
            connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
            due = time.monotonic()
            while True:
                for path in self.paths:
                    self._ask_once(connection, path)
                begun.release()
                due = max(time.monotonic(), due + self.every)
                time.sleep(max(0.0, due - time.monotonic()))
        except (BenchError, OSError, http.client.HTTPException) as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)

    def _ask_once(self, connection: http.client.HTTPConnection, path: str) -> None:
        connection.request("GET", path)
        with connection.getresponse() as response:
            response.read()
            if response.status != 200:
                raise BenchError(f"{path} was answered {response.status}")
        with self._lock:
            self.answers += 1

    def stop(self, *_: object) -> None:
        sys.stdout.write(f"{self.answers}\n")
        sys.stdout.flush()
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.background", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("clients", type=int)
    parser.add_argument("every", type=float)
    parser.add_argument("paths", nargs="+")
    given = parser.parse_args()
    clients = _Clients(given.port, given.paths, given.every)
    signal.signal(signal.SIGTERM, clients.stop)
    begun = threading.Semaphore(0)
    for _ in range(given.clients):
        threading.Thread(target=clients.ask, args=(begun,), daemon=True).start()
    for _ in range(given.clients):
        begun.acquire()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
