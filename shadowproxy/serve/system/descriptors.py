"""How a live process shares out its file descriptors, so that accepting callers takes none that dialling needs.

With a limit of 100 files, a crowd of callers once took them all, and 22,588 of 22,606 requests were answered with 502.
The rules:

1. `OWN` descriptors are the process's own: its sockets to other processes, name lookups, certificates that are read.
2. Shadows get as many as their `in_flight` adds up to, but a quarter of the rest at most.
3. Of what is left, live gets `in_flight` or a half, and the callers all others: where the limit is low each caller may
   have one request under way.
"""

import errno
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

OWN: Final = 32

OWN_LACK: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say what this machine lacks for any connection: no other address would do better."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The most connections: of callers, to live, and to each shadow."""

    callers: int
    live: int
    shadows: tuple[int, ...]


def limit() -> int | None:
    """How many files this process may have open; None where nothing limits them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def highest() -> int | None:
    """The limit to which a process may raise its own, as a serving process does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def needed(in_flight: int, shadows: Sequence[int]) -> int:
    """The descriptors of a process that has as many requests under way as it may: for each its caller, live, and one
    more for a caller that is connected and idle.
    """
    return OWN + 3 * in_flight + sum(shadows)


def admin_share(most: int) -> int:
    """The connections to the admin port for which the supervisor has descriptors: half of what it does not need."""
    return max(4, (most - OWN) // 2)


def share_out(most: int, in_flight: int, shadows: Sequence[int]) -> Shares:
    """`most` descriptors, for the `in_flight` of live and of each shadow. Each gets one, even where there is none."""
    rest = max(0, most - OWN)
    wanted = sum(shadows)
    part = min(wanted, rest // 4)
    of_shadows = tuple(max(1, part * each // wanted) for each in shadows)
    rest -= part
    live = max(1, min(in_flight, rest // 2))
    return Shares(max(1, rest - live), live, of_shadows)
