"""Whether this machine has room for a configuration: descriptors for its connections, memory for what it holds.

What the processes of one sidecar need of a container's memory:

1. At rest each needs what is below, which is more than they were measured to take: 18 MiB, 20 MiB and 37 MiB.
2. Live processes hold up to `limits.memory` together, and the recorder one and a half times as much: what it has not
   written yet, and what judging takes. The recorder ends before the container is full; live processes must not.
3. An eighth of the container is reserve: for a reload, which reads the file in a process of its own, for what the
   allocators keep, and for the buffers of sockets, which count too.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from shadowproxy.serve.sidecar.specs import LiveSpec, Specs
from shadowproxy.serve.system import descriptors

MIB: Final = 1 << 20

SUPERVISOR, LIVE, RECORDER = 32 * MIB, 48 * MIB, 64 * MIB
"""Bytes of memory of each process at rest, with full caches, and a live one with `account.OBJECTS` of connections."""

MOST: Final = 256 * MIB
"""`limits.memory: auto` is no more than this: nothing is gained by holding more. It is this where nothing limits it."""

LEAST: Final = 8 * MIB
"""The least that it is, for each live process: one body of the default `limits.capture`."""


def rest(workers: int) -> int:
    """The bytes of memory that all processes take at rest."""
    return SUPERVISOR + workers * LIVE + RECORDER


def share_out_memory(allowed: int | None, workers: int) -> int:
    """`limits.memory` where it is `auto`; `allowed` is what the container allows, None for any amount."""
    if allowed is None:
        return MOST
    left = allowed - rest(workers) - allowed // 8
    share = left * 2 // 5 // MIB * MIB  # 1 for live processes, 1.5 for the recorder
    return max(LEAST * workers, min(MOST, share))


def with_workers(specs: Specs, allowed: int | None, workers: int) -> Specs:
    """`specs` with the memory shared out for so many workers, where that is left to the program."""
    if specs.program.shared_out is None:
        return specs
    capture, buffer = specs.program.shared_out
    memory = share_out_memory(allowed, workers)
    capture = min(capture, memory // workers)
    return replace(
        specs,
        live=replace(specs.live, memory=memory, capture=capture, buffer=min(buffer, capture)),
        recorder=replace(specs.recorder, journal=replace(specs.recorder.journal, queue_bytes=memory)),
    )


def warnings(specs: Specs, files: int | None, allowed: int | None) -> Iterator[str]:
    """One line for each thing that there is too little of: open files, and memory. None means that it has no limit."""
    if files is not None and (line := few_files(specs.live, files)) is not None:
        yield line
    if allowed is not None and (line := little_memory(specs.live.memory, specs.program.workers, allowed)) is not None:
        yield line


def in_flight_of_shadows(live: LiveSpec) -> list[int]:
    """How many requests each shadow may have under way, and the control last."""
    return [each.in_flight for each in (*live.shadows.values(), live.control) if each is not None]


def few_files(live: LiveSpec, limit: int) -> str | None:
    """What a lower limit of open files than is needed leads to; None where it suffices."""
    shadows = in_flight_of_shadows(live)
    needed = descriptors.needed(live.in_flight, shadows)
    if needed <= limit:
        return None
    shares = descriptors.share_out(limit, live.in_flight, shadows)
    return (
        f"up to {needed:,} open files are needed, the limit is {limit:,}: callers wait while {shares.callers:,} are "
        "connected; raise the limit (ulimit -Hn, LimitNOFILE) or lower limits.in_flight"
    )


def little_memory(memory: int, workers: int, allowed: int) -> str | None:
    """What a container with less memory than is needed leads to; None where it suffices.

    Callers are safe with `limits.memory` once: for a recorder that takes its part too, there should be as much again.
    """
    needed = rest(workers) + 2 * memory
    if needed <= allowed:
        return None
    lower = share_out_memory(allowed, workers)
    remedy = "give it more" if lower >= memory else f"give it more, or leave limits.memory at auto ({lower // MIB} MiB)"
    return (
        f"up to {-(-needed // MIB):,} MiB of memory are needed with limits.memory of {memory // MIB:,} MiB, the "
        f"container allows {allowed // MIB:,} MiB: the system may end it; {remedy}"
    )
