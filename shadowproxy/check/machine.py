"""Whether this machine allows what the configuration needs: addresses, room for the log, open files."""

import contextlib
import errno
import os
import shutil
import socket
import stat
from collections.abc import Collection, Iterator
from http.client import HTTPException
from importlib.metadata import distributions
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from shadowproxy import container
from shadowproxy.addresses import Address
from shadowproxy.check.finding import Finding, fail, ok, warn
from shadowproxy.config import Config, Log, TcpAddress, UnixAddress
from shadowproxy.serve.callers.addresses import listen_tcp
from shadowproxy.serve.sidecar import room, specify
from shadowproxy.serve.system import descriptors

FULL = 1 << 20
"""A disk with fewer free bytes counts as full."""

_METRICS_TIMEOUT = 2.0


def addresses(config: Config) -> Iterator[tuple[str, Finding]]:
    """Whether each address to listen on is free, by its key."""
    ours = config.admin is not None and _is_shadowproxy(config.admin)
    everything = [("listen", each) for each in config.listen]
    if config.admin is not None:
        everything.append(("admin", config.admin))
    beside = [address for _, address in everything]
    bound: dict[int, Address] = {}
    with contextlib.ExitStack() as held:  # all at once, as `serve` has them: two names may be one address
        for key, address in everything:
            found = _free(address, beside, ours, bound, held)
            several = key == "listen" and len(config.listen) > 1
            yield key, Finding(found.level, f"{address}: {found.words}") if several else found


def _free(
    address: Address, beside: Collection[Address], ours: bool, bound: dict[int, Address], held: contextlib.ExitStack
) -> Finding:
    """`bound` has the ports that are `held` for other addresses of the configuration."""
    try:
        if isinstance(address, UnixAddress):
            return _free_path(Path(address.path))
        listening = held.enter_context(listen_tcp(address, beside))
        bound[listening.getsockname()[1]] = address
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if not isinstance(address, UnixAddress) and address.port in bound:
                return fail(f"is the same address as {bound[address.port]}")
            if ours:
                return ok("in use, and a shadowproxy answers at the admin address: it is likely running")
            return fail("in use by another program")
        return fail(f"cannot listen there: {(error.strerror or str(error)).lower()}")
    return ok("free")


def _free_path(path: Path) -> Finding:
    """Raises OSError if a process listens on the socket there."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            return fail("exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "in use")
        return ok("free: the socket there is a leftover")
    if not path.parent.is_dir():
        return fail(f"{path.parent} is not a directory")
    return ok("free") if os.access(path.parent, os.W_OK | os.X_OK) else fail(f"{path.parent} cannot be written to")


def _is_shadowproxy(admin: Address) -> bool:
    """Whether the admin server there has a shadowproxy's metrics."""
    if isinstance(admin, UnixAddress) or admin.port == 0:
        return False
    hosts = {"0.0.0.0": ["127.0.0.1"], "::": ["::1", "127.0.0.1"]}.get(admin.host, [admin.host])
    for host in hosts:
        url = f"http://{TcpAddress(host, admin.port)}/metrics"
        try:
            with build_opener(ProxyHandler({})).open(url, timeout=_METRICS_TIMEOUT) as answer:
                return b"shadowproxy_" in answer.read(256 << 10)
        except (OSError, ValueError, HTTPException):
            continue
    return False


def log(settings: Log) -> Iterator[Finding]:
    """Whether the log can be written, and whether keep.size has room on the disk. Writes nothing."""
    if settings.path == "-":
        yield ok("standard output")
        return
    try:
        yield from _directory(Path(settings.path), settings)
    except OSError as error:  # a directory above it may not be searched, or the working directory is gone
        yield fail(f"cannot be used: {error.strerror or error}")


def _directory(directory: Path, settings: Log) -> Iterator[Finding]:
    if directory.is_dir():
        writable = os.access(directory, os.W_OK | os.X_OK)
        yield ok("a directory, writable") if writable else fail("a directory that is not writable")
        around = directory
    elif directory.exists() or directory.is_symlink():
        yield fail("exists and is not a directory")
        return
    else:
        around = next(parent for parent in directory.absolute().parents if parent.exists())
        writable = around.is_dir() and os.access(around, os.W_OK | os.X_OK)
        yield ok("will be created") if writable else fail(f"cannot be created: {around} is not writable")
    if writable:
        yield _room(around, directory, settings)


def _room(around: Path, directory: Path, settings: Log) -> Finding:
    free = shutil.disk_usage(around).free
    held = 0
    with contextlib.suppress(OSError):
        held = sum(file.stat().st_size for file in directory.iterdir())
    room = f"{size(free)} free"
    if free < FULL:
        return fail(f"{room}: the disk is full")
    if settings.keep.size is None:
        return ok(f"{room}; the log may grow without limit (keep.size: null)")
    limit = f"{room}; the log may grow to {size(settings.keep.size)}" + (f", and has {size(held)}" if held else "")
    if free + held < settings.keep.size:
        return warn(f"{limit}: lower keep.size, or the disk may fill up first")
    return ok(limit)


def open_files(config: Config) -> Finding:
    """Whether one worker with the most requests under way may open all their connections."""
    most, live = descriptors.highest(), specify.live(config)
    needed = descriptors.needed(live.in_flight, room.in_flight_of_shadows(live))
    if most is None:
        return ok(f"up to {needed:,} needed, no limit")
    line = room.few_files(live, most)
    return ok(f"up to {needed:,} needed, the limit is {most:,}") if line is None else warn(line)


def memory(config: Config) -> Iterator[Finding]:
    """Whether the container has room for `limits.memory`; nothing where there is no container."""
    allowed = container.memory()
    if allowed is None:
        return
    held = specify.memory(config)
    given = "limits.memory: auto is" if config.limits.memory == "auto" else "limits.memory is"
    line = room.little_memory(held, config.workers, allowed)
    yield ok(f"{given} {size(held)}, the container allows {size(allowed)}") if line is None else warn(line)
    if (copied := specify.capture(config)) < config.limits.capture:
        yield warn(f"limits.capture is lowered to {size(copied)}, a worker's part of the memory")


OURS, STRANGERS = "shadowproxy-sidecar", "shadowproxy"
"""Names of distributions: this program's own, and another one with the same command and files (SECURITY.md)."""


def installed() -> Iterator[Finding]:
    """A warning if another distribution owns files of this one; else nothing."""
    names = {(each.name or "").lower().replace("_", "-") for each in distributions()}
    if {OURS, STRANGERS} <= names:
        yield warn(
            f"another distribution, called {STRANGERS}, owns the same command and files: uninstall both, and install "
            f"{OURS} again, from a checkout or a wheel"
        )


def size(count: int) -> str:
    """Bytes in a unit that keeps the number short."""
    for unit, length in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.3g} {unit}" if count < 1000 * length else f"{count // length} {unit}"
    return f"{count} bytes"
