"""The composition root: builds the sidecar from its configuration, owns all of it, and stops it in order."""

import asyncio
import contextlib
import errno
import importlib
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import uvicorn
import uvloop

from shadowproxy import __version__
from shadowproxy.compare.stats import wilson
from shadowproxy.config import Config, ConfigError, TcpAddress, UnixAddress, load, shown
from shadowproxy.serve import census, generation, operator_log, proxy, tracing
from shadowproxy.serve.access import Access
from shadowproxy.serve.capture import Memory
from shadowproxy.serve.census import Census, ConfigCensus
from shadowproxy.serve.generation import Contexts, Generation, GenerationError
from shadowproxy.serve.journal import Journal, JournalError, Word
from shadowproxy.serve.lane import Tally
from shadowproxy.serve.listener import Limits, Listener
from shadowproxy.serve.mirror import Mirror
from shadowproxy.serve.operator_log import Repeats, Served, Telling
from shadowproxy.serve.overview import Overview
from shadowproxy.serve.recent import Recent
from shadowproxy.serve.watch import Watch

if TYPE_CHECKING:
    from starlette.types import ASGIApp

FLUSH = 10.0  # seconds that stopping waits for a slow disk
SWITCH = 0.0005
"""Seconds that the journal's thread may keep the interpreter from the event loop, each time the loop wants it back. It
is Python's switch interval, 5 ms by default: longer than most live systems take to answer."""

_log = logging.getLogger("shadowproxy")


class StartError(Exception):
    """The sidecar cannot be started here. One line."""


def run(config: Config, file: Path | None = None, telling: Telling | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then stop cleanly and return the exit status; a second signal hurries.

    `file` is what `config` was read from: it is read again on SIGHUP and when it changes.
    The operator's log goes to standard error, as `telling` says. Raises StartError.
    """
    telling = telling or Telling()
    with operator_log.opened(telling) as told:
        sys.setswitchinterval(SWITCH)
        _allow_many_connections()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config, file, told.access if telling.access else None))


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: it is often 1024, and a request needs several."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where it may not be raised, what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: Config, file: Path | None, access: Callable[[Served], object] | None) -> int:
    _warn(config)
    loop = asyncio.get_running_loop()
    async with Sidecar(config, file, access) as sidecar:
        loop.add_signal_handler(signal.SIGHUP, sidecar.reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sidecar.stop)
        _log.info("%s", sidecar.describe(), extra={"event": "started", **sidecar.particulars()})
        await sidecar.wait_stopping()
        drain = sidecar.config.drain
        stopping = {"event": "stopping", "seconds": drain}
        _log.info("stopping: up to %g s for the requests and shadows under way", drain, extra=stopping)
    # The last word, when nobody can ask for metrics any more. Requests are those in the log and those lost.
    requests, books = sidecar.proxy.outcomes.total(), sidecar.journal.statistics()
    told = {"event": "stopped", "requests": requests, "written": books.written, "lost": sum(books.lost.values())}
    _log.info("stopped: %(requests)d requests, %(written)d records in the log, %(lost)d lost", told, extra=told)
    return 0


def _warn(config: Config) -> None:
    for warning in config.warnings:
        _log.warning("%s", warning, extra={"event": "config_warning"})


_LEVELS = {"records_lost": logging.ERROR, "log_trouble": logging.WARNING, "log_recovered": logging.INFO}


def _tell_of_log(word: Word) -> None:
    _log.log(_LEVELS[word.event], "%s", word.line, extra={"event": word.event, **word.values})


class Sidecar:
    """Owns the journal, the endpoints, the mirror and the server; use as `async with`. Entering raises StartError.

    Leaving stops accepting, finishes the requests under way and then the shadows, both within `drain`, and flushes the
    journal. With a `file`, `reload` and a change of it put another configuration in force.
    """

    def __init__(
        self, config: Config, file: Path | None = None, access: Callable[[Served], object] | None = None
    ) -> None:
        self._file = file
        self._access = access
        self._tracer = tracing.opened(generation.PROXY)
        self._first = config
        self.journal = Journal(
            config.log.path,
            proxy=generation.PROXY,
            settings=generation.journal_settings(config),
            notify=_tell_of_log,
        )
        self.mirror: Mirror
        self.proxy: proxy.Proxy
        self._alive: list[Generation] = []
        self._tallies: dict[str, Tally] = {}
        self._recent = Recent()
        self._told = ConfigCensus(generation=1, loaded_at=time.time(), reloads=0, failures=0, error=None)
        self._reload = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._server: _Server
        self._socket: socket.socket
        self._admin_socket: socket.socket | None = None
        self._listening = False
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._alive[-1].config if self._alive else self._first

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, as host and port; a Unix socket's path and 0."""
        if isinstance(self.config.listen, UnixAddress):
            return self.config.listen.path, 0
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Where the admin server listens, in the same form; None where it is off."""
        if self._admin_socket is None:
            return None
        if isinstance(self.config.admin, UnixAddress):
            return self.config.admin.path, 0
        host, port = self._admin_socket.getsockname()[:2]
        return host, port

    def particulars(self) -> dict[str, Any]:
        """What `describe` says, by name."""
        return {
            "version": __version__,
            "listen": _written(self.address),
            "live": self.config.live.url,
            "shadows": {name: shadow.url for name, shadow in self.config.shadows.items()},
            "log": self.config.log.path,
            "admin": _written(self.admin_address) if self.admin_address else None,
        }

    def describe(self) -> str:
        admin = _written(self.admin_address) if self.admin_address else "off"
        return (
            f"shadowproxy {__version__} listening on {_written(self.address)}, {self._endpoints()}, "
            f"log {self._log_path()}, admin {admin}"
        )

    def census(self) -> Census:
        """What the rooms count, and how they stand now."""
        now = asyncio.get_running_loop().time()
        return census.take(self.proxy, self.mirror, self.journal, self._told, accepts=self._accepts(), now=now)

    def reload(self) -> None:
        """Have the configuration file read again. Returns at once; the operator's log says what came of it."""
        self._reload.set()

    def stop(self) -> None:
        """Begin to stop; called again, hurry."""
        if self._stopping.is_set():
            self._server.hurry.set()
        self._stopping.set()

    async def wait_stopping(self) -> None:
        await self._stopping.wait()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._tracer is not None:
                stack.push_async_callback(asyncio.to_thread, self._tracer.close)
            try:
                self.journal.open()
            except JournalError as error:
                raise StartError(str(error)) from error
            stack.push_async_callback(self._close_journal)
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self._stack.aclose()

    async def _build(self, stack: AsyncExitStack) -> None:
        config = self._first
        try:
            contexts = await asyncio.to_thread(generation.tls_contexts, config)
        except GenerationError as error:
            raise StartError(str(error)) from error
        first = self._built(config, contexts, None)
        stack.push_async_callback(self._close_endpoints)
        memory = Memory(config.limits.memory, elsewhere=lambda: self.journal.queued_bytes)
        self.mirror = await stack.enter_async_context(
            Mirror(first.plan, memory=memory, loop_lag=config.overload.loop_lag)
        )
        self._alive.append(first)
        self.proxy = proxy.Proxy(first.service, self.mirror, self._access)
        # Its place among those that stop is here, and its port is known to be free before a caller is let in.
        later = await stack.enter_async_context(AsyncExitStack())
        if config.admin is not None:
            self._admin_socket = _bind(config.admin)
            later.callback(_release, config.admin, self._admin_socket)
        self._socket = _bind(config.listen)
        stack.callback(_release, config.listen, self._socket)
        self._server = _Server(_uvicorn(self.proxy, lambda: generation.listener_limits(self.config)), config.drain)
        serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        stack.push_async_callback(self._stop_serving, serving)
        await self._server.ready.wait()
        self._listening = True
        if config.admin is not None and self._admin_socket is not None:
            await self._serve_admin(later, config.admin, self._admin_socket)
        stack.push_async_callback(_end, asyncio.get_running_loop().create_task(self._reload_when_asked()))
        if self._file is not None:
            stack.enter_context(self._watch(self._file))

    def _accepts(self) -> bool:
        """Whether callers are listened to: not before the port is bound, and no more once it is to stop."""
        return self._listening and not self._stopping.is_set()

    async def _serve_admin(
        self, stack: AsyncExitStack, address: TcpAddress | UnixAddress, bound: socket.socket
    ) -> None:
        """The last to stop but for the rooms it tells of: a probe sees that the sidecar is draining.

        Imported only here, in a thread: callers need not wait for what operators use.
        """
        await asyncio.to_thread(importlib.import_module, "shadowproxy.serve.admin")
        from shadowproxy.serve import admin, page

        host = None if isinstance(address, UnixAddress) else address.host
        overview = Overview(self.census, proxy=generation.PROXY, interval=wilson)
        app = admin.build(
            admin.Sources(
                census=self.census,
                controls=self.mirror,
                overview=overview,
                recent=self._recent,
                access=lambda: Access(host, self.config.admin_token),
                configuration=lambda: shown(self.config),
                page=page.respond,
            )
        )
        overview.start()
        stack.callback(overview.stop)
        server = _Server(_uvicorn(app, lambda: admin.LIMITS), drain=1.0)
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]))

        async def stop() -> None:
            overview.stop()  # or it would be waited for as a request under way
            server.stop.set()
            await serving

        stack.push_async_callback(stop)
        await server.ready.wait()

    async def _stop_serving(self, serving: asyncio.Task[None]) -> None:
        """Finish the requests under way, then the shadows, within `drain` together."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.config.drain
        self._server.stop.set()
        await serving
        draining = loop.create_task(self.mirror.drain(max(0.0, until - loop.time())))
        hurrying = loop.create_task(self._server.hurry.wait())
        await asyncio.wait((draining, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not draining.done():
            await self.mirror.drain(0)
        await draining

    def _built(self, config: Config, contexts: Contexts, before: Generation | None) -> Generation:
        return generation.build(
            config,
            contexts,
            append=self.journal.append,
            seen=self._recent.add if config.admin is not None else lambda line, verdicts: None,
            tallies=self._tallies,
            now=asyncio.get_running_loop().time(),
            before=before,
            trace=self._tracer.tell if self._tracer is not None else None,
        )

    def _watch(self, file: Path) -> Watch:
        """A certificate that was renewed counts as a change."""
        loop = asyncio.get_running_loop()
        return Watch(lambda: [file, *generation.tls_files(self.config)], lambda: loop.call_soon_threadsafe(self.reload))

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            if self._file is None:
                words = "there is no configuration file to read again: it was started with flags"
                _log.warning("%s", words, extra={"event": "reload_failed"})
                continue
            # Reading, validating and the certificates take milliseconds, which live's callers must not feel.
            try:
                config = await asyncio.to_thread(load, self._file)
                contexts = await asyncio.to_thread(generation.tls_contexts, config)
            except (ConfigError, GenerationError) as error:
                self._told = replace(self._told, failures=self._told.failures + 1, error=str(error))
                extra = {"event": "reload_failed", "errors": str(error).splitlines()}
                _log.error("the configuration stays as it was, the new one cannot be used", extra=extra)
                for line in str(error).splitlines():
                    _log.error("%s", line, extra={"event": "config_error"})
                continue
            self._adopt(config, contexts)

    def _adopt(self, config: Config, contexts: Contexts) -> None:
        """Serve new requests by `config`, all at once; what only a start can change stays as it is."""
        before = self._alive[-1]
        config, kept = _startable(config, before.config)
        for name in kept:
            extra = {"event": "restart_needed", "key": name}
            _log.warning("%s was changed in the configuration file: that takes a restart", name, extra=extra)
        _warn(config)
        new = self._built(config, contexts, before)
        self._alive.append(new)
        self.proxy.service = new.service
        self.mirror.adopt(new.plan)
        self.mirror.memory.limit = config.limits.memory
        self.mirror.pulse.limit = config.overload.loop_lag
        self.journal.settings = generation.journal_settings(config)
        self._server.drain = config.drain
        told = self._told
        self._told = replace(
            told, generation=told.generation + 1, loaded_at=time.time(), reloads=told.reloads + 1, error=None
        )
        reloaded = {"event": "reloaded", "generation": self._told.generation}
        _log.info("configuration %d is in force: %s", self._told.generation, self._endpoints(), extra=reloaded)
        task = asyncio.get_running_loop().create_task(self._retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, before: Generation) -> None:
        """Close what the generation before alone has asked, once its last exchange is settled."""
        await self.mirror.wait_ended(before.plan)
        self._alive.remove(before)
        in_use = {endpoint for each in self._alive for endpoint in each.endpoints.values()}
        for endpoint in {*before.endpoints.values()} - in_use:
            await endpoint.aclose()

    async def _close_endpoints(self) -> None:
        if self._retiring:  # the mirror has settled every exchange by now
            await asyncio.wait(self._retiring)
        for endpoint in {endpoint for each in self._alive for endpoint in each.endpoints.values()}:
            await endpoint.aclose()

    async def _close_journal(self) -> None:
        await asyncio.to_thread(self.journal.close, FLUSH)

    def _endpoints(self) -> str:
        return f"live {self.config.live.url or 'a fixed answer'}, shadows {', '.join(self.config.shadows) or 'none'}"

    def _log_path(self) -> str:
        return "standard output" if self.config.log.path == "-" else self.config.log.path


def _uvicorn(app: "ASGIApp | proxy.Proxy", limits: Callable[[], Limits]) -> uvicorn.Config:
    """`limits` is asked with each connection."""
    repeats = Repeats()

    def listener(**given: Any) -> Listener:
        return Listener(**given, limits=limits(), repeats=repeats)

    return uvicorn.Config(
        app,
        http=listener,  # type: ignore[arg-type]  # uvicorn calls it, it need not be a class
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


class _Server(uvicorn.Server):
    """uvicorn's server, told by its owner when to stop, and at once.

    By its own signal handling it would end by raising the signal again, and it looks for word of stopping every 0.1 s.
    """

    def __init__(self, config: uvicorn.Config, drain: float) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.drain = drain

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let every request under way be answered within `drain`, and cut off the rest."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.drain):
                # uvicorn's two sets tell nobody when they become empty.
                while (self.server_state.connections or self.server_state.tasks) and not self.hurry.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        if tasks := list(self.server_state.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)  # each has a record to settle


def _startable(config: Config, before: Config) -> tuple[Config, list[str]]:
    """`config` with what only a start can change as it was before, and the names of what that holds back."""
    log = replace(config.log, path=before.log.path)
    kept = replace(config, listen=before.listen, admin=before.admin, log=log)
    changed = {
        "listen": config.listen != kept.listen,
        "admin": config.admin != kept.admin,
        "log.path": config.log != kept.log,
    }
    return kept, [name for name, is_changed in changed.items() if is_changed]


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _written(address: tuple[str, int]) -> str:
    host, port = address
    if not port:
        return f"unix:{host}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _release(listen: TcpAddress | UnixAddress, bound: socket.socket) -> None:
    bound.close()
    if isinstance(listen, UnixAddress):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(listen.path)


def _bind(listen: TcpAddress | UnixAddress) -> socket.socket:
    try:
        if isinstance(listen, UnixAddress):
            return _bind_unix(listen.path)
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        bound = socket.create_server((listen.host, listen.port), family=family, backlog=2048)
    except OSError as error:
        why = "the address is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise StartError(f"cannot listen on {listen}: {why}") from error
    bound.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # accepted sockets inherit it; loops differ in setting it
    bound.setblocking(False)
    return bound


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and _nobody_listens(path):
            os.unlink(path)  # left behind by one that was killed
    except FileNotFoundError:
        pass
    try:
        bound.bind(path)
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _nobody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
