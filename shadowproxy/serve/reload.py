"""Another configuration, read from its file while it runs: on request, and when the file has changed."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from shadowproxy.config import Config, ConfigError, load, token_fault
from shadowproxy.serve.apart import apart
from shadowproxy.serve.census import ConfigCensus
from shadowproxy.serve.generation import GenerationError, tls_files
from shadowproxy.serve.watch import Watch

RETRY = 5.0
"""Seconds until what could not be used is tried again: a certificate may come later than the file that names it."""

READING = 10.0
"""Seconds that reading the file, and those it names, may take: a pipe or a lost mount may never give them."""

_log = logging.getLogger("shadowproxy")


class Reloads:
    """Reads `file` again when it is asked to or sees a change, and has `adopt` put what it says in force.

    `in_force` is the configuration that is. `adopt` raises ConfigError or GenerationError where the new one cannot be
    used, and has changed nothing then. `told` says what came of it all.
    """

    def __init__(
        self, file: Path | None, *, in_force: Callable[[], Config], adopt: Callable[[Config], Awaitable[None]]
    ) -> None:
        self.told = ConfigCensus(generation=1, loaded_at=time.time(), reloads=0, failures=0, error=None)
        self._file = file
        self._in_force = in_force
        self._adopt = adopt
        self._asked = asyncio.Event()
        self._reader_ended = threading.Event()
        self._reader_ended.set()

    def ask(self) -> None:
        """Have the file read again. Returns at once; the operator's log says what came of it."""
        self._asked.set()

    def start(self, stack: AsyncExitStack) -> None:
        """Begin to hear and to look, until `stack` closes."""
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(self._hear())

        async def stop() -> None:
            hearing.cancel()
            await asyncio.wait([hearing])

        stack.push_async_callback(stop)
        if (file := self._file) is not None:
            stack.enter_context(
                # A certificate that was renewed counts as a change.
                Watch(lambda: [file, *tls_files(self._in_force())], lambda: loop.call_soon_threadsafe(self.ask))
            )

    async def _hear(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self.told.error is not None else None):
                    await self._asked.wait()
            again = not self._asked.is_set()
            self._asked.clear()
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
            await self._adopt(config)
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
        number = self.told.generation
        reloaded = {"event": "reloaded", "generation": number}
        _log.info("configuration %d is in force: %s", number, endpoints(config), extra=reloaded)

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
