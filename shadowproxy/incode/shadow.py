"""`Shadow`: shadow mode in an application's own process, by the same keys as the sidecar's configuration."""

import atexit
import os
import re
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from shadowproxy.incode.candidates import Candidates, described
from shadowproxy.incode.connection import AT_EXIT, Connection
from shadowproxy.incode.errors import ShadowError
from shadowproxy.incode.exchanges import Sender
from shadowproxy.incode.functions import Function, path_of, wrapped
from shadowproxy.incode.process import CompanionProcess, remove_directory
from shadowproxy.intake_frames import RELOAD, frame

IN_CANDIDATE: Final = "SHADOWPROXY_CANDIDATE"
"""Set in the process of a candidate, which may import the application's modules: no Shadow does anything there."""

MOST: Final = 64 << 20
"""Bytes that may wait for the companion in one process, and as many of bodies that are being copied."""

F = TypeVar("F", bound=Callable[..., Any])

every: "weakref.WeakSet[Shadow]" = weakref.WeakSet()
"""All of this process that have not been closed."""

noting: list[list[str]] = []
"""Where the IDs of records are noted, of every Shadow: the fixture `shadow_log` does it."""


class Shadow:
    """Mirrors what an application answers, or asks, to shadows, and records both.

    The application's process copies requests and answers and sends them to a *companion*: the sidecar's own processes,
    which the first use starts. No call waits for a shadow, for the companion or for the log.

        shadow = Shadow(shadows={"challenger": "http://model-v2:8000"})
        app = shadow.asgi(app)

    Use it as a context manager, call `close`, or leave it to the end of the process.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | None = None,
        *,
        shadows: Mapping[str, Any] | None = None,
        log: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        """No process or thread is started yet.

        Args:
            config: a YAML file with the keys of docs/reference/configuration.md, but for `live` and those of the
                callers' side.
            shadows: by name, a URL, a callable, or a mapping with the shadow's keys. In such a mapping `candidate` is
                the callable; `thread: True` has it called in a thread of this process.
            log: the directory of the log, or a mapping with the keys of `log`.
            keys: any other key of the configuration. What is given here comes before the file.

        Raises:
            ShadowError: with one line for each key that cannot be used.
        """
        self._closed = False
        self._inert = IN_CANDIDATE in os.environ
        if config is not None and not isinstance(config, str | os.PathLike):
            raise ShadowError(
                f"the first argument must be a file's path, not {config!r:.100}: give keys by their names"
            )
        self._config = None if config is None else Path(config).absolute()
        self._keys: dict[str, Any] = {name: value for name, value in keys.items() if value is not None}
        if log is not None:
            self._keys["log"] = dict(log) if isinstance(log, Mapping) else {"path": log}
        self._sections: dict[str, Any] = {}
        self._names: tuple[str, ...] = ()
        self._log_path = ""
        self._owners: dict[str, str] = {}  # by candidate, which function it was given for
        self._for_all: tuple[str, ...] = ()
        self._process = process = CompanionProcess()
        connection = Connection(process.socket, process, MOST)
        self._sender = Sender(connection, 0, b"", MOST)
        self._at_exit = _closing_at_exit(connection, process)
        if self._inert:
            self._end()
            return
        try:
            self._candidates = Candidates(connection.send)
            process.candidates = self._candidates.frames
            process.on_frame = self._candidates.received
            if shadows is not None and not isinstance(shadows, Mapping):
                raise ShadowError("shadows: must be a mapping of names to URLs, callables or keys")
            for name, given in (shadows or {}).items():
                self._add(name, given)
            self._for_all = tuple(name for name in self._sections if name in self._candidates)
            settings = self._describe()
        except BaseException:
            self._end()
            raise
        self._sender = Sender(connection, settings.limits.capture, settings.request_id.header.encode(), MOST)
        self._sender.recorded = noting[-1] if noting else None
        # What was wrapped holds the sender. Once nothing does, as when a notebook's cell is run again, it is over.
        weakref.finalize(self._sender, connection.leave).atexit = False
        every.add(self)

    def __repr__(self) -> str:
        state = "does nothing in a candidate" if self._inert else "closed" if self._closed else repr(self._connection)
        return f"<Shadow {', '.join(self._names) or 'without shadows'}: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _connection(self) -> Connection:
        return self._sender.connection

    # What it is made of.

    def _add(self, name: Any, given: Any) -> None:
        if not isinstance(name, str):
            raise ShadowError(f"shadows: a name must be a text, not {name!r:.100}")
        section = (
            dict(given) if isinstance(given, Mapping) else {"candidate": given} if callable(given) else {"url": given}
        )
        if "candidate" in section:
            call, thread = section["candidate"], section.get("thread", False)
            if not callable(call):
                raise ShadowError(f"shadows.{name}: a candidate is called, and {call!r:.100} cannot be")
            if not isinstance(thread, bool):
                raise ShadowError(f"shadows.{name}.thread: must be true or false")
            self._candidates.add(name, call, thread=thread)
            section = described(section)
        self._sections[name] = section

    def _describe(self) -> Any:
        """Write down what the companion reads. Returns the Config; raises ShadowError if there is none."""
        from shadowproxy.config import ConfigError, companion_of

        keys = self._keys | ({"shadows": self._sections} if self._sections else {})
        content = self._process.describe(self._config, keys)
        try:
            found = companion_of(content, self._process.description)
        except ConfigError as error:
            raise ShadowError(str(error)) from None
        self._names = tuple(found.config.shadows)
        self._log_path = found.config.log.path
        return found.config

    # A function as live.

    @overload
    def function(self, function: F, /) -> F: ...

    @overload
    def function(
        self,
        function: None = None,
        /,
        *,
        candidate: Callable[..., Any] | None = None,
        name: str | None = None,
        thread: bool = False,
        raise_on_mismatch: bool = False,
        **keys: Any,
    ) -> Callable[[F], F]: ...

    def function(
        self,
        function: F | None = None,
        /,
        *,
        candidate: Callable[..., Any] | None = None,
        name: str | None = None,
        thread: bool = False,
        raise_on_mismatch: bool = False,
        **keys: Any,
    ) -> F | Callable[[F], F]:
        """A decorator: each call of the function is mirrored, and returns and raises what it does without.

            @shadow.function(candidate=new_model.predict, timeout="1s")
            def score(features): ...

        Args:
            candidate: a callable that gets a copy of the arguments, as a shadow beside those over HTTP. Without it the
                callables of `Shadow(shadows=...)` get them.
            name: the candidate's name in the log; by default the callable's own.
            thread: call it in a thread of this process. It then shares the interpreter with live: a candidate that
                computes in Python slows live down, and one that hangs is never ended.
            raise_on_mismatch: for tests. Call the candidate here, wait for it, and raise `Mismatch` if its result
                differs from live's by the configured rules. Such a call is not recorded.
            keys: the shadow's keys in the configuration, such as `percent` and `timeout`.

        Raises:
            ShadowError: for a generator function, a candidate that cannot go to another process, and unusable keys.
        """

        def decorate(function: F) -> F:
            if not callable(function):
                raise ShadowError(
                    f"shadow.function: decorates a function, not {function!r:.100}: put @classmethod and "
                    "@property above it"
                )
            if self._inert:
                return function
            if raise_on_mismatch:
                from shadowproxy.incode.checking import checked

                if candidate is None:
                    raise ShadowError(f"{path_of(function)}: raise_on_mismatch needs a candidate")
                return checked(function, candidate, name or name_of(candidate), self._describe().compare)
            candidates = self._for_all
            if candidate is not None:
                own = name or name_of(candidate)
                self._register(own, path_of(function), candidate, thread=thread, keys=keys)
                candidates = (own,)
            elif name or thread or keys:
                raise ShadowError(f"{path_of(function)}: name, thread and a shadow's keys need a candidate")
            return wrapped(function, Function(self._sender, function, candidates))

        return decorate if function is None else decorate(function)

    def _register(
        self, name: str, live: str, call: Callable[..., Any], *, thread: bool, keys: Mapping[str, Any]
    ) -> None:
        """Add a candidate of the function `live`, also to a companion that runs already.

        A function that is defined again, as when a notebook's cell is run again, has its new candidate.
        """
        if name in self._sections and self._owners.get(name) != live:
            raise ShadowError(f"shadows.{name}: there is one of that name already: give another by name=")
        self._add(name, {**keys, "candidate": call, "thread": thread})
        try:
            self._describe()
        except ShadowError:
            self._candidates.remove(name)
            del self._sections[name]
            self._describe()
            raise
        self._owners[name] = live
        if self._connection.is_used:
            self._connection.send(frame(RELOAD))
            self._connection.send(self._candidates.frame(name))

    # HTTP, on either side.

    def asgi(self, app: Any) -> Any:
        """`app`, an ASGI application, with each request of HTTP mirrored and its answers as they are.

        It is also an application's middleware: `app.add_middleware(shadow.asgi)`.
        """
        from shadowproxy.incode.asgi import MirroredApplication

        _check_callable(app, "asgi")
        return app if self._inert else MirroredApplication(app, self._sender)

    def wsgi(self, app: Any) -> Any:
        """`app`, a WSGI application, with each request mirrored and its answers as they are."""
        from shadowproxy.incode.wsgi import MirroredApplication

        _check_callable(app, "wsgi")
        return app if self._inert else MirroredApplication(app, self._sender)

    def transport(self, inner: Any = None) -> Any:
        """A transport for a client of httpx or httpx2, whose requests are mirrored and whose answers are as they are.

        Args:
            inner: the transport that asks live; None makes the one that the client would have.

        Raises:
            ShadowError: if it is not one.
        """
        from shadowproxy.incode.transport import Transport

        _expect_transport("transport", inner, "handle_request")
        return Transport(inner, self._sender)

    def async_transport(self, inner: Any = None) -> Any:
        """The same for an asynchronous client."""
        from shadowproxy.incode.transport import AsyncTransport

        _expect_transport("async_transport", inner, "handle_async_request")
        return AsyncTransport(inner, self._sender)

    # For the fixture `shadow_log`.

    def note_records(self, ids: list[str] | None) -> None:
        """Have the IDs of records added to `ids` from now on; None: no more."""
        self._sender.recorded = ids

    def log_files(self) -> list[Path]:
        """The log's directory, if it has one and that is there yet."""
        path = Path(self._process.working) / self._log_path
        return [path] if self._log_path != "-" and path.is_dir() else []

    # Its end.

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that this process has begun is settled with every shadow, and written or counted as lost.

        Args:
            timeout: the most seconds to wait.

        Returns:
            Whether that is so. False: it took too long, or the companion ended.
        """
        return self._connection.flush(timeout)

    def close(self, timeout: float = 30.0) -> None:
        """`flush`, and end the connection. The companion ends by itself once no process of the application uses it."""
        if not self._closed:
            self._connection.flush(timeout)
            self._end()

    def _end(self) -> None:
        atexit.unregister(self._at_exit)
        self._closed = True
        self._connection.close()
        self._process.remove()


def _check_callable(app: Any, kind: str) -> None:
    if not callable(app):
        raise ShadowError(f"shadow.{kind}: takes an application, not {app!r:.100}")


def _expect_transport(kind: str, inner: Any, method: str) -> None:
    if inner is not None and (isinstance(inner, type) or not callable(getattr(inner, method, None))):
        raise ShadowError(f"shadow.{kind}: takes a transport of httpx, not {inner!r:.100}")


def _closing_at_exit(connection: Connection, process: CompanionProcess) -> Callable[[], None]:
    """What sends what has not been sent yet, within AT_EXIT seconds. It keeps no candidates alive."""
    held = weakref.ref(connection)
    directory, owner = process.directory, process.owner

    def close() -> None:
        found = held()
        if found is not None and not found.closed:
            found.push(AT_EXIT)
            found.close()
        remove_directory(directory, owner)

    atexit.register(close)
    return close


def name_of(candidate: Callable[..., Any]) -> str:
    """A shadow's name from a callable's own: `Model.predict_v2` is `model-predict_v2`."""
    name = path_of(candidate).split(".")[-2:]
    text = "-".join(name) if name[0][:1].isupper() else name[-1]
    text = re.sub(r"[^a-z0-9_-]", "-", text.lower()).strip("-_")[:63]
    return text if text and text not in ("live", "control") else "candidate"
