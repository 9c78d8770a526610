"""What only the supervisor knows, and the recorder's admin server shows."""

from dataclasses import dataclass

from shadowproxy.serve.admin.census import NOT_TOLD, ConfigCensus
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering


@dataclass(frozen=True, slots=True)
class Told:
    """`accepts`: callers are served. `config` tells of the configuration in force."""

    accepts: bool = False
    steering: Steering = UNSTEERED
    config: ConfigCensus = NOT_TOLD
    worker_restarts: int = 0
    recorder_restarts: int = 0
