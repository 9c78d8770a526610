"""What `shadowproxy serve` calls: one sidecar or several workers, until they are stopped."""

import asyncio
import logging
import signal
from pathlib import Path

import uvloop

from shadowproxy.config import Config
from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.reload import log_repeated_methods, warn
from shadowproxy.serve.sidecar.root import Sidecar
from shadowproxy.serve.system import signals
from shadowproxy.serve.system.interpreter import prepare_process
from shadowproxy.serve.telemetry import operator_log
from shadowproxy.serve.telemetry.operator_log import OperatorLogSettings

_log = logging.getLogger("shadowproxy")


def run(config: Config, file: Path | None = None, log_settings: OperatorLogSettings | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then stop cleanly and return the exit status; a second signal hurries.

    `file` is what `config` was read from: it is read again on SIGHUP and when it changes.
    The operator's log goes to standard error, as `log_settings` says. Raises StartError.
    """
    log_settings = log_settings or OperatorLogSettings()
    with operator_log.opened(log_settings) as told:
        prepare_process()
        access = told.access if log_settings.access else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if config.workers == 1:
                status = runner.run(_run(Sidecar(config, file, access)))
            else:
                from shadowproxy.serve.workers.supervisor import Supervisor

                status = runner.run(_run(Supervisor(config, file, log_settings)))
        signals.ignore()
        return status


async def _run(serving: Program) -> int:
    warn(serving.config)
    loop = asyncio.get_running_loop()
    # Before a caller is let in: whoever is, is answered. What is told to stop while it starts stops once it has.
    for number in signals.STOPPING:
        loop.add_signal_handler(number, serving.stop)
    loop.add_signal_handler(signal.SIGHUP, serving.reload)
    loop.add_signal_handler(signal.SIGUSR1, serving.reopen)
    signals.release()
    try:
        await _serve(serving)
    except StartError:
        if not serving.is_stopping:  # else somebody stopped a worker too, as a service manager does
            raise
    finally:
        signals.hold_back()
    return 0


async def _serve(serving: Program) -> None:
    async with serving:
        _log.info("%s", serving.describe(), extra={"event": "started", **serving.particulars()})
        log_repeated_methods(serving.config)
        await serving.wait_stopping()
        drain = serving.config.drain
        stopping = {"event": "stopping", "seconds": drain}
        _log.info("stopping: up to %g s for the requests and shadows under way", drain, extra=stopping)
    # The last word, when nobody can ask for metrics any more. Requests are those in the log and those lost.
    counted = serving.census()
    requests, books = sum(counted.outcomes.values()), counted.journal
    told = {"event": "stopped", "requests": requests, "written": books.written, "lost": sum(books.lost.values())}
    # What a worker that was killed had counted since it was last asked is missing.
    least = "at least " if counted.worker_restarts else ""
    line = f"stopped: {least}%(requests)d requests, %(written)d records in the log, %(lost)d lost"
    _log.info(line, told, extra=told)
