"""Another configuration, read from its file while it runs: on request, and when the file has changed.

Here too shadows are made usable whose own files could not be used: those are looked at again every RETRY seconds.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from shadowproxy.apart import apart
from shadowproxy.config import Config, ConfigError, Shadow, load, token_fault
from shadowproxy.config.repeating import repeats
from shadowproxy.serve.admin.census import ConfigCensus
from shadowproxy.serve.sidecar.contexts import Contexts, files
from shadowproxy.serve.sidecar.generation import GenerationError
from shadowproxy.serve.sidecar.watch import Watch

RETRY = 5.0
"""Seconds until what could not be used is tried again: live's certificate may come later than the file that names it,
and so may a shadow's."""

READING = 10.0
"""Seconds that reading the file, and those it names, may take: a pipe or a lost mount may never give them."""

_log = logging.getLogger("shadowproxy")


class Reloads:
    """Reads `file` again when it is asked to or sees a change, and has `adopt` put what it says in force.

    `in_force` is the configuration that is. `adopt` raises ConfigError or GenerationError where the new one cannot be
    used, and has changed nothing then. `told` says what came of it all.

    `unusable` says which shadows cannot be asked now, and why; `read` looks whether their files can be used by now, and
    raises ContextError for live's.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        in_force: Callable[[], Config],
        adopt: Callable[[Config, frozenset[str] | None], Awaitable[None]],
        read: Callable[[Config, Collection[str]], Awaitable[Contexts]],
        unusable: Callable[[], Mapping[str, str]],
    ) -> None:
        self.told = ConfigCensus(generation=1, loaded_at=time.time(), reloads=0, failures=0, error=None)
        self._file = file
        self._in_force = in_force
        self._adopt = adopt
        self._read_contexts = read
        self._unusable = unusable
        self._told_unusable: Mapping[str, str] = {}
        self._asked = asyncio.Event()
        self._reader_ended = threading.Event()
        self._reader_ended.set()

    def ask(self) -> None:
        """Have the file read again. Returns at once; the operator's log says what came of it."""
        self._asked.set()

    def start(self, stack: AsyncExitStack) -> None:
        """Begin to hear and to look, until `stack` closes."""
        self._tell_unusable()
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(self._hear())

        async def stop() -> None:
            hearing.cancel()
            await asyncio.wait([hearing])

        stack.push_async_callback(stop)
        if (file := self._file) is not None:
            stack.enter_context(
                # A certificate that was renewed counts as a change.
                Watch(lambda: [file, *files(self._in_force())], lambda: loop.call_soon_threadsafe(self.ask))
            )

    async def _hear(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self._asked.wait()
            again = not self._asked.is_set()
            self._asked.clear()
            if again:
                await self._try_shadows()
            if again and self.told.error is None:
                continue
            if self._file is None:
                words = "there is no configuration file to read again: it was started with flags"
                _log.warning("%s", words, extra={"event": "reload_failed"})
            else:
                await self._reload(self._file, again=again)

    async def _reload(self, file: Path, *, again: bool) -> None:
        """`again`: nobody asked, so that it fails as before is told to nobody."""
        told = self.told
        try:
            # Reading and validating take milliseconds, which live's callers must not feel.
            config, kept = _startable(await self._read(file, again=again), self._in_force())
            await self._adopt(config, None)
        except (ConfigError, GenerationError) as error:
            if not (again and str(error) == told.error):
                self._tell_failed(str(error))
            return
        except Exception:  # noqa: BLE001  # one defect must not end reloading for good
            if not again:
                _log.exception("a defect in the proxy, reading its configuration again", extra={"event": "defect"})
                self._tell_failed("a defect in the proxy; its log says more")
            return
        self.told = replace(
            told, generation=told.generation + 1, loaded_at=time.time(), reloads=told.reloads + 1, error=None
        )
        for name in kept:
            extra = {"event": "restart_needed", "key": name}
            _log.warning("%s was changed in the configuration file: that takes a restart", name, extra=extra)
        warn(config)
        log_repeated_methods(config)
        number = self.told.generation
        reloaded = {"event": "reloaded", "generation": number}
        _log.info("configuration %d is in force: %s", number, endpoints(config), extra=reloaded)
        self._tell_unusable()

    async def _try_shadows(self) -> None:
        """Use what has come, by now, of the files of shadows that could not be asked."""
        config = self._in_force()
        # The environment of a process never changes: what it does not give takes a restart, or another file.
        wanting = {name: why for name, why in self._unusable().items() if type(config.shadows.get(name)) is Shadow}
        if not wanting:
            return
        try:
            now = await self._read_contexts(config, wanting.keys())
            if any(now.unusable.get(name) != why for name, why in wanting.items()):
                await self._adopt(config, frozenset(wanting))
        except GenerationError as error:
            _log.warning("%s", error, extra={"event": "shadow_unusable"})
        except Exception:  # noqa: BLE001  # one defect must not end reloading for good
            _log.exception("a defect in the proxy, trying its shadows again", extra={"event": "defect"})
        self._tell_unusable()

    def _tell_unusable(self) -> None:
        now, before = self._unusable(), self._told_unusable
        for name, why in now.items():
            if before.get(name) != why:
                words = "shadow %s is asked nothing, its own settings cannot be used yet: %s"
                _log.error(words, name, why, extra={"event": "shadow_unusable", "shadow": name, "error": why})
        for name in before.keys() - now.keys():
            if name in self._in_force().shadows:
                _log.info("shadow %s can be used", name, extra={"event": "shadow_usable", "shadow": name})
        self._told_unusable = now

    async def _read(self, file: Path, *, again: bool) -> Config:
        """Raises ConfigError, also where that takes too long. While it hangs, only who asks has it read anew."""
        too_long = f"{file}: reading it, or a file it names, takes longer than {READING:g} s"
        if again and not self._reader_ended.is_set():
            raise ConfigError(too_long)
        ended = self._reader_ended = threading.Event()

        def read() -> Config:
            try:
                return load(file)
            finally:
                ended.set()

        try:
            async with asyncio.timeout(READING):
                return await apart(read)
        except TimeoutError:
            raise ConfigError(too_long) from None

    def _tell_failed(self, error: str) -> None:
        self.told = replace(self.told, failures=self.told.failures + 1, error=error)
        extra = {"event": "reload_failed", "errors": error.splitlines()}
        _log.error("the configuration stays as it was, the new one cannot be used", extra=extra)
        for line in error.splitlines():
            _log.error("%s", line, extra={"event": "config_error"})


def warn(config: Config) -> None:
    for warning in config.warnings:
        _log.warning("%s", warning, extra={"event": "config_warning"})


def log_repeated_methods(config: Config) -> None:
    """Say what callers' requests do a second time: an operator is to know before a shadow deletes what live deleted."""
    for name, methods, words in repeats(config):
        _log.info("%s", words, extra={"event": "repeated", "shadow": name, "methods": list(methods)})


def endpoints(config: Config) -> str:
    return f"live {config.live.url or 'a fixed answer'}, shadows {', '.join(config.shadows) or 'none'}"


def _startable(config: Config, before: Config) -> tuple[Config, list[str]]:
    """`config` with what only a start can change as it was before, and the names of what that holds back."""
    if config.limits.capture * before.workers > config.limits.memory:
        raise ConfigError(
            f"limits: capture must not be larger than the share of memory that each of {before.workers} workers has, "
            "and their number cannot be changed without a restart"
        )
    if config.admin_token is not None and (fault := token_fault(before.admin, config.admin_token)) is not None:
        raise ConfigError(f"admin_token: {fault}; where it listens cannot be changed without a restart")
    log = replace(config.log, path=before.log.path)
    kept = replace(config, listen=before.listen, admin=before.admin, workers=before.workers, log=log)
    changed = {
        "listen": config.listen != kept.listen,
        "admin": config.admin != kept.admin,
        "workers": config.workers != kept.workers,
        "log.path": config.log != kept.log,
    }
    return kept, [name for name, is_changed in changed.items() if is_changed]
