"""What only the supervisor knows, and the recorder's admin server shows."""

import time
from dataclasses import dataclass, field, replace

from shadowproxy.serve.admin.census import UNKNOWN_CONFIG, Census, ConfigCensus
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """`accepts`: callers are served. `config` is about the configuration in force. `began` is when the program did, by
    time.monotonic, which is the same clock in all processes."""

    accepts: bool = False
    steering: Steering = UNSTEERED
    config: ConfigCensus = UNKNOWN_CONFIG
    worker_restarts: int = 0
    recorder_restarts: int = 0
    began: float = field(default_factory=time.monotonic)


def supervised(census: Census, state: SupervisorState) -> Census:
    """The figures of the live processes, with what only the supervisor knows."""
    return replace(
        census,
        accepts=census.accepts and state.accepts,
        paused=state.steering.paused,
        config=state.config,
        worker_restarts=state.worker_restarts,
        recorder_restarts=state.recorder_restarts,
    )
