"""What only the supervisor knows, and the recorder's admin server shows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shadowproxy.serve.admin.census import UNKNOWN_CONFIG, Census, ConfigCensus, RampCensus
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering


@dataclass(frozen=True, slots=True)
class SupervisorState:
    """`accepts`: callers are served. `config` is about the configuration in force. `began` is when the program did, by
    time.monotonic, which is the same clock in all processes. `ramps` has where each ramp stands, by shadow."""

    accepts: bool = False
    steering: Steering = UNSTEERED
    config: ConfigCensus = UNKNOWN_CONFIG
    worker_restarts: int = 0
    recorder_restarts: int = 0
    began: float = field(default_factory=time.monotonic)
    ramps: Mapping[str, RampCensus] = field(default_factory=dict)


def supervised(census: Census, state: SupervisorState) -> Census:
    """The figures of the live processes, with what only the supervisor knows."""
    shadows = census.shadows
    return replace(
        census,
        accepts=census.accepts and state.accepts,
        paused=state.steering.paused,
        shadows=tuple(
            replace(each, ramp=state.ramps[each.name]) if each.name in state.ramps else each for each in shadows
        ),
        config=state.config,
        worker_restarts=state.worker_restarts,
        recorder_restarts=state.recorder_restarts,
    )
