"""The composition root: builds the sidecar from its configuration, owns all of it, and stops it in order."""

import asyncio
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

import uvicorn
import uvloop

from shadowproxy import __version__, record
from shadowproxy.compare.rules import Rules, Tolerance
from shadowproxy.compare.verdict import judge
from shadowproxy.config import Config, Live, Shadow, TcpAddress, Tls, UnixAddress
from shadowproxy.exchange import Exchange
from shadowproxy.record import Answer, Judgement
from shadowproxy.redaction import Redaction
from shadowproxy.serve import admin, mirror, proxy, sampling
from shadowproxy.serve.capture import Memory
from shadowproxy.serve.journal import Journal, JournalError
from shadowproxy.serve.listener import Limits, Listener
from shadowproxy.serve.metrics import Exporter
from shadowproxy.serve.mirror import CONTROL, Mirror
from shadowproxy.serve.operator_log import OperatorLog
from shadowproxy.serve.rewrite import Rewrite
from shadowproxy.serve.upstream import Endpoint, tls_context

PACE = 0.005  # seconds between half milliseconds of reading a shadow's tiny chunks: a tenth of a core, at most
FLUSH = 10.0  # seconds that stopping waits for a slow disk
SWITCH = 0.0005
"""Seconds that the journal's thread may keep the interpreter from the event loop, each time the loop wants it back. It
is Python's switch interval, 5 ms by default: longer than most live systems take to answer."""

_log = logging.getLogger("shadowproxy")


class StartError(Exception):
    """The sidecar cannot be started here. One line."""


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT, then stop cleanly and return the exit status; a second signal hurries.

    The operator's log goes to standard error. Raises StartError.
    """
    with contextlib.closing(OperatorLog()) as handler:
        logging.basicConfig(handlers=[handler], level=logging.INFO)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        sys.setswitchinterval(SWITCH)
        _allow_many_connections()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(config))


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: it is often 1024, and a request needs several."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where it may not be raised, what there is has to do
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: Config) -> int:
    for warning in config.warnings:
        _log.warning("%s", warning)
    loop = asyncio.get_running_loop()
    async with Sidecar(config) as sidecar:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sidecar.stop)
        _log.info("%s", sidecar.describe())
        await sidecar.wait_stopping()
        _log.info("stopping: up to %g s for the requests and shadows under way", config.drain)
    return 0


class Sidecar:
    """Owns the journal, the endpoints, the mirror and the server; use as `async with`. Entering raises StartError.

    Leaving stops accepting, finishes the requests under way and then the shadows, both within `drain`, and flushes the
    journal.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.journal = _journal(config)
        self.mirror: Mirror
        self.proxy: proxy.Proxy
        self._server: _Server
        self._socket: socket.socket
        self._admin_socket: socket.socket | None = None
        self._listening = False
        self._stack = AsyncExitStack()
        self._stopping = asyncio.Event()

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

    def describe(self) -> str:
        live = self.config.live.url or "a fixed answer"
        shadows = ", ".join(self.config.shadows) or "none"
        admin = _written(self.admin_address) if self.admin_address else "off"
        return (
            f"shadowproxy {__version__} listening on {_written(self.address)}, live {live}, shadows {shadows}, "
            f"log {self._log_path()}, admin {admin}"
        )

    def stop(self) -> None:
        """Begin to stop; called again, hurry."""
        if self._stopping.is_set():
            self._server.hurry.set()
        self._stopping.set()

    async def wait_stopping(self) -> None:
        await self._stopping.wait()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
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
        config = self.config
        settings = proxy.Settings(
            buffer=config.limits.buffer,
            in_flight=config.limits.in_flight,
            id_header=config.request_id.header.encode(),
            respond_id=config.request_id.respond,
            forwarded=config.forwarded,
        )
        live: Endpoint | proxy.FixedAnswer
        if config.live.respond is not None:
            live = proxy.FixedAnswer(*config.live.respond.reply())
        else:
            live = await stack.enter_async_context(_endpoint("live", config.live))
        shadows = [
            (_shadow(name, shadow), await stack.enter_async_context(_endpoint(f"shadows.{name}", shadow)))
            for name, shadow in config.shadows.items()
        ]
        control = None
        if config.control.percent:
            control = (_control(config), await stack.enter_async_context(_endpoint("live", config.live)))
        self.mirror = await stack.enter_async_context(
            Mirror(
                shadows,
                control=control,
                append=self.journal.append,
                position=sampling.sampler(config.sampling.key, config.sampling.salt),
                control_position=sampling.sampler(config.sampling.key, f"{CONTROL}/{config.sampling.salt}"),
                memory=Memory(config.limits.memory, elsewhere=lambda: self.journal.queued_bytes),
                capture=config.limits.capture,
                loop_lag=config.overload.loop_lag,
            )
        )
        self.proxy = proxy.Proxy(live, self.mirror, settings)
        if config.admin is not None:
            await self._serve_admin(stack, config.admin)
        self._socket = _bind(config.listen)
        stack.callback(_release, config.listen, self._socket)
        self._server = _Server(_uvicorn(config, self.proxy), config.drain)
        serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        stack.push_async_callback(self._stop_serving, serving)
        await self._server.ready.wait()
        self._listening = True

    def _accepts(self) -> bool:
        """Whether callers are listened to: not before the port is bound, and no more once it is to stop."""
        return self._listening and not self._stopping.is_set()

    async def _serve_admin(self, stack: AsyncExitStack, address: TcpAddress | UnixAddress) -> None:
        """The last to stop but for the rooms it tells of: a probe sees that the sidecar is draining."""
        exporter = Exporter(self.proxy, self.mirror, self.journal)
        app = admin.build(exporter, self.mirror, self.journal, accepts=self._accepts)
        self._admin_socket = _bind(address)
        stack.callback(_release, address, self._admin_socket)
        server = _Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False), drain=1.0)
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[self._admin_socket]))

        async def stop() -> None:
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

    async def _close_journal(self) -> None:
        await asyncio.to_thread(self.journal.close, FLUSH)

    def _log_path(self) -> str:
        return "standard output" if self.config.log.path == "-" else self.config.log.path


class _Server(uvicorn.Server):
    """uvicorn's server, told by its owner when to stop, and at once.

    By its own signal handling it would end by raising the signal again, and it looks for word of stopping every 0.1 s.
    """

    def __init__(self, config: uvicorn.Config, drain: float) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._drain = drain

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
            async with asyncio.timeout(self._drain):
                # uvicorn's two sets tell nobody when they become empty.
                while (self.server_state.connections or self.server_state.tasks) and not self.hurry.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        if tasks := list(self.server_state.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)  # each has a record to settle


def _uvicorn(config: Config, app: proxy.Proxy) -> uvicorn.Config:
    limits = Limits(
        headers=config.limits.headers,
        buffer=config.limits.buffer,
        head_timeout=config.limits.head_timeout,
        body_timeout=config.limits.body_timeout,
    )
    return uvicorn.Config(
        app,
        http=partial(Listener, limits=limits),  # type: ignore[arg-type]  # uvicorn calls it, it need not be a class
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


def _journal(config: Config) -> Journal:
    log, compare = config.log, config.compare
    policy = record.Policy(
        bodies=log.bodies,
        body_limit=log.body_limit,
        redaction=Redaction(
            headers=frozenset(name.lower() for name in log.redact.headers),
            query=frozenset(name.lower() for name in log.redact.query),
            json=log.redact.json,
            hash_key=log.redact.hash_key.encode() if log.redact.hash_key else None,
        ),
    )
    rules = Rules(
        ignore=compare.ignore,
        tolerance={pointer: Tolerance(abs=t.abs, rel=t.rel) for pointer, t in compare.tolerance.items()},
        unordered=compare.unordered,
    )
    name = f"{socket.gethostname()}/0"

    def judged(live: Answer, shadow: Answer) -> Judgement:
        return judge(live, shadow, rules)

    def encode(exchange: Exchange) -> bytes:
        return record.encode(exchange, proxy=name, policy=policy, judge=judged)

    return Journal(
        log.path,
        encode=encode,
        proxy=name,
        rotate_size=log.rotate.size,
        rotate_every=log.rotate.every,
        compress=log.compress,
        keep_size=log.keep.size,
        keep_age=log.keep.age,
        queue_bytes=config.limits.memory,
        notify=lambda line: _log.error("%s", line),
    )


def _endpoint(where: str, endpoint: Live | Shadow) -> Endpoint:
    url = endpoint.url or ""
    return Endpoint(
        url,
        tls=_tls(f"{where}.tls", endpoint.tls) if url.startswith("https:") else None,
        connect_timeout=endpoint.connect_timeout,
        silence=endpoint.timeout,
        host=endpoint.host,
        removed=frozenset(name.lower().encode() for name in endpoint.headers.remove),
        put=tuple((name.encode(), value.encode()) for name, value in endpoint.headers.set.items()),
        retry=not isinstance(endpoint, Live) or endpoint.retry == "idle",
        pace=0.0 if isinstance(endpoint, Live) else PACE,
    )


def _tls(where: str, tls: Tls) -> ssl.SSLContext:
    try:
        return tls_context(
            ca=str(tls.ca) if tls.ca else None,
            cert=str(tls.cert) if tls.cert else None,
            key=str(tls.key) if tls.key else None,
            verify=tls.verify,
        )
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{where}: its files cannot be used: {error}") from error


def _shadow(name: str, shadow: Shadow) -> mirror.Shadow:
    return mirror.Shadow(
        name=name,
        percent=shadow.percent,
        match=sampling.Match.of(shadow.match.methods, shadow.match.paths, shadow.match.headers),
        rewrite=Rewrite.of(shadow.rewrite.path, shadow.rewrite.json),
        timeout=shadow.timeout,
        in_flight=shadow.in_flight,
        lane=shadow.lane,
        breaker_failures=shadow.breaker.failures,
        breaker_pause=shadow.breaker.pause,
        budget_requests=shadow.budget.requests,
        budget_duration=shadow.budget.duration,
        forward_credentials=shadow.forward_credentials,
    )


def _control(config: Config) -> mirror.Shadow:
    """Live asked again, as a shadow with the defaults of one and live's own credentials."""
    as_shadow = Shadow(
        url=config.live.url or "", percent=config.control.percent, timeout=config.live.timeout, forward_credentials=True
    )
    return _shadow(CONTROL, as_shadow)


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
