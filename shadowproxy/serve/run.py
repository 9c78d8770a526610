"""What `shadowproxy serve` calls: the supervisor and its processes, until they are stopped."""

import asyncio
import gc
import logging
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from shadowproxy.serve.callers.addresses import StartError
from shadowproxy.serve.sidecar.program import Program
from shadowproxy.serve.sidecar.reload import log_repeated_methods, log_warnings
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.system import signals
from shadowproxy.serve.system.interpreter import prepare_process
from shadowproxy.serve.telemetry import operator_log
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings
from shadowproxy.serve.workers.begun import Begun
from shadowproxy.serve.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from shadowproxy.config import Config

_log = logging.getLogger("shadowproxy")


def run(config: "Config", file: Path | None = None, log_settings: OperatorLogSettings | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then stop cleanly and return the exit status; a second signal ends the waiting.

    `config` was read from `file`, which is read again on SIGHUP and when it changes.
    The operator's log goes to standard error, as `log_settings` says. Raises StartError.
    """
    from shadowproxy.serve.sidecar.specify import specify  # it loads pydantic

    specs = specify(config)
    with ExitStack() as log, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(serve(specs, file, log_settings or OperatorLogSettings(), None, log))
    signals.ignore()
    return status


async def serve(
    specs: Specs, file: Path | None, log_settings: OperatorLogSettings, begun: Begun | None, log: ExitStack
) -> int:
    """The same on an event loop. `log` gets what closes the operator's log; `begun` is what runs already."""
    log.enter_context(operator_log.opened(log_settings))
    prepare_process()
    gc.freeze()  # imported objects stay for good: the garbage collector need not scan them
    gc.enable()
    return await _run(Supervisor(specs, file, log_settings, begun))


async def _run(serving: Program) -> int:
    log_warnings(serving.specs)
    loop = asyncio.get_running_loop()
    # Before the first caller connects, since every caller must be answered. A signal to stop that comes during the
    # start takes effect once the start is over.
    for number in signals.STOPPING:
        loop.add_signal_handler(number, serving.stop)
    loop.add_signal_handler(signal.SIGHUP, serving.reload)
    loop.add_signal_handler(signal.SIGUSR1, serving.reopen)
    signals.release()
    try:
        await _serve(serving)
    except StartError:
        if not serving.is_stopping:  # else a worker was stopped as well, as a service manager does
            raise
    finally:
        signals.hold_back()
    return 0


async def _serve(serving: Program) -> None:
    async with serving:
        _log.info("%s", serving.describe(), extra={"event": "started", **serving.particulars()})
        log_repeated_methods(serving.specs.program)
        await serving.wait_stopping()
        drain = serving.specs.program.drain
        stopping = {"event": "stopping", "seconds": drain}
        _log.info("stopping: requests and shadows under way have up to %g s to finish", drain, extra=stopping)
    # Logged last, when metrics can no longer be read. `requests` counts those in the log and those lost.
    counted = serving.census()
    requests, books = sum(counted.outcomes.values()), counted.journal
    totals = {"event": "stopped", "requests": requests, "written": books.written, "lost": sum(books.lost.values())}
    left_out = ""
    if books.sampled_out:
        totals["sampled_out"] = books.sampled_out
        left_out = ", %(sampled_out)d left out by log.sample"
    # The last counts of a killed worker, those since its last census, are missing.
    least = "at least " if counted.worker_restarts else ""
    line = f"stopped: {least}%(requests)d requests, %(written)d records in the log{left_out}, %(lost)d lost"
    _log.info(line, totals, extra=totals)
