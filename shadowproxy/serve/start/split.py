"""The first moment of `serve`. Imports next to nothing: what is imported before the fork delays every process."""

import gc
import os
import signal
from collections.abc import Sequence

from shadowproxy.serve.start.exits import INTERRUPTED, UNUSABLE, say
from shadowproxy.serve.system import signals, streams


def main(words: Sequence[str], *, is_companion: bool = False) -> int:
    """Run `serve` with the words after it, or a companion with its own.

    Returns the exit status: in the supervisor, and in the fork that reads.
    """
    signals.prepare()
    streams.fill()
    gc.disable()  # until all is imported: scanning modules for garbage is a tenth of the time of a start
    receiving, sending = os.pipe()
    supervisor = os.getpid()
    try:
        reader = os.fork()
    except OSError as error:
        return _cannot_start(error)
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if reader == 0:
        os.close(receiving)
        if handled:  # Ctrl-C reaches both processes, and neither may raise: see `signals.prepare`
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        from shadowproxy.serve.start import reading

        return reading.run(words, sending, supervisor, is_companion=is_companion)
    os.close(sending)

    def end(number: int, _: object) -> None:
        os.kill(reader, signal.SIGKILL)
        os._exit(0 if number == signal.SIGTERM else INTERRUPTED)

    signal.signal(signal.SIGTERM, end)
    if handled:
        signal.signal(signal.SIGINT, end)
    from shadowproxy.serve.workers.begun import Begun

    try:
        begun = Begun()
    except OSError as error:
        os.kill(reader, signal.SIGKILL)
        return _cannot_start(error)
    from shadowproxy.serve.start import program

    return program.run(reader, receiving, begun)


def _cannot_start(error: OSError) -> int:
    say(f"cannot start a process: {error.strerror}")  # as under a limit of processes
    return UNUSABLE
