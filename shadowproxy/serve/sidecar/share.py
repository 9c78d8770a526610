"""What the supervisor tells a process first: the data that make it a live process, or the recorder."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.sidecar.specs import LiveSpec, RecorderSpec
from shadowproxy.serve.sidecar.steering import Steering
from shadowproxy.serve.sidecar.supervisor_state import SupervisorState
from shadowproxy.serve.telemetry.log_settings import OperatorLogSettings


@dataclass(frozen=True, slots=True)
class BudgetUsed:
    """The used part of a shadow's budget: requests begun, the seconds left, None where unbounded, tokens and cost."""

    begun: int
    left: float | None
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveStart:
    """The first message to a live process. `spec` is its share of the whole; `number` counts the `workers` from 0,
    `sockets` the listening sockets that it is given.

    `outputs` are the names of the files behind standard error and output, as they were when the program started.
    `knowing` are the numbers of the processes that may know IDs which this one does not, the oldest first.
    """

    number: int
    workers: int
    sockets: int
    spec: LiveSpec
    log_settings: OperatorLogSettings
    steering: Steering
    used: Mapping[str, BudgetUsed]
    outputs: Mapping[int, str] = field(default_factory=dict)
    knowing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RecorderStart:
    """The first message to the recorder. `ended` is what processes that have ended had counted.

    `lives` is how many live processes there are.
    `earlier` are the specs of generations before `spec` under which exchanges may still settle. `admin` says whether
    there is an admin server.
    """

    name: str
    lives: int
    spec: RecorderSpec
    earlier: tuple[RecorderSpec, ...]
    admin: bool
    log_settings: OperatorLogSettings
    supervisor: SupervisorState
    ended: Census | None
    outputs: Mapping[int, str] = field(default_factory=dict)
