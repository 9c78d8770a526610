"""Whether this machine has room for a configuration: file descriptors for its connections."""

from collections.abc import Iterator

from shadowproxy.serve.sidecar.specs import LiveSpec, Specs
from shadowproxy.serve.system import descriptors


def warnings(specs: Specs, files: int | None) -> Iterator[str]:
    """One line for each thing that there is too little of. `files` is the limit of open files, None without one."""
    if files is not None and (line := few_files(specs.live, files)) is not None:
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
