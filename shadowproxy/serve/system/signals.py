"""What the signals mean to a process that serves, from its first moment to its last. Imports next to nothing.

| signal | the program | one of several workers |
|---|---|---|
| TERM, INT | stops, a second one hurries; while it still starts it ends at once | stops |
| HUP | reads its configuration again | nothing |
| USR1 | opens standard error and output again, where they are files | the same |
| USR2, ALRM, VTALRM, PROF, IO | nothing | nothing |

By itself each of these ends a process, at once and without a word. QUIT and ABRT do so still: they are for that.
"""

import os
import signal

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
HELD_BACK = frozenset({signal.SIGHUP, signal.SIGUSR1})
IGNORED = frozenset({signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO})


def prepare() -> None:
    """Before anything else is done: what comes while the program starts is heard once it can be, or ends it cleanly."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    _ignore(IGNORED)
    # As the first process of a container it would not even be ended by a signal that it does not handle. Nothing is
    # raised: an exception amid an extension module's import has ended the process with a segmentation fault.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def prepare_worker() -> None:
    """The same of a worker, which is told to stop by its supervisor as well."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | HELD_BACK)
    _ignore(IGNORED | {signal.SIGHUP})


def release() -> None:
    """What was held back can be heard now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING | HELD_BACK)


def hold_back() -> None:
    """It has stopped, and whoever is told so once more must not end it by a signal: before its event loop is closed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING | HELD_BACK)


def ignore() -> None:
    """For the rest of the process, which has nothing left to do."""
    _ignore(STOPPING | HELD_BACK)


def _ignore(numbers: frozenset[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
