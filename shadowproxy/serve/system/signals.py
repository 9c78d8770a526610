"""What each signal does to a serving process, from its first moment to its last. Imports next to nothing.

| signal | the program | a worker, or the recorder |
|---|---|---|
| TERM, INT | stops, a second one ends the waiting; during the start it ends at once | a worker stops |
| HUP | reloads its configuration | nothing |
| USR1 | reopens standard error and output, where they are files | the same |
| USR2, ALRM, VTALRM, PROF, IO | nothing | nothing |

By default each of these ends a process at once, without a log line. QUIT and ABRT still do: that is their purpose. CHLD
has its default: whoever starts the program may ignore it, and then no process learns how its children ended.
"""

import os
import signal

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
HELD_BACK = frozenset({signal.SIGHUP, signal.SIGUSR1})
IGNORED = frozenset({signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO})


def prepare() -> None:
    """Call first of all: a signal during the start is then either held back until `release` or ends it cleanly."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    _ignore(IGNORED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A container's first process ignores signals that it does not handle, so this needs a handler. It raises nothing:
    # an exception during an extension module's import has ended the process with a segmentation fault.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def prepare_worker() -> None:
    """The same for a supervised process. It is also stopped over its connection, so TERM and INT are held back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | HELD_BACK)
    _ignore(IGNORED | {signal.SIGHUP})


def release() -> None:
    """Deliver the signals that were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING | HELD_BACK)


def hold_back() -> None:
    """Call when stopped, before the event loop closes: from then on a late signal would kill the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | HELD_BACK)


def ignore() -> None:
    """Ignore all of them for the rest of the process, which has nothing left to do."""
    _ignore(STOPPING | HELD_BACK)


def _ignore(numbers: frozenset[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
