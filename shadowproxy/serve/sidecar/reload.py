"""Puts another configuration in force while the program runs: on request, and when its file, or a
certificate or key that it names, has changed.

A shadow whose own files could not be used is retried here too, every RETRY seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from shadowproxy import container
from shadowproxy.addresses import token_fault
from shadowproxy.apart import apart
from shadowproxy.serve.admin.census import ConfigCensus
from shadowproxy.serve.sidecar import room
from shadowproxy.serve.sidecar.contexts import Contexts, GenerationError
from shadowproxy.serve.sidecar.reading import Unreadable
from shadowproxy.serve.sidecar.specs import LiveSpec, ProgramSpec, Specs
from shadowproxy.serve.sidecar.watch import Watch
from shadowproxy.serve.system import descriptors

RETRY = 5.0
"""Seconds between retries of what could not be used: a certificate may be written later than the configuration that
names it, live's as well as a shadow's."""

READING = 10.0
"""Seconds that reading the file, and the files that it names, may take: a pipe or a lost mount may never give them."""

LOOKING = 1.0
"""Seconds that a look at them before that may take."""

_log = logging.getLogger("shadowproxy")


class Reloads:
    """Reads `file` on request or when it changes, and has `adopt` put it in force. `census` counts the reloads.

    `in_force` returns the configuration in force. `adopt` raises GenerationError for a configuration
    that cannot be used, and then has changed nothing.

    `read_file` reads the file, and raises Unreadable. `on_change` is called when `census` has changed.

    `unusable` returns the shadows that cannot be used now, each with the reason; `read` reads their files again, and
    raises ContextError for live's.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        in_force: Callable[[], Specs],
        adopt: Callable[[Specs, frozenset[str] | None], Awaitable[None]],
        read: Callable[[LiveSpec, Collection[str]], Awaitable[Contexts]],
        unusable: Callable[[], Mapping[str, str]],
        on_change: Callable[[], object],
        read_file: Callable[[Path], Awaitable[Specs]],
    ) -> None:
        self._census = ConfigCensus(generation=1, loaded_at=time.time(), reloads=0, failures=0, error=None)
        self._on_change = on_change
        self._read_file = read_file
        self._file = file
        self._in_force = in_force
        self._adopt = adopt
        self._read_contexts = read
        self._unusable = unusable
        self._logged_unusable: Mapping[str, str] = {}
        self._requested = asyncio.Event()
        self._watch: Watch | None = None

    @property
    def census(self) -> ConfigCensus:
        return self._census

    @census.setter
    def census(self, census: ConfigCensus) -> None:
        self._census = census
        self._on_change()

    def request(self) -> None:
        """Have the file read again. Returns at once; the operator's log has the result."""
        self._requested.set()

    def start(self, stack: AsyncExitStack) -> None:
        """Serve requests and watch the files until `stack` closes."""
        self._log_unusable()
        loop = asyncio.get_running_loop()
        running = loop.create_task(self._run())

        async def stop() -> None:
            running.cancel()
            await asyncio.wait([running])

        stack.push_async_callback(stop)
        if (file := self._file) is not None:
            # A certificate that was renewed counts as a change.
            self._watch = stack.enter_context(
                Watch(lambda: [file, *self._in_force().program.files], lambda: loop.call_soon_threadsafe(self.request))
            )

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self._requested.wait()
            is_retry = not self._requested.is_set()
            self._requested.clear()
            if is_retry:
                await self._retry_shadows()
            if is_retry and self.census.error is None:
                continue
            if self._file is None:
                line = (
                    "cannot reload: there is no configuration file, and a restart alone changes options and variables"
                )
                _log.warning("%s", line, extra={"event": "reload_failed"})
            else:
                if not is_retry:
                    await self._settle()
                await self._reload(self._file, is_retry=is_retry)

    async def _settle(self) -> None:
        """What is read now is no change for the watch any more: it would have the same contents read again."""
        if self._watch is not None:
            with contextlib.suppress(TimeoutError, RuntimeError):  # the latter where the system has room for no thread
                async with asyncio.timeout(LOOKING):
                    self._watch.settle(await apart(self._watch.look))

    async def _reload(self, file: Path, *, is_retry: bool) -> None:
        """`is_retry`: our own retry after a failure, so don't log the same failure again."""
        census = self.census
        try:
            specs, kept = _startable(await self._read(file), self._in_force())
            specs = specs.numbered(census.generation + 1)
            await self._adopt(specs, None)
        except (Unreadable, GenerationError) as error:
            if not (is_retry and str(error) == census.error):
                self._log_failure(str(error))
            return
        except Exception:  # noqa: BLE001  # one defect must not end reloading for good
            if not is_retry:
                _log.exception("a defect in the proxy while reloading its configuration", extra={"event": "defect"})
                self._log_failure("a defect in the proxy; its log says more")
            return
        self.census = replace(
            census, generation=census.generation + 1, loaded_at=time.time(), reloads=census.reloads + 1, error=None
        )
        for name in kept:
            extra = {"event": "restart_needed", "key": name}
            _log.warning("%s was changed in the configuration file: only a restart applies it", name, extra=extra)
        log_warnings(specs)
        log_repeated_methods(specs.program)
        number = self.census.generation
        reloaded = {"event": "reloaded", "generation": number}
        _log.info("configuration %d is in force: %s", number, endpoints(specs.program), extra=reloaded)
        self._log_unusable()

    async def _retry_shadows(self) -> None:
        """Put shadows to use whose files can be used by now."""
        specs = self._in_force()
        # The environment of a process never changes: a variable that is not set needs a restart, or another file.
        missing = specs.live.missing
        wanting = {
            name: why for name, why in self._unusable().items() if name in specs.live.shadows and name not in missing
        }
        if not wanting:
            return
        try:
            now = await self._read_contexts(specs.live, wanting.keys())
            if any(now.unusable.get(name) != why for name, why in wanting.items()):
                await self._adopt(specs, frozenset(wanting))
        except GenerationError as error:
            _log.warning("%s", error, extra={"event": "shadow_unusable"})
        except Exception:  # noqa: BLE001  # one defect must not end reloading for good
            _log.exception("a defect in the proxy while retrying unusable shadows", extra={"event": "defect"})
        self._log_unusable()

    def _log_unusable(self) -> None:
        now, before = self._unusable(), self._logged_unusable
        for name, why in now.items():
            if before.get(name) != why:
                line = "shadow %s gets no requests, because its settings cannot be used yet: %s"
                _log.error(line, name, why, extra={"event": "shadow_unusable", "shadow": name, "error": why})
        for name in before.keys() - now.keys():
            if name in self._in_force().program.shadows:
                _log.info("shadow %s can be used now", name, extra={"event": "shadow_usable", "shadow": name})
        self._logged_unusable = now

    async def _read(self, file: Path) -> Specs:
        """Raises Unreadable, also when reading takes too long."""
        try:
            async with asyncio.timeout(READING):
                return await self._read_file(file)
        except TimeoutError:
            line = f"{file}: reading it, or a file it names, takes longer than {READING:g} s"
            raise Unreadable(line) from None
        except OSError as error:
            raise Unreadable(f"{file}: it cannot be read now: {error.strerror}") from error

    def _log_failure(self, error: str) -> None:
        self.census = replace(self.census, failures=self.census.failures + 1, error=error)
        extra = {"event": "reload_failed", "errors": error.splitlines()}
        _log.error("the new configuration was rejected, the old one stays in force", extra=extra)
        for line in error.splitlines():
            _log.error("%s", line, extra={"event": "config_error"})


def log_warnings(specs: Specs) -> None:
    """Log what is likely a mistake in the configuration, and what this machine has too little of for it."""
    for warning in specs.program.warnings:
        _log.warning("%s", warning, extra={"event": "config_warning"})
    for warning in room.warnings(specs, descriptors.limit(), container.memory()):
        _log.warning("%s", warning, extra={"event": "too_little_room"})


def log_repeated_methods(program: ProgramSpec) -> None:
    """Log which requests are sent a second time: operators must know before a shadow deletes what live deleted."""
    for name, methods, line in program.repeats:
        _log.info("%s", line, extra={"event": "repeated", "shadow": name, "methods": list(methods)})


def endpoints(program: ProgramSpec) -> str:
    live = "the application" if program.is_companion else program.live_url or "a fixed answer"
    return f"live {live}, shadows {', '.join(program.shadows) or 'none'}"


def _startable(specs: Specs, before: Specs) -> tuple[Specs, list[str]]:
    """`specs` with what only a start can change as it was before, and the keys of what differs."""
    start = before.program
    specs = room.with_workers(specs, container.memory(), start.workers)
    live, recorder, program = specs.live, specs.recorder, specs.program
    if live.capture * start.workers > live.memory:
        raise Unreadable(
            f"limits: capture must not be larger than memory / workers, and the {start.workers} workers stay until a "
            "restart"
        )
    token = recorder.admin_token
    if token is not None and (fault := token_fault(start.admin, token)) is not None:
        raise Unreadable(f"admin_token: {fault}; the admin server's address stays until a restart")
    shown = before.recorder.shown
    kept = Specs(
        live,
        replace(
            recorder,
            journal=replace(recorder.journal, path=start.log_path),
            admin_host=before.recorder.admin_host,
            shown={
                **recorder.shown,
                **{key: shown[key] for key in ("listen", "admin", "workers") if key in shown},
                "log": {**recorder.shown["log"], "path": shown["log"]["path"]},
            },
        ),
        replace(program, listen=start.listen, admin=start.admin, workers=start.workers, log_path=start.log_path),
    )
    changed = {
        "listen": program.listen != start.listen,
        "admin": program.admin != start.admin,
        "workers": program.workers != start.workers,
        "log.path": program.log_path != start.log_path,
    }
    return kept, [name for name, is_changed in changed.items() if is_changed]
